"""Settle what the rules leave open: by the agreement of a problem's samples and by a judge.

Where these do not say the same, nothing is decided and the trace goes to a queue for people. So
does a problem whose samples mostly give one answer that the rules call wrong: its reference may be
wrong.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from filter.extract import final_answer
from tracestill.recipe.filter import Agreement
from tracestill.records import AnyTrace, Dispute, Outcome, Problem, Verdict
from tracestill.records.decisions import PERSON
from tracestill.records.identity import normalise_prompt
from tracestill.records.texts import shortened
from tracestill.records.verifier import Verifier

Common = tuple[str, int, int]
"""An answer that samples share, how many gave it, and how many samples there are."""

_SHOWN = 100  # characters of a reference
_DECIDED: tuple[Outcome, ...] = ("correct", "incorrect")


def settle(
    traces: Sequence[AnyTrace],
    problems: Mapping[str, Problem],
    verdicts: Mapping[str, Verdict],
    common: Mapping[str, Common],
    judge: Verifier | None,
) -> tuple[dict[str, Verdict], list[Dispute], list[Dispute]]:
    """The verdicts of these traces by trace id, the open ones settled where both opinions are the
    same, the disputes that are left to people, and apart those whether a problem's reference is
    right: one for each problem most of whose samples give one answer that the rules refuse.

    `common` are the answers on which samples agree (`common_answers`). `judge` sees every open
    trace; that it can't tell is an opinion too, so that a judge which does not reply leaves nothing
    to agreement alone.
    """
    open_traces = [t for t in traces if t.id in verdicts and verdicts[t.id].outcome not in _DECIDED]
    opinions: dict[str, list[Verdict]] = {trace.id: [] for trace in open_traces}
    for trace in open_traces:
        if trace.problem_id in common:
            opinions[trace.id].append(_agreed(trace, common[trace.problem_id]))
    if judge is not None and open_traces:
        judged = judge.verify([(problems[trace.problem_id], trace) for trace in open_traces])
        for verdict in judged:
            opinions[verdict.trace_id].append(verdict)
    settled = dict(verdicts)
    disputes: list[Dispute] = []
    for trace in open_traces:
        said = opinions[trace.id]
        if not said:
            continue
        settled[trace.id] = _joined(said, verdicts[trace.id])
        if len({v.outcome for v in said}) > 1:
            disputes.append(_dispute(trace, said))
    return settled, disputes, _against_the_reference(traces, verdicts, common)


def answer_key(trace: AnyTrace) -> str:
    """What a trace answers, in a form that like answers share; empty where it answers nothing."""
    text = trace.answer or ""
    found = final_answer(text) or text
    return normalise_prompt(found).casefold().rstrip(".")


def common_answers(traces: Iterable[AnyTrace], agreement: Agreement) -> dict[str, Common]:
    """For each problem whose samples agree what they agree on.

    This is self-consistency (Wang et al. 2022, arXiv:2203.11171) with a threshold: the most
    frequent answer counts as right if enough samples gave it; where none has enough, agreement has
    no opinion. Samples without an answer count among those that do not agree.
    """
    given: dict[str, Counter[str]] = {}
    for trace in traces:
        given.setdefault(trace.problem_id, Counter())[answer_key(trace)] += 1
    common = {}
    for problem, counts in given.items():
        total = counts.total()
        del counts[""]
        for key, count in counts.most_common(1):
            if total >= agreement.samples and count > agreement.share * total:
                common[problem] = (key, count, total)
    return common


def _agreed(trace: AnyTrace, common: Common) -> Verdict:
    key, count, total = common
    return Verdict(
        trace_id=trace.id,
        verifier="agreement/1",
        outcome="correct" if answer_key(trace) == key else "incorrect",
        extracted=answer_key(trace) or None,
        detail=f"{count} of {total} samples answer {key[:100]}",
        seconds=0.0,
    )


def mend(
    traces: Sequence[AnyTrace],
    problems: Mapping[str, Problem],
    verdicts: Mapping[str, Verdict],
    mended: Mapping[str, Common],
) -> dict[str, Verdict]:
    """The verdicts by trace id, where those are correct that give what replaces the reference of
    their problem in `mended`, as in NVIDIA's OpenReasoning data.
    """
    changed = dict(verdicts)
    for trace in traces:
        verdict, common = verdicts.get(trace.id), mended.get(trace.problem_id)
        if verdict is None or common is None or verdict.outcome != "incorrect":
            continue
        if verdict.verifier == PERSON:
            continue
        agreed = _agreed(trace, common)
        if agreed.outcome == "correct":
            reference = problems[trace.problem_id].reference
            changed[trace.id] = dataclasses.replace(
                agreed,
                verifier="majority/1",
                detail=f"{agreed.detail}, none the reference {shortened(reference, _SHOWN)}",
            )
    return changed


def _joined(said: Sequence[Verdict], rules: Verdict) -> Verdict:
    """One verdict of several opinions: theirs where they agree, `unverifiable` where not."""
    outcomes = {verdict.outcome for verdict in said}
    detail = "; ".join(f"{v.verifier}: {v.outcome}, {v.detail}" for v in said)
    if len(said) == 1:
        detail = said[0].detail
    return dataclasses.replace(
        said[-1],
        verifier="+".join(verdict.verifier for verdict in said),
        outcome=said[0].outcome if len(outcomes) == 1 else "unverifiable",
        detail=detail,
        seconds=rules.seconds + sum(verdict.seconds for verdict in said),
    )


def _dispute(trace: AnyTrace, said: Sequence[Verdict]) -> Dispute:
    return Dispute(
        trace_id=trace.id,
        problem_id=trace.problem_id,
        answer=answer_key(trace),
        opinions={verdict.verifier: verdict.outcome for verdict in said},
    )


def _against_the_reference(
    traces: Sequence[AnyTrace],
    verdicts: Mapping[str, Verdict],
    common: Mapping[str, Common],
) -> list[Dispute]:
    found: dict[str, Dispute] = {}
    for trace in traces:
        if trace.problem_id in found or trace.problem_id not in common:
            continue
        verdict = verdicts.get(trace.id)
        if verdict is None or verdict.outcome != "incorrect":
            continue
        agreed = _agreed(trace, common[trace.problem_id])
        if agreed.outcome == "correct":
            found[trace.problem_id] = _dispute(trace, [verdict, agreed])
    return list(found.values())
