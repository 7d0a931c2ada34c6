"""Which traces a student could learn from at all, whatever their answers are worth.

Sampling and filtering go by this one definition: else sampling would stop at a trace that the
filter drops.
"""

from __future__ import annotations

import re

from tracestill.records.schema import AnyTrace, Drop

_TAG = re.compile(r"</?think\b[^<>]{0,40}>", re.IGNORECASE)


def unusable(
    trace: AnyTrace, max_tokens: int | None = None, *, needs_reasoning: bool = True
) -> Drop | None:
    """Why a trace can't be used; None if it can. A student that does not think learns traces that
    have no reasoning too (`needs_reasoning`).

    Reasons: `error` (failed or never sent), `truncated`, `malformed` (without a reasoning and an
    answer, or with a think tag inside one of them), `empty` (one of them is blank), `too_long`
    (more than `max_tokens` completion tokens).
    """
    if trace.finish in ("error", "skipped"):
        detail = f"{trace.finish}: {trace.error or 'no message'}"
        return Drop(trace_id=trace.id, step="form", reason="error", detail=detail)
    if trace.finish == "length":
        tokens = trace.completion_tokens  # 0 where nobody counted those of an imported one
        detail = f"cut after {tokens} tokens" if tokens else "cut at a limit of tokens"
        return Drop(trace_id=trace.id, step="form", reason="truncated", detail=detail)
    if found := _malformed(trace, needs_reasoning):
        return Drop(trace_id=trace.id, step="form", reason="malformed", detail=found)
    parts = {"reasoning": trace.reasoning or "", "answer": trace.answer or ""}
    if not needs_reasoning:
        del parts["reasoning"]
    if blank := [name for name, text in parts.items() if not text.strip()]:
        detail = f"blank {' and '.join(blank)}"
        return Drop(trace_id=trace.id, step="form", reason="empty", detail=detail)
    if max_tokens is not None and trace.completion_tokens > max_tokens:
        detail = f"{trace.completion_tokens} tokens, at most {max_tokens} are kept"
        return Drop(trace_id=trace.id, step="length", reason="too_long", detail=detail)
    return None


def _malformed(trace: AnyTrace, needs_reasoning: bool) -> str | None:
    if trace.reasoning is None and needs_reasoning:
        return "no reasoning found"
    if trace.answer is None:
        return "the reasoning does not end"
    for part, text in (("reasoning", trace.reasoning or ""), ("answer", trace.answer)):
        tag = _TAG.search(text)
        if tag is not None:
            return f"{tag.group()} inside the {part}"
    return None
