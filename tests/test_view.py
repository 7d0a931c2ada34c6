"""`tracestill view`: pages of traces, one trace, a run that goes on, and what people decide."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from kept_run import make_run, row
from viewing import Viewer, viewing

from generate.ledger import INDEXED
from tracestill.records import Drop, Journal, Kept, Trace, Verdict, read_table
from tracestill.records.decisions import DECISIONS, read_decisions
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage

LOOP = "First, let us see. " + "So it is seven, or is it eight? Let me check that again now. " * 12
STEPS = ["form", "verify", {"quality": {"supported": False}}]


def said(number: int, reasoning: str, answer: object, **changed: Any) -> dict[str, Any]:
    text = f"<think>\n{reasoning}\n</think>\n\nIt is \\boxed{{{answer}}}."
    return row(number, response=text, **changed)


def rows() -> list[dict[str, Any]]:
    """Right and wrong traces of 30 problems, and one that is in a loop."""
    found = []
    for number in range(30):
        for sample, answer in enumerate((number + 1, number + 1, 0)):
            text = f"Take {number}, look {sample} times. Zebra{number} walks 我们先看看 there."
            found.append(said(number, text, answer, tokens=100 + 10 * number + sample))
    found.append(said(99, LOOP, 100, tokens=5_000))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    agreement = {"samples": 3, "share": 0.5}
    filtering = {"steps": STEPS, "agreement": agreement}
    folder = tmp_path_factory.mktemp("viewed")
    return make_run(folder, rows(), filter=filtering)[1]


@pytest.fixture(scope="module")
def viewer(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewing(tmp_path_factory.mktemp("view"), made) as found:
        yield found.ready()


def traces(viewer: Viewer, **values: object) -> dict[str, Any]:
    found: dict[str, Any] = viewer.get("/api/runs/0/traces", **values)
    return found


def test_filters_give_what_the_tables_say(made: Path, viewer: Viewer) -> None:
    drops = {one.trace_id: one for one in read_table(made / "filter", "drops", Drop)}
    verdicts = {v.trace_id: v for v in read_table(made / "filter", "verdicts", Verdict)}
    every = list(read_table(made / "generate", "traces", Trace))

    def ids(**values: object) -> set[str]:
        found = traces(viewer, limit=200, **values)
        assert found["total"] == len(found["rows"])
        return {one["id"] for one in found["rows"]}

    assert ids() == {one.id for one in every}
    assert ids(reason="kept") == {one.id for one in every if one.id not in drops}
    for reason in {drop.reason for drop in drops.values()}:
        assert ids(reason=reason) == {t for t, drop in drops.items() if drop.reason == reason}
    assert ids(step="verify") == {t for t, drop in drops.items() if drop.step == "verify"}
    assert ids(outcome="correct") == {t for t, v in verdicts.items() if v.outcome == "correct"}
    assert ids(finish="stop") == {one.id for one in every}
    assert ids(least=150, most=160) == {
        one.id for one in every if 150 <= one.completion_tokens <= 160
    }
    assert ids(task="traces/odd", reason="kept") < ids(reason="kept")
    facets = viewer.get("/api/runs/0/facets")
    assert dict(facets["reason"])["kept"] == len(ids(reason="kept"))
    assert {task for task, _ in facets["task"]} == {"traces/even", "traces/odd"}


def test_pages_are_sorted_and_follow_each_other(viewer: Viewer) -> None:
    longest = traces(viewer, sort="longest", limit=7)["rows"]
    assert longest[0]["tokens"] == 5_000
    assert [one["tokens"] for one in longest] == sorted(
        (one["tokens"] for one in longest), reverse=True
    )
    pages = [traces(viewer, sort="problem", limit=20, offset=n)["rows"] for n in range(0, 100, 20)]
    every = [one["id"] for page in pages for one in page]
    assert len(every) == len(set(every)) == 91
    problems = [one["problem"] for page in pages for one in page]
    assert len({*problems}) == sum(a != b for a, b in zip(problems, ["", *problems], strict=False))
    hardest = [one["pass_rate"] for one in traces(viewer, sort="hardest", limit=200)["rows"]]
    assert hardest == sorted(hardest)
    assert hardest[0] == pytest.approx(2 / 3)


def test_a_search_finds_words_in_a_row_and_beginnings_and_prompts(viewer: Viewer) -> None:
    def found(asked: str, **values: object) -> int:
        return int(traces(viewer, q=asked, **values)["total"])

    assert found("zebra7") == 3
    assert found("ZEBRA7 walks") == 3
    assert found('"zebra7 walks"') == 3
    assert found('"walks zebra7"') == 0
    assert found("walks zebra7", reason="kept") == 2
    assert found("zebra1*") == 33
    assert found("nowhere") == 0
    assert found('"7 + 1"') == 3  # the prompt's
    assert found("先看") == 90
    assert found("看先") == 0
    assert found("\\boxed{8}", sort="longest") == 3 - 1
    assert found("++") == 0


def test_the_first_page_is_the_same_before_there_is_an_index(made: Path, viewer: Viewer) -> None:
    from tracestill.view.first import first_page
    from tracestill.view.tables import read_tables

    tables = read_tables(made)
    assert tables is not None
    for offset in (0, 50):
        early = first_page(tables, offset, 50)
        late = traces(viewer, offset=offset, limit=50)
        assert early["total"] == late["total"]
        for before, after in zip(early["rows"], late["rows"], strict=True):
            later = {"task", "pass_rate"}
            assert {k: v for k, v in before.items() if k not in later} == {
                k: v for k, v in after.items() if k not in later
            }


def test_a_trace_is_shown_with_why_it_was_dropped(made: Path, viewer: Viewer) -> None:
    (row,) = traces(viewer, q="zebra4", reason="incorrect")["rows"]
    shown = viewer.get(f"/api/runs/0/traces/{row['id']}")
    assert shown["problem"]["prompt"] == "What is 4 + 1?"
    assert shown["problem"]["reference"] == "5"
    assert shown["drop"]["step"] == "verify"
    assert shown["passed"] == ["form"]
    assert shown["verdict"]["outcome"] == "incorrect"
    assert shown["verdict"]["extracted"] == "0"
    assert ["answer", "0"] in shown["answer"]
    assert "Zebra4 walks" in "".join(shown["reasoning"])
    assert [one["reason"] for one in shown["others"][0]] == ["kept", "kept", "incorrect"]
    (loop,) = traces(viewer, least=5_000)["rows"]
    shown = viewer.get(f"/api/runs/0/traces/{loop['id']}")
    assert [piece[0] for piece in shown["reasoning"] if isinstance(piece, list)] == ["loop"]
    assert shown["loops"]["reasoning"]["times"] == 12


def test_a_long_text_is_cut_unless_all_of_it_is_wanted(tmp_path: Path) -> None:
    long = " ".join(f"word{n}" for n in range(20_000))
    _, run = make_run(tmp_path, [said(1, long, 2)])
    with viewing(tmp_path, run) as viewer:
        (one,) = traces(viewer.ready())["rows"]
        path = f"/api/runs/0/traces/{one['id']}"
        cut = viewer.get(path)["reasoning"]
        assert [piece[0] for piece in cut if isinstance(piece, list)] == ["cut"]
        whole = viewer.get(path, whole="true")["reasoning"]
        assert long in "".join(whole)
        assert traces(viewer, q="word9999")["total"] == 1


def test_runs_are_seen_side_by_side(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    _, one = make_run(tmp_path / "one", [said(n, "Add.", n + 1) for n in range(4)])
    _, two = make_run(tmp_path / "two", [said(n, "Guess.", 0) for n in range(2, 6)])
    with viewing(tmp_path, one, two) as viewer:
        viewer.ready(0).ready(1)
        names = [run["name"] for run in viewer.get("/api/runs")]
        assert [name[:2] for name in names] == ["1.", "2."]
        row = traces(viewer, offset=3, limit=1)["rows"][0]
        first, second = viewer.get(f"/api/runs/0/traces/{row['id']}")["others"]
        assert [one["reason"] for one in first] == ["kept"]
        assert [one["reason"] for one in second] == ["incorrect"]
        beside = viewer.get(f"/api/runs/1/traces/{second[0]['id']}")
        assert beside["problem"]["id"] == row["problem"]
        row = traces(viewer, limit=1)["rows"][0]
        assert viewer.get(f"/api/runs/0/traces/{row['id']}")["others"][1] == []


def test_a_run_is_followed_from_no_traces_to_filtered_ones(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, [said(n, "Add.", n + 1) for n in range(3)])
    manifests = {stage: (run / stage / "manifest.json") for stage in ("generate", "filter")}
    for path in manifests.values():
        path.unlink()
    with viewing(tmp_path, run) as viewer:
        assert traces(viewer)["state"] == "no traces"
        assert viewer.get("/api/runs/0/queue")["rows"] == []
        make_stage("generate", recipe, run, ignore_progress)
        viewer.ready()
        assert {one["reason"] for one in traces(viewer)["rows"]} == {"not filtered"}
        own = traces(viewer)["rows"][0]["id"]
        assert viewer.get(f"/api/runs/0/traces/{own}")["verdict"] is None
        make_stage("filter", recipe, run, ignore_progress)
        viewer.ready()
        assert {one["reason"] for one in traces(viewer)["rows"]} == {"kept"}
        assert traces(viewer, sort="hardest")["rows"][0]["pass_rate"] == 1


def test_a_stopped_index_goes_on_and_says_how_far_it_is(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracestill.view import search
    from tracestill.view.tables import read_tables

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(search, "_BATCH", 10)
    tables = read_tables(made)
    assert tables is not None
    words = search.Words(tables)
    assert (words.searched(), words.find("walks").searched) == (0, 0)
    asked = 0

    def is_stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8  # once for the lock, four times for the prompts, three for the traces

    words.build(is_stopped)
    there = words.searched()
    assert 0 < there < tables.traces
    found = words.find("walks")
    assert found.searched == there
    assert len(found.traces) == there
    words.build(lambda: False)
    found = words.find("walks")
    assert found.searched == tables.traces
    assert sorted(found.traces.tolist()) == list(range(90))


def test_a_view_that_ends_stops_what_is_being_built(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ended while a query ran in a thread was aborted, with a line in C++."""
    from tracestill.view import opened

    begins, ends = threading.Event(), threading.Event()

    def build(tables: object, is_stopped: object, begun: Any) -> None:
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect() as base:
            begun(base)
            begins.set()
            try:
                base.execute("SELECT sum(hash(range)) FROM range(1_000_000_000_000)").fetchall()
            finally:
                ends.set()

    monkeypatch.setattr(opened, "build_columns", build)
    run = opened.OpenRun(made)
    run.indexed()
    assert begins.wait(30)
    run.close()
    assert ends.is_set()


