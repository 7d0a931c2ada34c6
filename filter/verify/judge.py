"""Let a language model judge what no rule can decide, and what a pattern takes for a refusal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracestill.records import AnyTrace, Outcome, Problem, Verdict, digest
from tracestill.records.verifier import Verifier

Ask = Callable[[Mapping[str, str]], Mapping[str, str | None]]
"""Sends prompts to a model, each under its trace's id, and returns the replies without their
reasoning; None where there was none."""

_VERDICT = re.compile(r"\bverdict\b\W{0,8}(correct|incorrect)\b", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\bverdict\b\W{0,8}(yes|no)\b", re.IGNORECASE)
REFUSAL_RUBRIC = Path(__file__).parents[1] / "patterns" / "confirm_refusal.jinja"
_EDGE = 1_500  # characters at the begin and at the end of a text that the model is shown


@dataclass(frozen=True, slots=True)
class Finding:
    """A trace that a pattern calls something: a topic, and the words that were found."""

    problem: Problem
    trace: AnyTrace
    topic: str
    found: str


Confirm = Callable[[Sequence[Finding]], Sequence[bool | None]]
"""Says of each finding whether it is right, None where it can't tell."""


def confirm(ask: Ask) -> Confirm:
    """A function that asks a model whether findings are right, all at once, with the rubric
    `REFUSAL_RUBRIC`. The last line `Verdict: yes` or `Verdict: no` of a reply counts.
    """
    from jinja2 import Environment, StrictUndefined

    rubric = Environment(undefined=StrictUndefined).from_string(
        REFUSAL_RUBRIC.read_text(encoding="utf-8")
    )

    def prompt(one: Finding) -> str:
        return rubric.render(
            problem=_edges(one.problem.prompt),
            reasoning=_edges(one.trace.reasoning or "").strip(),
            answer=_edges(one.trace.answer or ""),
            topic=one.topic,
            found=one.found,
        )

    def confirm_all(findings: Sequence[Finding]) -> list[bool | None]:
        replies = ask({one.trace.id: prompt(one) for one in findings})
        said = (_YES_OR_NO.findall(replies.get(one.trace.id) or "") for one in findings)
        return [found[-1].lower() == "yes" if found else None for found in said]

    return confirm_all


def _edges(text: str) -> str:
    """A text, of which only the begin and the end are left where it is long."""
    if len(text) <= 2 * _EDGE:
        return text
    return f"{text[:_EDGE]}\n[…]\n{text[-_EDGE:]}"


def judge(model: str, template: str, ask: Ask) -> Verifier:
    """A verifier that asks `model` about each answer with a rubric.

    `template` is Jinja text; it has `problem`, `reference` and `answer`, and must ask for a last
    line `Verdict: correct` or `Verdict: incorrect`. The last such line of a reply counts; a reply
    without one leaves the answer `unverifiable`. Its verdicts bear the model's name and a hash of
    the rubric's text: `judge/<model>/<hash>`. All answers are asked at once, so a verdict's
    `seconds` are its share of the whole.

    Raises:
        ValueError: the template is not valid Jinja, or uses other names than the three.

    """
    from jinja2 import Environment, StrictUndefined, TemplateError

    name = f"judge/{model}/{digest(template)[:8]}"
    environment = Environment(undefined=StrictUndefined)

    def prompt(problem: Problem, trace: AnyTrace) -> str:
        try:
            return environment.from_string(template).render(
                problem=problem.prompt, reference=problem.reference, answer=trace.answer or ""
            )
        except TemplateError as error:
            raise ValueError(
                f"filter.judge.template: {error}; it has problem, reference and answer"
            ) from error

    def judge_all(pairs: Sequence[tuple[Problem, AnyTrace]]) -> list[Verdict]:
        begin = time.perf_counter()
        replies = ask({trace.id: prompt(problem, trace) for problem, trace in pairs})
        seconds = (time.perf_counter() - begin) / max(1, len(pairs))
        return [_verdict(trace, replies.get(trace.id), name, seconds) for _, trace in pairs]

    return Verifier(names=[name], verify=judge_all)


def _verdict(trace: AnyTrace, reply: str | None, name: str, seconds: float) -> Verdict:
    outcome: Outcome = "unverifiable"
    detail = "the judge did not answer"
    if reply is not None:
        found = _VERDICT.findall(reply)
        detail = " ".join(reply.split())[-300:]
        if not found:
            detail = f"the judge gave no verdict: {detail}"
        else:
            outcome = "correct" if found[-1].lower() == "correct" else "incorrect"
    return Verdict(
        trace_id=trace.id,
        verifier=name,
        outcome=outcome,
        extracted=trace.answer,
        detail=detail,
        seconds=seconds,
    )
