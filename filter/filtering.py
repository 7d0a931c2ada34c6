"""The filter stage: judge every trace, then let the steps drop what the recipe does not want."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from filter.ensemble import settle
from filter.steps import build_steps
from filter.verify import rules, verifier_name
from filter.verify.doubts import doubtful
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.sandbox import Sandbox, read_sandbox
from tracestill.records import Dispute, Doubt, Drop, Problem, Trace, Verdict
from tracestill.records.progress import OnProgress, Progress
from tracestill.records.verifier import Verifier

_CHUNK = 512  # traces that are judged together, and between two reports of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterResult:
    """What the filter made of its traces, each list in the order of problems and samples.

    A trace is in `kept` (ids) or has exactly one of `drops`. `verdicts` has one for each trace
    with an answer, kept or not; `disputes` are the traces that people should decide, `doubts` the
    problems whose own reference does not verify as correct. `funnel` maps each step that ran, in
    order, to how many traces it was given and how many of them it dropped.
    """

    verdicts: list[Verdict]
    disputes: list[Dispute]
    doubts: list[Doubt]
    drops: list[Drop]
    kept: list[str]
    funnel: dict[str, tuple[int, int]]

    @property
    def dropped(self) -> dict[str, int]:
        """How many traces were dropped for which reason, the most frequent first."""
        return dict(Counter(drop.reason for drop in self.drops).most_common())


def filter_traces(
    traces: Iterable[Trace],
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    settings: FilterSection,
    progress: OnProgress,
    judge: Verifier | None = None,
    known: Mapping[str, Verdict] | None = None,
    *,
    needs_reasoning: bool = True,
) -> FilterResult:
    """Judge the traces of `problems` (by id) and drop those that the settings exclude.

    The order of `traces` changes nothing. `judge` (`filter.verify.judge`) is asked about what the
    rules leave open. `known` are verdicts of an earlier stage by trace id: one by today's rules is
    not made again. Traces without reasoning are dropped if the student `needs_reasoning`.
    `progress` is told the traces judged so far and how many of them are kept.

    Raises:
        ValueError: a trace's problem is not among the problems, or two traces have one id.
        RuntimeError: a worker's process can't be started.

    """
    ordered = _in_order(traces, problems)
    verdicts = _judge(ordered, problems, settings, progress, known or {})
    verdicts, disputes = settle(ordered, problems, verdicts, settings.agreement, judge)
    live, drops, funnel = ordered, dict[str, Drop](), dict[str, tuple[int, int]]()
    steps = build_steps(settings, problems, heldout, verdicts, needs_reasoning=needs_reasoning)
    for name, step in steps.items():
        dropped = {drop.trace_id: drop for drop in step(live)}
        funnel[name] = (len(live), len(dropped))
        drops |= dropped
        live = [trace for trace in live if trace.id not in dropped]
    assert len(live) + len(drops) == len(ordered), (
        f"{len(ordered)} traces in, but {len(live)} kept and {len(drops)} dropped"
    )
    progress(Progress(done=len(ordered), total=len(ordered), kept=len(live)))
    return FilterResult(
        verdicts=list(verdicts.values()),
        disputes=disputes,
        doubts=doubtful(problems[problem] for problem in {t.problem_id: None for t in ordered}),
        drops=[drops[trace.id] for trace in ordered if trace.id in drops],
        kept=[trace.id for trace in live],
        funnel=funnel,
    )


def _in_order(traces: Iterable[Trace], problems: Mapping[str, Problem]) -> list[Trace]:
    """The traces by their problems' order and their sample, whatever order they came in."""
    places = {problem: place for place, problem in enumerate(problems)}
    found: dict[str, Trace] = {}
    for trace in traces:
        if trace.problem_id not in places:
            raise ValueError(
                f"trace {trace.id} answers problem {trace.problem_id}, which is not among the "
                f"{len(places)} problems: give the problems that the traces were made from"
            )
        if trace.id in found:
            raise ValueError(f"two traces have the id {trace.id}: give each trace once")
        found[trace.id] = trace
    return sorted(
        found.values(), key=lambda trace: (places[trace.problem_id], trace.sample, trace.id)
    )


def _judge(
    traces: Sequence[Trace],
    problems: Mapping[str, Problem],
    settings: FilterSection,
    progress: OnProgress,
    known: Mapping[str, Verdict],
) -> dict[str, Verdict]:
    """A verdict for each trace that has an answer, by trace id."""
    verdicts: dict[str, Verdict] = {}
    sandbox = read_sandbox(settings.sandbox)
    verifier = rules(sandbox)
    kept = 0
    for begin in range(0, len(traces), _CHUNK):
        progress(Progress(done=begin, total=len(traces), kept=kept))
        chunk = traces[begin : begin + _CHUNK]
        pairs = [(problems[t.problem_id], t) for t in chunk if t.answer and t.answer.strip()]
        lacking = [pair for pair in pairs if not _is_known(known, *pair, sandbox)]
        fresh = {verdict.trace_id: verdict for verdict in verifier.verify(lacking)}
        judged = [fresh.get(trace.id) or known[trace.id] for _, trace in pairs]
        verdicts |= {verdict.trace_id: verdict for verdict in judged}
        wanted = sum(verdict.outcome in settings.keep for verdict in judged)
        kept += wanted if settings.verify else len(chunk)
    return verdicts


def _is_known(
    known: Mapping[str, Verdict], problem: Problem, trace: Trace, sandbox: Sandbox
) -> bool:
    verdict = known.get(trace.id)
    return verdict is not None and verdict.verifier == verifier_name(problem.kind, sandbox)