def test_old_indexes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracestill.view.tables import forget_old, index_path

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old, new = index_path("a", "words"), index_path("b", "words")
    for path in (old, new):
        path.touch()
    assert old.parent.stat().st_mode & 0o077 == 0
    os.utime(old, (0, 0))
    forget_old()
    assert not old.exists()
    assert new.exists()


WORKER = """
import sys, time
from pathlib import Path
from generate.ledger import INDEXED
from tracestill.records import Journal
from tracestill.run.lock import locked
run, first = Path(sys.argv[1]), int(sys.argv[2])
with locked(run), Journal(run / "generate" / "journal.jsonl", INDEXED) as journal:
    for number in range(first, first + 3):
        journal.append({"id": str(number), "finish": "stop", "spent": 100, "paid": 0.25,
                        "completion_tokens": 90, "sample": number, "raw": f"<b>{number}</b>"})
    print("ready", flush=True)
    time.sleep(120)
"""


def stage(viewer: Viewer, name: str) -> dict[str, Any]:
    found = viewer.get("/api/runs/0/live")["stages"]
    return next(one for one in found if one["stage"] == name)


@pytest.mark.timeout(120)
def test_a_killed_run_is_seen_to_stop_and_followed_when_it_goes_on(tmp_path: Path) -> None:
    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    for name in ("generate", "filter"):
        (run / name / "manifest.json").unlink()

    def work(first: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(WORKER), str(run), str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    with viewing(tmp_path, run) as viewer:
        assert not viewer.get("/api/runs/0/live")["running"]
        worker = work(0)
        found = stage(viewer, "generate")
        assert viewer.get("/api/runs/0/live")["running"]
        assert (found["state"], found["responses"]) == ("running", 3)
        assert (found["tokens"], found["cost"]) == (300, 0.75)
        assert found["idle"] < 60
        latest = viewer.get("/api/runs/0/live")["latest"]
        assert [one["raw"] for one in latest] == ["<b>2</b>", "<b>1</b>", "<b>0</b>"]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        now = viewer.get("/api/runs/0/live")
        assert not now["running"]
        assert stage(viewer, "generate")["state"] == "unfinished"
        worker = work(3)
        found = stage(viewer, "generate")
        assert (found["state"], found["responses"]) == ("running", 6)
        worker.kill()
        worker.wait()
        (run / "finetune").mkdir()
        metrics = run / "finetune" / "metrics.jsonl"
        with metrics.open("w") as file:
            file.write('{"step": 1, "epoch": 0.5, "loss": 2.0}\n{"step": 2, "lo')
        assert viewer.get("/api/runs/0/live")["curves"]["loss"] == [[1, 2.0]]
        with metrics.open("a") as file:
            file.write('ss": 1.5, "epoch": 1.0}\n')
        assert viewer.get("/api/runs/0/live")["curves"]["loss"] == [[1, 2.0], [2, 1.5]]
        assert stage(viewer, "finetune")["done"] == 1.0
        metrics.write_text('{"step": 1, "loss": 3.0}\n')
        assert viewer.get("/api/runs/0/live")["curves"]["loss"] == [[1, 3.0]]


def test_a_long_curve_is_thinned_to_its_last_point(tmp_path: Path) -> None:
    from tracestill.view.live import Live

    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    (run / "finetune").mkdir()
    steps = [json.dumps({"step": n, "loss": 1 / (n + 1)}) for n in range(10_001)]
    (run / "finetune" / "metrics.jsonl").write_text("\n".join(steps) + "\n")
    points = Live(run).look()["curves"]["loss"]
    assert len(points) <= 401
    assert points[-1][0] == 10_000


def test_a_torn_or_large_journal_shows_its_last_whole_responses(tmp_path: Path) -> None:
    from tracestill.view.live import Live

    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    (run / "generate" / "manifest.json").unlink()
    path = run / "generate" / "journal.jsonl"
    with Journal(path, INDEXED) as journal:
        for number in range(8):
            journal.append({"id": str(number), "finish": "stop", "raw": "x" * 1_000_000})
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    latest = Live(run).look()["latest"]
    assert [one["id"] for one in latest] == ["7", "6", "5", "4"]
    assert "998,800 characters" in latest[0]["raw"]


@pytest.mark.timeout(120)
def test_what_a_person_decides_on_the_page_is_the_filters_verdict(tmp_path: Path) -> None:
    agreement = {"samples": 3, "share": 0.5, "mend": False}
    # Three of four say 7 of a problem whose reference is 2: the reference may be wrong.
    given = [said(1, f"{n}.", answer) for n, answer in enumerate((7, 7, 7, 2))]
    given += [said(2, "Add.", 3)]
    recipe, run = make_run(tmp_path, given, filter={"steps": STEPS[:2], "agreement": agreement})
    with viewing(tmp_path, run) as viewer:
        queue = viewer.ready().get("/api/runs/0/queue")
        assert (queue["total"], queue["decided"]) == (1, 0)
        (asked,) = queue["rows"]
        assert asked["kind"] == "dispute"
        assert "agreement/1" in asked["opinions"]
        own = {"trace_id": asked["id"], "verdict": "correct", "note": "the reference is wrong"}
        assert viewer.post("/api/runs/0/decisions", own).status == 200
        shown = viewer.get(f"/api/runs/0/traces/{asked['id']}")
        assert (shown["decision"]["verdict"], shown["decision"]["taken"]) == ("correct", False)
        assert viewer.get("/api/runs/0/queue")["rows"][0]["decision"] == "correct"
        decision = read_decisions(run)[asked["id"]]
        assert (decision.verdict, decision.note) == ("correct", "the reference is wrong")
        before = (run / DECISIONS).read_bytes()
        make_stage("filter", recipe, run, ignore_progress)
        assert (run / DECISIONS).read_bytes() == before
        assert asked["id"] in {one.trace_id for one in read_table(run / "filter", "kept", Kept)}
        shown = viewer.ready().get(f"/api/runs/0/traces/{asked['id']}")
        assert shown["verdict"]["verifier"] == "person/1"
        assert shown["decision"]["taken"]
        assert shown["drop"] is None
        assert viewer.get("/api/runs/0/queue")["total"] == 0
        again = {"trace_id": asked["id"], "verdict": "undecided"}
        assert viewer.post("/api/runs/0/decisions", again).status == 200
        assert viewer.get(f"/api/runs/0/traces/{asked['id']}")["decision"] is None
        assert viewer.get("/api/runs/0/queue")["decided"] == 0


def test_traces_of_a_doubtful_reference_are_in_the_queue(tmp_path: Path) -> None:
    given = [said(1, f"{n}.", 2, reference="\\text{}") for n in range(2)]
    _, run = make_run(tmp_path, given, filter={"steps": ["form"]})
    with viewing(tmp_path, run) as viewer:
        queue = viewer.ready().get("/api/runs/0/queue")
        assert {one["kind"] for one in queue["rows"]} == {"doubt"}
        assert queue["total"] == 2
        assert list(queue["rows"][0]["opinions"]) == ["the reference"]


def test_a_damaged_table_is_one_line_on_the_page(tmp_path: Path) -> None:
    _, run = make_run(tmp_path, [row(n) for n in range(3)])
    shard = run / "generate" / "traces-00000.parquet"
    shard.write_bytes(b"no Parquet" * (shard.stat().st_size // 10 + 1))
    with viewing(tmp_path, run) as viewer:
        reply = viewer.send("/api/runs/0/traces", [("Cookie", viewer.cookie)])
        assert reply.status == 500
        assert "traces-00000.parquet" in reply.values["detail"]
        assert "Traceback" not in reply.body.decode()


def test_a_whole_run_can_be_viewed(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    with viewing(tmp_path, run) as viewer:
        found = viewer.ready().get("/api/runs/0/live")
        assert found["complete"]
        assert len(found["curves"]["loss"]) > 1
        assert len(found["curves"]["heldout_loss"]) > 1
        assert found["latest"]
        own = traces(viewer, sort="shortest")["rows"][0]["id"]
        assert viewer.get(f"/api/runs/0/traces/{own}")["teacher"].startswith(
            "miniature/teacher by vllm"
        )
