"""Problems and traces that hold an item of a benchmark, with what shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filter.hashing import buffers
from filter.overlap import Benchmarks, Hit, find_items, index_items
from filter.tokens import read_words, tables
from tracestill.records import BenchmarkItem, Match
from tracestill.records.texts import shortened

_SHOWN = 400  # characters of an excerpt or of an item


@dataclass(frozen=True, slots=True)
class Finder:
    """Looks for items of benchmarks. May be pickled."""

    items: tuple[BenchmarkItem, ...]
    index: Benchmarks

    def matches(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        *,
        least: int = 1,
        renumbered: float | None = None,
    ) -> list[Match | None]:
        """For each text, which has an id, the item that it holds, if any: see `find_items`."""
        hits = find_items(texts, self.index, least=least, renumbered=renumbered)
        return [
            None if hit is None else self._match(own, text, hit)
            for own, text, hit in zip(ids, texts, hits, strict=True)
        ]

    def _match(self, own: str, text: str, hit: Hit) -> Match:
        item = self.items[hit.item]
        words = min(int(self.index.lengths[hit.item]), self.index.ngram + hit.hits - 1)
        return Match(
            id=own,
            benchmark=item.benchmark,
            item=item.id,
            kind=hit.kind,
            runs=hit.hits,
            excerpt=shortened(_words(text, hit.at, words, hit.kind == "renumbered"), _SHOWN),
            item_text=shortened(item.text, _SHOWN),
        )


def finder(items: Sequence[BenchmarkItem], ngram: int) -> Finder:
    """Prepare items to be looked for by runs of `ngram` words."""
    return Finder(tuple(items), index_items([item.text for item in items], ngram))


def described(match: Match) -> str:
    """A match in a line: what was found, and the item beside it."""
    kinds = {
        "run": "has a part of it",
        "whole": "has it as a whole",
        "renumbered": "is it with other numbers",
    }
    where = f"{match.benchmark} {match.item}"
    return f"{where}, {kinds[match.kind]}: {match.excerpt} | the item: {match.item_text}"


def _words(text: str, first: int, count: int, blind: bool) -> str:
    """`count` words of a text from the word `first` on, as they stand."""
    data, offsets = buffers([text])
    room = len(data) + 2
    starts, hashes = np.empty(room, np.int64), np.empty(room, np.uint64)
    places = np.empty(room, np.int64)
    total = read_words(data, 0, offsets[1], *tables(), blind, starts, hashes, places)
    places[total] = len(data)
    raw = data[places[first] : places[min(total, first + count)]].tobytes()
    return raw.decode(errors="replace").strip()
