"""Drop traces that reason in another language than they should, or switch on the way."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from filter.languages import Detector, detector
from filter.steps.step import RowStep, whole_text
from tracestill.recipe.filter_steps import Language
from tracestill.records import AnyTrace, Drop

# The languages that are told apart, besides those that are allowed: all of the EU, and others that
# teachers slip into. More of them would be mistaken for each other.
_EU = "bg cs da de el en es et fi fr ga hr hu it lt lv mt nl pl pt ro sk sl sv"
_OTHERS = "ar fa he hi id ja ko ru th tr uk vi zh"
_TOLD = frozenset(_EU.split()) | frozenset(_OTHERS.split())
_PIECE = 300  # characters
_ASKED = 100  # of them at most, once formulas are out
_EDGES = ".,;:!?\"'()"
_LEAST = 40  # letters of a piece without code and formulas; with fewer, its language is not asked
_SURE = 0.7
_A_NAME = 8  # letters of another script that are no other language yet

# Code, formulas, and words with digits or signs in them are no language.
_CODE = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_NO_LANGUAGE = re.compile(
    r"\$[^$]*\$?|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-zA-Z]+|<<[^>]*>>"
    r"|\S*[\d_=+*/^{}\\<>|()\[\]]\S*",
    re.DOTALL,
)
# Scripts whose letters stand for a language by themselves; Greek ones are mathematics as well.
_SCRIPTS = {
    "ar fa": "\u0600-\u06ff",
    "bg ru uk sr mk be": "\u0400-\u04ff",
    "he": "\u0590-\u05ff",
    "hi mr ne": "\u0900-\u097f",
    "ja": "\u3040-\u30ff",
    "ko": "\uac00-\ud7af",
    "th": "\u0e00-\u0e7f",
    "zh ja ko": "\u4e00-\u9fff",
}


def language(settings: Language, languages: Mapping[str, str]) -> RowStep:
    """Drop traces of which a piece, or a share of the letters, is in another language than their
    problem's (`languages`, by problem id) or than those allowed: `other_language` where most of the
    pieces are, `mixed_language` otherwise.
    """

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        rows = list(traces)
        texts = [whole_text(trace) for trace in rows]
        asked = [pieces(text, settings.pieces) for text in texts]
        allowed = [
            tuple(settings.allow or [languages.get(trace.problem_id, "en")]) for trace in rows
        ]
        names = _all_spoken(asked, allowed)
        for number, trace in enumerate(rows):
            own = allowed[number]
            fault = _foreign(asked[number], names[number], settings, own)
            fault = fault or _letters(texts[number], settings, own)
            if fault is not None:
                reason, detail = fault
                yield Drop(trace_id=trace.id, step="language", reason=reason, detail=detail)

    return step


def _all_spoken(
    pieces: Sequence[Sequence[str]], allowed: Sequence[tuple[str, ...]]
) -> list[list[str | None]]:
    """The language of each piece of each text, asked of all texts at once that allow the same."""
    found: list[list[str | None]] = [[] for _ in pieces]
    for own in set(allowed):
        chosen = [number for number, languages in enumerate(allowed) if languages == own]
        names = iter(spoken([piece for number in chosen for piece in pieces[number]], own))
        for number in chosen:
            found[number] = list(itertools.islice(names, len(pieces[number])))
    return found


def _foreign(
    asked: Sequence[str], names: Sequence[str | None], settings: Language, allowed: tuple[str, ...]
) -> tuple[str, str] | None:
    """Why pieces in other languages than allowed are too many."""
    spoken_in = zip(asked, names, strict=True)
    foreign = [(name, piece) for piece, name in spoken_in if name not in (None, *allowed)]
    if len(foreign) <= settings.max_foreign * len(asked):
        return None
    reason = "other_language" if 2 * len(foreign) > len(asked) else "mixed_language"
    name, piece = foreign[0]
    return reason, f"{len(foreign)} of {len(asked)} pieces, one in {name}: {piece[:80]}"


def _letters(text: str, settings: Language, allowed: tuple[str, ...]) -> tuple[str, str] | None:
    """Why letters of scripts that no allowed language has are too many."""
    if text.isascii():
        return None
    most = max(_A_NAME, settings.max_letters * len(text))
    if len(text) - len(text.encode("ascii", "ignore")) <= most:
        return None
    letters = _other_scripts(allowed).findall(text)
    if len(letters) > most:
        share = len(letters) / len(text)
        return "mixed_language", f"{share:.1%} letters of other scripts: {''.join(letters[:20])}"
    return None


def pieces(text: str, count: int) -> list[str]:
    """Up to `count` pieces of a text, evenly from its begin to its end, without code and formulas;
    those with too few letters are left out.
    """
    if "```" in text:
        text = _CODE.sub(" ", text)
    room = max(0, len(text) - _PIECE)
    begins = {room * number // max(1, count - 1) for number in range(count)}
    cut = (_plain(text[begin : begin + _PIECE]) for begin in sorted(begins))
    return [piece for piece in cut if piece]


def _plain(text: str) -> str:
    """The first words of a text, without what is no language; empty where there are too few."""
    if text.isascii():  # ten times as fast
        piece = " ".join([word for word in text.split() if word.strip(_EDGES).isalpha()])[:_ASKED]
        return piece if len(piece) - piece.count(" ") >= _LEAST else ""
    piece = " ".join(_NO_LANGUAGE.sub(" ", text).split())[:_ASKED]
    return piece if sum(map(str.isalpha, piece)) >= _LEAST else ""


def spoken(texts: Sequence[str], allowed: Collection[str] = ()) -> list[str | None]:
    """The language of each text as its ISO 639-1 code; None where it is not clear."""
    found = _detector(tuple(sorted({*_TOLD, *allowed}))).classify(texts)
    return [name if share >= _SURE else None for name, share in found]


@lru_cache(maxsize=8)
def _detector(languages: tuple[str, ...]) -> Detector:
    try:
        return detector(languages)
    except ValueError as error:
        raise ValueError(f"filter.steps: language: {error}") from error


@lru_cache(maxsize=8)
def _other_scripts(allowed: tuple[str, ...]) -> re.Pattern[str]:
    """Letters of the scripts that none of the allowed languages is written in."""
    foreign = (
        letters for names, letters in _SCRIPTS.items() if not set(names.split()) & set(allowed)
    )
    return re.compile(f"[{''.join(foreign)}]")
