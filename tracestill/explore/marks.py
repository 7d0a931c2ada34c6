"""What is marked in a trace's text: where it is said over and over, what a verdict rests on, and
what a step of the filter found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from filter.boxes import balanced_boxes
from tracestill.records import Drop
from tracestill.records.private import PrivateKind, finder

Kind = Literal["answer", "loop", "repeat", "found"]
Piece = str | tuple[str, str]
"""A part of a text, or what is marked in it as (kind, text)."""
CUT = "cut"  # the kind of a piece that says how much of the text is left out

# A word as in `filter.measures`: what stands between white space, or a CJK character.
_WORD = re.compile(r"[\u3000-\udfff][^\x00-\x20\u3000-\udfff]*|[^\x00-\x20\u3000-\udfff]+")
_RUN = 20  # words of a run that should not come again
_LONGEST_PERIOD = 400  # words, of what is said over and over at the end
_LEAST_LOOP = 40  # words
_LINE = 5  # words, of a line that should not come again
_AROUND = 300  # characters that are shown around a mark
_SHOWN = 1_500  # characters of a mark that are shown at its ends

_BENCHMARK = re.compile(
    r", (?:has a part of it|has it as a whole|is it with other numbers): (.*) \| the item: ", re.S
)
_HELDOUT = re.compile(r"held-out problem \w+: (.*)", re.S)
_QUOTED = {
    "pattern": re.compile(r"^its (?:reasoning|answer): (.*)", re.S),
    "language": re.compile(r" pieces, one in [^:]*: (.*)", re.S),
    "refusal": re.compile(r"^(.*?)(?: \(the judge [^)]*\))?$", re.S),
}


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A span of a text, in characters."""

    begin: int
    end: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Loop:
    """Where a text begins to say its end over and over, and how often it says it."""

    begin: int
    end: int
    times: float


def loop_in(text: str) -> Loop | None:
    """The loop at a text's end, as the filter's step `quality` finds it: the longest end that
    equals what stands a period of at most 400 words before it. None below 40 words.
    """
    spans = [found.span() for found in _WORD.finditer(text)]
    words = [text[begin:end] for begin, end in spans]
    last, best, period = len(words) - 2, 0, 0  # the last word may have been cut
    if len(words) < 2 * _RUN:
        return None
    for length in range(1, min(_LONGEST_PERIOD, last // 2) + 1):
        place = last
        while place >= length and words[place] == words[place - length]:
            place -= 1
        same = last - place
        better = period == 0 or same * period > best * length
        if better and same >= max(_LEAST_LOOP, length):
            best, period = same, length
    if not period:
        return None
    begin = spans[last - best - period + 1][0]
    return Loop(begin=begin, end=spans[last][1], times=1 + best / period)


def repeats_in(text: str) -> Iterator[Mark]:
    """Runs of 20 words, and lines of at least 5, that came before in the text."""
    spans = [found.span() for found in _WORD.finditer(text)]
    words = [text[begin:end] for begin, end in spans]
    seen: set[tuple[str, ...]] = set()
    for first in range(len(words) - _RUN + 1):
        run = tuple(words[first : first + _RUN])
        if run in seen:
            yield Mark(spans[first][0], spans[first + _RUN - 1][1], "repeat")
        seen.add(run)
    lines, begin = set[str](), 0
    for line in text.splitlines(keepends=True):
        said = line.split()
        if len(said) >= _LINE and " ".join(said) in lines:
            yield Mark(begin, begin + len(line.rstrip()), "repeat")
        lines.add(" ".join(said))
        begin += len(line)


def answer_in(answer: str, extracted: str | None) -> Mark | None:
    """Where the answer stands on which the verdict rests: in the last box that holds it, else where
    it was said last; None where it does not stand there as it was understood.
    """
    wanted = (extracted or "").strip()
    if not wanted:
        return None
    for box in sorted(balanced_boxes(answer), reverse=True):
        place = answer.find(wanted, box.content, box.end)
        if place >= 0:
            return Mark(place, place + len(wanted), "answer")
    place = answer.rfind(wanted)
    return Mark(place, place + len(wanted), "answer") if place >= 0 else None


def quoted(drop: Drop) -> str | None:
    """The text that a step says it found, of those steps that quote it."""
    if drop.step == "contamination":
        found = _BENCHMARK.search(drop.detail) or _HELDOUT.search(drop.detail)
    elif drop.step in _QUOTED:
        found = _QUOTED[drop.step].search(drop.detail)
    else:
        return None
    return found[1] if found else None


def quote_in(text: str, quote: str) -> Mark | None:
    """Where a quote stands, whatever the white space, the case and the punctuation between."""
    words = re.findall(r"\w+", quote.removesuffix("…"))
    if not words:
        place = text.find(quote) if quote else -1
        return Mark(place, place + len(quote), "found") if place >= 0 else None
    found = re.search(r"[\W_]+".join(map(re.escape, words)), text, re.IGNORECASE)
    return Mark(*found.span(), "found") if found else None


def masked(text: str, countries: Sequence[str]) -> str:
    """A text without what is private in it, whichever kinds the filter's step looks for: of each,
    its first three characters stay.
    """
    spans = [span for kind in get_args(PrivateKind) for span in finder(kind, countries)(text)]
    for begin, end in sorted(spans, reverse=True):
        text = f"{text[:begin]}{text[begin : begin + 3]}… ({end - begin} characters){text[end:]}"
    return text


def pieces(text: str, marks: Iterable[Mark], longest: int) -> list[Piece]:
    """A text in pieces, in order. Where marks overlap, the one that begins first goes on. A text of
    more than `longest` characters is shown at its ends and around what is marked.
    """
    ordered = sorted(marks)
    made: list[Piece] = []
    at = 0
    for begin, end in _shown(len(text), ordered, longest):
        if begin > at:
            made.append((CUT, f"{begin - at:,}"))
        at = begin
        for mark in ordered:
            low, high = max(at, mark.begin), min(end, mark.end)
            if low >= high:
                continue
            if low > at:
                made.append(text[at:low])
            made.append((mark.kind, text[low:high]))
            at = high
        if at < end:
            made.append(text[at:end])
        at = end
    return _joined(made)


def _shown(size: int, marks: list[Mark], longest: int) -> list[tuple[int, int]]:
    """The spans of a text of `size` characters that are shown."""
    if size <= longest:
        return [(0, size)]
    wanted = [(0, longest // 2), (size - longest // 2, size)]
    room = longest
    for mark in marks:
        if room <= 0:
            break
        middle = (mark.begin - _AROUND, min(mark.end, mark.begin + _SHOWN) + _AROUND)
        wanted.append(middle)
        room -= middle[1] - middle[0]
    spans: list[tuple[int, int]] = []
    for begin, end in sorted((max(0, begin), min(size, end)) for begin, end in wanted):
        if spans and begin <= spans[-1][1] + _AROUND:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans


def _joined(made: list[Piece]) -> list[Piece]:
    """Pieces of one kind that follow each other as one."""
    joined: list[Piece] = []
    for piece in made:
        last = joined[-1] if joined else None
        if isinstance(piece, tuple) and isinstance(last, tuple) and piece[0] == last[0] != CUT:
            joined[-1] = (piece[0], last[1] + piece[1])
        else:
            joined.append(piece)
    return joined
