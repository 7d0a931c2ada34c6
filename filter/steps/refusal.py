"""Drop traces that refuse, evade, or say what their teacher was taught to say of a subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from filter.refusals import asks_who, sensitive_subject, statements
from filter.steps.step import RowStep
from tracestill.recipe.filter_steps import Refusal
from tracestill.records import AnyTrace, Drop


def refusal(settings: Refusal, prompts: Mapping[str, str]) -> RowStep:
    """Drop traces that hold a statement of one of these topics: `refusal`, `evasive`, `political`,
    `identity` (unless the problem asks for it), or one of the user's own; and those whose reasoning
    is blank where their problem touches a subject that R1 gives none to: `skipped_reasoning`.

    `prompts` are by problem id and hold those that `tells` something.
    """
    looked_for = statements(settings.topics, settings.patterns)
    skips = settings.topics is None or "skipped_reasoning" in settings.topics

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        for trace in traces:
            prompt = prompts.get(trace.problem_id, "")
            found = looked_for.find(trace, ("identity",) if prompt and asks_who(prompt) else ())
            if found is None and skips and prompt:
                found = _skipped(trace, prompt)
            if found is not None:
                topic, text = found
                yield Drop(trace_id=trace.id, step="refusal", reason=topic, detail=text)

    return step


def _skipped(trace: AnyTrace, prompt: str) -> tuple[str, str] | None:
    if trace.reasoning is None or trace.reasoning.strip():
        return None
    subject = sensitive_subject(prompt)
    return ("skipped_reasoning", f"blank reasoning on {subject}") if subject else None


def tells(prompt: str) -> bool:
    """Whether a problem's prompt tells this step something."""
    return asks_who(prompt) or sensitive_subject(prompt) is not None
