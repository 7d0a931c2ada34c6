"""Reasoning of teachers that mark none: what stands before a solution's final answer."""

from __future__ import annotations

import re
from dataclasses import replace

from generate.reasoning import Split

_MARK = re.compile(r"^####", re.MULTILINE)  # GSM8K's
_FENCE = re.compile(r"^(```+|~~~+)", re.MULTILINE)


def with_solution(split: Split) -> Split:
    """The split of a plain solution: what precedes its final answer is its reasoning. A response
    that has reasoning already, or is nothing but an answer, stays as it is.

    The final answer is the line of GSM8K's `####`, a block of code at the end, the last paragraph,
    or the last line of a single one. No text is lost but the white space between the parts.
    """
    if split.answer is None or (split.reasoning or "").strip():
        return split
    text = split.answer.strip()
    at = _answer_begin(text)
    reasoning, answer = text[:at].strip(), text[at:].strip()
    if not reasoning or not answer:
        return split
    return replace(split, reasoning=reasoning, answer=answer)


def _answer_begin(text: str) -> int:
    """Where the final answer begins; 0 where there is nothing before it."""
    marks = list(_MARK.finditer(text))
    if marks:
        return marks[-1].start()
    fences = list(_FENCE.finditer(text))
    if len(fences) > 1 and text.endswith(fences[-1][1]):
        return fences[-2].start()
    blank = text.rfind("\n\n")
    return blank if blank >= 0 else max(0, text.rfind("\n"))
