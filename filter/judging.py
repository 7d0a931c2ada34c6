"""A verdict on each trace that has an answer: known, by rules, by agreement or by a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from filter.ensemble import Common, answer_key, common_answers, mend, settle
from filter.measuring import Prepare
from filter.parts import Parts
from filter.table import TraceFiles, Unit, read_unit
from filter.verify import by_rules, verifier_name
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.rules import Rules
from tracestill.records import Dispute, Mended, Problem, TraceText, Verdict
from tracestill.records.decisions import PERSON
from tracestill.records.verifier import Verifier

Known = Callable[[Sequence[str]], Mapping[str, Verdict]]
"""Verdicts that there are of traces with these ids."""

RULED, SETTLED = "ruled", "settled"
_DISPUTED, _AGAINST = "disputed", "against"


def judge_all(
    traces: TraceFiles,
    problems: Mapping[str, Problem],
    settings: FilterSection,
    parts: Parts,
    known: Known,
    decided: Mapping[str, Verdict],
    prepare: Prepare,
) -> Iterator[Unit]:
    """Write the verdicts of each unit by the rules as the parts `RULED`, and yield it. A known one
    by today's rules is not made again, and one that people `decided` stands instead of the rules'.

    Raises:
        RuntimeError: a worker's process can't be started.

    """
    rules = settings.rules
    verifier = by_rules(rules)
    for unit in traces.units:
        if not parts.has(RULED, unit.number):
            verdicts: list[Verdict] = []
            for batch in _some(read_unit(unit)):
                verdicts += _judged(batch, problems, verifier, rules, known, decided, prepare)
            parts.write_records(RULED, unit.number, Verdict, verdicts)
        yield unit


def _some(batches: Iterable[list[TraceText]]) -> Iterator[list[TraceText]]:
    """Two batches together: what verifies works on all cores at once."""
    held: list[TraceText] = []
    for batch in batches:
        held += batch
        if len(held) >= 512:
            yield held
            held = []
    if held:
        yield held


def _judged(
    batch: Sequence[TraceText],
    problems: Mapping[str, Problem],
    verifier: Verifier,
    rules: Rules,
    known: Known,
    decided: Mapping[str, Verdict],
    prepare: Prepare,
) -> list[Verdict]:
    answered = [trace for trace in prepare(batch) if trace.answer and trace.answer.strip()]
    there = {**known([trace.id for trace in answered]), **decided}

    def is_known(trace: TraceText) -> bool:
        if trace.id in decided:
            return True
        name = verifier_name(problems[trace.problem_id].kind, rules)
        return trace.id in there and there[trace.id].verifier == name

    lacking = [(problems[t.problem_id], t) for t in answered if not is_known(t)]
    fresh = {verdict.trace_id: verdict for verdict in verifier.verify(lacking)}
    return [fresh.get(trace.id) or there[trace.id] for trace in answered]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What is left to people, and the problems whose references were mended."""

    disputes: list[Dispute]
    mended: list[Mended]


def settle_all(
    traces: TraceFiles,
    problems: Mapping[str, Problem],
    settings: FilterSection,
    parts: Parts,
    judge: Verifier | None,
    decided: Set[str],
    prepare: Prepare,
) -> Settled:
    """Write the verdicts of all units, the open ones settled, as the parts `SETTLED`. Of a problem
    that is among those of which people `decided` a trace the reference is not disputed again.
    """
    common: dict[str, Common] = {}
    if settings.agreement is not None:
        every = (trace for unit in traces.units for b in read_unit(unit) for trace in prepare(b))
        common = common_answers(every, settings.agreement)
    numbers = [unit.number for unit in traces.units]
    refuted: dict[str, Common] = {}
    if settings.agreement is not None and settings.agreement.mend:
        refuted = _refuted(traces, problems, parts, common)
    for unit in traces.units:
        if parts.has(SETTLED, unit.number):
            continue
        ruled = {v.trace_id: v for v in parts.records(RULED, [unit.number], Verdict)}
        disputed: list[Dispute] = []
        against: list[Dispute] = []
        for batch in _some(read_unit(unit)):
            prepared = list(prepare(batch))
            own = {trace.id: ruled[trace.id] for trace in batch if trace.id in ruled}
            own = mend(prepared, problems, own, refuted)
            settled, open_ones, refused = settle(prepared, problems, own, common, judge)
            ruled |= settled
            disputed += open_ones
            against += refused
        parts.write_records(_DISPUTED, unit.number, Dispute, disputed)
        parts.write_records(_AGAINST, unit.number, Dispute, against)
        parts.write_records(SETTLED, unit.number, Verdict, ruled.values())
    found = list(parts.records(_DISPUTED, numbers, Dispute))
    # One for each problem, the same whatever the order of the table.
    refused_by: dict[str, Dispute] = {}
    for one in parts.records(_AGAINST, numbers, Dispute):
        if one.problem_id in decided:
            continue
        other = refused_by.get(one.problem_id)
        if other is None or one.trace_id < other.trace_id:
            refused_by[one.problem_id] = one
    mended = [
        Mended(
            problem_id=problem, reference=problems[problem].reference, answer=answer,
            agreeing=agreeing, samples=samples,
        )
        for problem, (answer, agreeing, samples) in sorted(refuted.items())
    ]  # fmt: skip
    return Settled(disputes=[*found, *refused_by.values()], mended=mended)


def _refuted(
    traces: TraceFiles, problems: Mapping[str, Problem], parts: Parts, common: Mapping[str, Common]
) -> dict[str, Common]:
    """What samples agree on where none of them was judged correct and some incorrect: the rules
    could compare them with the reference. What a person called wrong replaces no reference.
    """
    outcomes: dict[str, set[str]] = {}
    wrong_answers: set[tuple[str, str]] = set()
    for unit in traces.units:
        verdicts = {v.trace_id: v for v in parts.records(RULED, [unit.number], Verdict)}
        for batch in read_unit(unit):
            for trace in batch:
                if trace.id in verdicts and trace.problem_id in common:
                    verdict = verdicts[trace.id]
                    outcomes.setdefault(trace.problem_id, set()).add(verdict.outcome)
                    if verdict.verifier == PERSON and verdict.outcome == "incorrect":
                        wrong_answers.add((trace.problem_id, answer_key(trace)))
    wrong = (one for one, said in outcomes.items() if "incorrect" in said and "correct" not in said)
    return {
        problem: common[problem]
        for problem in wrong
        if problems[problem].reference.strip()
        and (problem, common[problem][0]) not in wrong_answers
    }
