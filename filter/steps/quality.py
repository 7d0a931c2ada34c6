"""Drop traces whose text is degenerate, unreadable, or does not lead to its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from filter.extract import final_answer
from filter.measures import Measures, measure
from filter.steps.step import RowStep
from tracestill.recipe.filter_steps import Quality
from tracestill.records import AnyTrace, Drop

_FEW_WORDS = 100  # below that a share says little
_FEW_LINES_WORDS = 200
_SMALL = 2_000  # bytes, below which compression says little
_LONGEST_WORD = 1_000  # bytes
_ENDLESS = 10_000_000  # characters
_ODD_SHARE = 0.005  # control and replacement characters, of words
# What separates thousands.
_MARKS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\\!| |\u202f|\u00a0)(?=\d{3}(?!\d))")
_WHOLE = re.compile(r"-?\d{2,}")


def quality(settings: Quality) -> RowStep:
    """Drop traces whose reasoning is one of these, by the settings' bounds: `repetitive` (runs of
    words or lines that came before), `loop` (its end is said over and over), `compressible`,
    `second_thoughts` (too many branch words), `unreadable` (control characters, endless words), or
    whose answer is a whole number that it never mentions: `unsupported`.
    """

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        rows = list(traces)
        texts = [trace.reasoning or "" for trace in rows]
        # What no student could read would take a gigabyte to measure.
        endless = [len(text) > _ENDLESS for text in texts]
        measured = ["" if long else text for text, long in zip(texts, endless, strict=True)]
        measures = measure(measured, settings.branch_words)
        for number, trace in enumerate(rows):
            found = _fault(settings, measures, number, len(texts[number]))
            if endless[number]:
                found = "unreadable", f"a reasoning of {len(texts[number]):,} characters"
            if found is None and settings.supported:
                found = _unsupported(trace)
            if found is not None:
                reason, detail = found
                yield Drop(trace_id=trace.id, step="quality", reason=reason, detail=detail)

    return step


def _fault(settings: Quality, measures: Measures, row: int, size: int) -> tuple[str, str] | None:
    words = int(measures.words[row])
    if settings.readable:
        odd, longest = int(measures.odd[row]), int(measures.longest[row])
        if odd > _ODD_SHARE * words and odd > 1:
            return "unreadable", f"{odd} control or replacement characters in {words} words"
        if longest > _LONGEST_WORD:
            return "unreadable", f"a word of {longest} bytes"
    loops = float(measures.loops[row])
    if settings.max_loops is not None and loops > settings.max_loops:
        return "loop", f"its end is said {loops:.0f} times"
    if words >= _FEW_WORDS:
        often, share = int(measures.often[row]), float(measures.repeated[row])
        if settings.max_run is not None and often > settings.max_run:
            return "repetitive", f"20 words in a row come {often} times"
        if settings.max_repeated is not None and share > settings.max_repeated:
            return "repetitive", f"{share:.0%} of its runs of 20 words came before"
        branches = float(measures.branches[row])
        if settings.max_branches is not None and branches > settings.max_branches:
            return "second_thoughts", f"{branches:.0f} branch words in 1,000"
    lines = float(measures.repeated_lines[row])
    most = settings.max_repeated_lines
    if most is not None and lines > most and words >= _FEW_LINES_WORDS:
        return "repetitive", f"{lines:.0%} of its lines came before"
    ratio = float(measures.compression[row])
    least = settings.min_compression
    if least is not None and ratio < least and size >= _SMALL:
        return "compressible", f"compresses to {ratio:.1%} of its size"
    return None


def _unsupported(trace: AnyTrace) -> tuple[str, str] | None:
    """Whether the answer is a whole number of at least two digits that neither the reasoning says
    nor the answer before its end: of solutions without marks the last steps are in the answer.
    """
    if not trace.answer or not trace.reasoning:
        return None
    found = final_answer(trace.answer)
    plain = _MARKS.sub("", found) if found else ""
    if not _WHOLE.fullmatch(plain):
        return None
    number = plain.lstrip("-")
    if number in _MARKS.sub("", trace.reasoning) or _MARKS.sub("", trace.answer).count(number) > 1:
        return None
    return "unsupported", f"the answer {plain} does not occur in the reasoning"
