"""What people decide of traces: the filter takes it as the verdict, above rules and judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kept_run import make_run, row

from tracestill.records import Dispute, Drop, Kept, Mended, Trace, Verdict, read_table
from tracestill.records.decisions import DECISIONS, Decided, Decision, add_decision, read_decisions
from tracestill.records.progress import ignore_progress
from tracestill.run.fingerprint import reusable
from tracestill.run.pipeline import LINE, make_stage
from tracestill.run.sharing import adopt

AGREE = {"steps": ["form", "verify"], "agreement": {"samples": 3, "share": 0.5}}


def decide(run: Path, trace: str, verdict: Decided, note: str = "") -> None:
    add_decision(
        run, Decision(trace_id=trace, verdict=verdict, at="2026-01-01T00:00:00+00:00", note=note)
    )


def answering(number: int, answer: object, said: str = "So.") -> dict[str, Any]:
    return row(number, response=f"<think>\n{said}\n</think>\n\n\\boxed{{{answer}}}")


def traces(run: Path) -> list[Trace]:
    return list(read_table(run / "generate", "traces", Trace))


def verdicts(run: Path) -> dict[str, Verdict]:
    return {one.trace_id: one for one in read_table(run / "filter", "verdicts", Verdict)}


def kept(run: Path) -> set[str]:
    return {one.trace_id for one in read_table(run / "filter", "kept", Kept)}


def test_a_decision_is_the_verdict_and_makes_the_filter_again(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, [answering(n, 99 if n == 2 else n + 1) for n in range(5)])
    wrong = traces(run)[2].id
    right = traces(run)[0].id
    assert verdicts(run)[wrong].outcome == "incorrect"
    assert reusable(LINE["filter"], "filter", recipe, run)
    decide(run, wrong, "correct", "99 is meant")
    decide(run, right, "incorrect")
    decide(run, "0" * 20, "incorrect")  # no trace of this run
    assert not reusable(LINE["filter"], "filter", recipe, run)
    assert reusable(LINE["generate"], "generate", recipe, run)
    before = (run / DECISIONS).read_bytes()
    make_stage("filter", recipe, run, ignore_progress)
    assert reusable(LINE["filter"], "filter", recipe, run)
    assert (run / DECISIONS).read_bytes() == before
    said = verdicts(run)
    assert (said[wrong].verifier, said[wrong].outcome) == ("person/1", "correct")
    assert said[wrong].detail == "99 is meant"
    assert len(said) == 5
    assert wrong in kept(run)
    assert right not in kept(run)
    drops = {one.trace_id: one.reason for one in read_table(run / "filter", "drops", Drop)}
    assert drops == {right: "incorrect"}
    decide(run, wrong, "correct", "another note")  # nothing new
    assert reusable(LINE["filter"], "filter", recipe, run)
    for trace in (wrong, right, "0" * 20):
        decide(run, trace, "undecided")
    make_stage("filter", recipe, run, ignore_progress)
    assert verdicts(run)[wrong].outcome == "incorrect"
    assert right in kept(run)


def test_what_is_decided_while_the_filter_is_made_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = make_run(tmp_path, [answering(n, n + 1) for n in range(3)])
    first = traces(run)[0].id
    decided = False

    def meanwhile(progress: object) -> None:
        nonlocal decided
        if not decided:
            decided = True
            decide(run, first, "incorrect")

    make_stage("filter", recipe, run, meanwhile)
    assert decided
    assert first in kept(run)
    assert not reusable(LINE["filter"], "filter", recipe, run)


def test_a_reference_that_a_person_looked_at_is_not_disputed_again(tmp_path: Path) -> None:
    rows = [answering(1, said, f"{n}.") for n, said in enumerate((7, 7, 7, 2))]
    agreement = {"samples": 3, "share": 0.5, "mend": False}
    recipe, run = make_run(tmp_path, rows, filter={**AGREE, "agreement": agreement})
    (dispute,) = read_table(run / "filter", "disputes", Dispute)
    decide(run, dispute.trace_id, "incorrect")
    make_stage("filter", recipe, run, ignore_progress)
    assert not list(read_table(run / "filter", "disputes", Dispute))


def test_what_a_person_calls_wrong_replaces_no_reference(tmp_path: Path) -> None:
    rows = [answering(1, 7, f"{number}.") for number in range(4)]
    agreement = {"samples": 3, "share": 0.5, "mend": True}
    recipe, run = make_run(tmp_path, rows, filter={**AGREE, "agreement": agreement})
    assert len(list(read_table(run / "filter", "mended", Mended))) == 1
    first, other = (one.id for one in traces(run)[:2])
    decide(run, first, "incorrect")
    make_stage("filter", recipe, run, ignore_progress)
    assert not list(read_table(run / "filter", "mended", Mended))
    assert verdicts(run)[other].outcome == "incorrect"
    assert verdicts(run)[first].verifier == "person/1"


def test_what_a_step_left_to_people_passes_once_they_decided(tmp_path: Path) -> None:
    refused = "<think>\nHm.\n</think>\n\nI'm sorry, but I can't help with that. \\boxed{2}"
    steps = [{"refusal": {"action": "queue"}}, "form", "verify"]
    rows = [row(1, response=refused), row(2)]
    recipe, run = make_run(tmp_path, rows, filter={"steps": steps})
    (dispute,) = read_table(run / "filter", "disputes", Dispute)
    assert dispute.trace_id not in kept(run)
    decide(run, dispute.trace_id, "correct")
    make_stage("filter", recipe, run, ignore_progress)
    assert dispute.trace_id in kept(run)
    assert not list(read_table(run / "filter", "disputes", Dispute))


def test_a_torn_line_is_no_decision_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "filter").mkdir()
    decide(tmp_path, "a", "correct")
    with (tmp_path / DECISIONS).open("ab") as file:
        file.write(b'{"trace_id": "b", "verd')
    assert list(read_decisions(tmp_path)) == ["a"]
    decide(tmp_path, "c", "incorrect")
    assert {t: d.verdict for t, d in read_decisions(tmp_path).items()} == {
        "a": "correct",
        "c": "incorrect",
    }
    with (tmp_path / DECISIONS).open("a") as file:
        file.write(json.dumps({"trace_id": "d", "verdict": "right", "at": "now"}) + "\n")
    with pytest.raises(ValueError, match="line 3 is no decision"):
        read_decisions(tmp_path)


def test_another_runs_filter_does_not_replace_what_people_decided(tmp_path: Path) -> None:
    rows = [answering(n, n + 1) for n in range(3)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    recipe, one = make_run(tmp_path / "one", rows)
    _, two = make_run(tmp_path / "two", rows)
    first = traces(one)[0].id
    decide(one, first, "incorrect", "mine")
    assert adopt("filter", recipe, one, [two]) is None
    decide(two, first, "incorrect", "theirs")
    make_stage("filter", recipe, two, ignore_progress)
    before = (one / DECISIONS).read_bytes()
    assert adopt("filter", recipe, one, [two]) is None
    assert (one / DECISIONS).read_bytes() == before
