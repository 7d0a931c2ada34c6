"""Find statements that stand in place of a solution, by the patterns of `patterns/refusals.yaml`.

They are looked for where such statements stand: at the beginning and the end of an answer, and in a
reasoning that is short.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tracestill.records import AnyTrace
from tracestill.records.patterns import user_finder
from tracestill.records.private import Finder

_SHORT = 1_200  # characters of a text that is searched as a whole
_EDGE = 600  # of a longer one, at each end
_CHINESE = re.compile("[\u4e00-\u9fff]")
# Where Latin words begin. In Chinese no space tells.
_WORD = r"(?<![\w'])"


@dataclass(frozen=True, slots=True)
class Statements:
    """What is looked for: each topic with its searches, and of these the user's `own`. Where
    neither `latin` nor `chinese` finds anything in a text in small letters, none of those that are
    shipped would: one expression at a time, and whatever the case, takes ten times as long.
    """

    topics: Mapping[str, Sequence[Finder]]
    own: Mapping[str, Sequence[Finder]]
    latin: re.Pattern[str]
    chinese: re.Pattern[str]

    def find(self, trace: AnyTrace, without: Collection[str] = ()) -> tuple[str, str] | None:
        """The first topic that a trace holds a statement of, and that statement.

        Raises:
            ValueError: a pattern of the user's takes too long.

        """
        answer, reasoning = trace.answer or "", trace.reasoning or ""
        for text in (answer, reasoning) if len(reasoning) <= _SHORT else (answer,):
            for begin, piece in _pieces(text):
                topics = self.topics if self._may_hold(piece) else self.own
                for topic, searches in topics.items():
                    if topic not in without:
                        found = _first(searches, text, begin, piece)
                        if found is not None:
                            return topic, found
        return None

    def _may_hold(self, piece: str) -> bool:
        small = piece.lower()
        if self.latin.search(small):
            return True
        return not small.isascii() and self.chinese.search(small) is not None


def _first(searches: Iterable[Finder], text: str, begin: int, piece: str) -> str | None:
    """The first statement in a piece of a text that is no character's words."""
    for search in searches:
        for first, last in search(piece):
            if not _in_quotes(text[: begin + first]):
                return " ".join(piece[first:last].split())
    return None


def statements(topics: Collection[str] | None, own: Mapping[str, Sequence[str]]) -> Statements:
    """The statements of these topics, None for all that are shipped, and those by the user's own
    regular expressions.
    """
    shipped = {
        topic: patterns
        for topic, patterns in _table()["statements"].items()
        if topics is None or topic in topics
    }
    every = [pattern for patterns in shipped.values() for pattern in patterns]
    key = "filter.steps: refusal: patterns"
    users = {
        topic: [user_finder(one, f"{key}.{topic}", ignore_case=True) for one in patterns]
        for topic, patterns in own.items()
    }
    searches: dict[str, list[Finder]] = {
        topic: [partial(_matches, _one([pattern], re.IGNORECASE)) for pattern in patterns]
        for topic, patterns in shipped.items()
    }
    return Statements(
        topics=searches | {t: [*searches.get(t, []), *patterns] for t, patterns in users.items()},
        own=users,
        latin=_one([one for one in every if not _CHINESE.search(one)]),
        chinese=_one([one for one in every if _CHINESE.search(one)]),
    )


def sensitive_subject(prompt: str) -> str | None:
    """What in a prompt is a subject that R1 is known not to reason about, in small letters."""
    return _of_prompt("skipped_reasoning", prompt)


def asks_who(prompt: str) -> bool:
    """Whether a prompt asks who answers it."""
    return _of_prompt("identity", prompt) is not None


def _of_prompt(topic: str, prompt: str) -> str | None:
    latin, chinese = _asked(topic)
    small = prompt.lower()
    found = latin.search(small) or (None if small.isascii() else chinese.search(small))
    return found and found[0]


@cache
def _asked(topic: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What in prompts belongs to a topic, in Latin letters and in Chinese."""
    patterns = _table()["prompts"][topic]
    latin = [pattern for pattern in patterns if not _CHINESE.search(pattern)]
    return _one(latin), _one([pattern for pattern in patterns if _CHINESE.search(pattern)])


@cache
def _table() -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some builds have no libyaml
    path = Path(__file__).parent / "patterns" / "refusals.yaml"
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def _one(patterns: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """One expression that finds what any of these does; without any, nothing."""
    spread = [pattern.replace(" ", r"\s{1,3}").replace("'", "['’]") for pattern in patterns]
    if not spread:
        return re.compile(r"(?!)")
    begin = "" if _CHINESE.search(spread[0]) else _WORD
    return re.compile(f"{begin}(?:{'|'.join(spread)})", flags)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in pattern.finditer(text))


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The parts of a text that are searched, each with where it begins."""
    if len(text) <= _SHORT:
        yield 0, text
    else:
        yield 0, text[:_EDGE]
        yield len(text) - _EDGE, text[-_EDGE:]


def _in_quotes(before: str) -> bool:
    """Whether what follows a text stands in quotation marks: a character's words."""
    german = "„" in before  # which closes with the mark that opens in English
    pairs = (("„", "“") if german else ("“", "”"), ("«", "»"), ("「", "」"), ("『", "』"))
    odd = before.count('"') % 2 == 1
    return odd or any(before.count(opens) > before.count(closes) for opens, closes in pairs)
