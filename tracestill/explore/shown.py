"""A trace made readable, in notebooks and terminals."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tracestill.records import Drop, Problem, Trace, Verdict, read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A trace made readable. `reason` is why it was dropped; None for a kept one."""

    trace_id: str
    prompt: str
    reference: str
    reasoning: str | None
    answer: str | None
    outcome: str
    reason: str | None
    detail: str

    def parts(self) -> dict[str, str]:
        """Its parts by their titles, in reading order."""
        return {
            "problem": self.prompt.strip(),
            "reasoning": self.reasoning or "(none)",
            "answer": self.answer or "(none)",
            "reference": self.reference or "(empty)",
            "verdict": self.outcome,
            "filter": f"dropped, {self.reason} {self.detail}".strip() if self.reason else "kept",
        }

    def __str__(self) -> str:
        return "\n\n".join(f"[{title}]\n{text}" for title, text in self.parts().items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{title}</th>"
            "<td style='text-align:left'><pre style='white-space:pre-wrap;margin:0'>"
            f"{html.escape(text)}</pre></td></tr>"
            for title, text in self.parts().items()
        )
        return f"<table>{rows}</table>"


def shown_traces(run: Path, trace_ids: Iterable[str]) -> list[Shown]:
    """Traces of a run made readable, in the order of the table of traces.

    Raises:
        ValueError: a stage up to the filter is not complete.

    """
    wanted = set(trace_ids)
    traces = [t for t in read_table(run / "generate", "traces", Trace) if t.id in wanted]
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    verdicts = {v.trace_id: v for v in read_table(run / "filter", "verdicts", Verdict)}
    drops = {d.trace_id: d for d in read_table(run / "filter", "drops", Drop)}
    return [
        Shown(
            trace_id=trace.id,
            prompt=problems[trace.problem_id].prompt,
            reference=problems[trace.problem_id].reference,
            reasoning=trace.reasoning,
            answer=trace.answer,
            outcome=verdicts[trace.id].outcome if trace.id in verdicts else "none",
            reason=drops[trace.id].reason if trace.id in drops else None,
            detail=drops[trace.id].detail if trace.id in drops else "",
        )
        for trace in traces
    ]
