"""Drop traces that are not whole: failed, cut, without their two parts, or too long."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from tracestill.records import Drop, Trace

_TAG = re.compile(r"</?think\b[^<>]{0,40}>", re.IGNORECASE)


def finish(traces: Iterable[Trace]) -> Iterator[Drop]:
    """Drop what did not end by itself: `error` (failed or never sent) and `truncated`."""
    for trace in traces:
        if trace.finish in ("error", "skipped"):
            detail = f"{trace.finish}: {trace.error or 'no message'}"
            yield Drop(trace_id=trace.id, step="finish", reason="error", detail=detail)
        elif trace.finish == "length":
            detail = f"cut after {trace.completion_tokens} tokens"
            yield Drop(trace_id=trace.id, step="finish", reason="truncated", detail=detail)


def form(traces: Iterable[Trace]) -> Iterator[Drop]:
    """Drop what has not one reasoning and one answer: `malformed`, or `empty` if one is blank."""
    for trace in traces:
        found = _malformed(trace)
        if found is not None:
            yield Drop(trace_id=trace.id, step="form", reason="malformed", detail=found)
            continue
        parts = {"reasoning": trace.reasoning or "", "answer": trace.answer or ""}
        blank = [name for name, text in parts.items() if not text.strip()]
        if blank:
            detail = f"blank {' and '.join(blank)}"
            yield Drop(trace_id=trace.id, step="form", reason="empty", detail=detail)


def _malformed(trace: Trace) -> str | None:
    if trace.reasoning is None:
        return "no reasoning found"
    if trace.answer is None:
        return "the reasoning does not end"
    for part, text in (("reasoning", trace.reasoning), ("answer", trace.answer)):
        tag = _TAG.search(text)
        if tag is not None:
            return f"{tag.group()} inside the {part}"
    return None


def length(max_tokens: int) -> Callable[[Iterable[Trace]], Iterator[Drop]]:
    """Drop traces with more than `max_tokens` completion tokens: `too_long`."""

    def step(traces: Iterable[Trace]) -> Iterator[Drop]:
        for trace in traces:
            if trace.completion_tokens > max_tokens:
                detail = f"{trace.completion_tokens} tokens, at most {max_tokens} are kept"
                yield Drop(trace_id=trace.id, step="length", reason="too_long", detail=detail)

    return step
