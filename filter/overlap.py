"""Find texts that hold a benchmark's item: word for word, as a part, or with other numbers.

Texts are compared by their words without case, punctuation and the like (`filter.tokens`). An item
is found in a text that shares a run of n words with it; an item of fewer words, if all of them
stand there in a row; and, where it is asked for, an item whose runs with numbers left open the text
has most of: the same problem with other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from filter.hashing import Bytes, Hashes, Offsets, buffers, compiled, mixed
from filter.tokens import NO_PLACES, Places, powers, read_words, run_hash, tables

Kind = Literal["run", "whole", "renumbered"]
Numbers = npt.NDArray[np.int32]

_SHORT = 5  # words: a shorter item is too common to be looked for within texts
_FEW = 8  # items that are counted at once in a text
_RUN, _WHOLE, _RENUMBERED = np.uint64(0x52554E), np.uint64(0x574F4C), np.uint64(0x4E554D)
_LOG_BITS = 21  # 256 kB
_BITS = 1 << _LOG_BITS
_KINDS: tuple[Kind, ...] = ("run", "whole", "renumbered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmarks:
    """The items of benchmarks, ready to be looked for. Made by `index_items`; may be pickled."""

    ngram: int
    runs: Numbers
    """How many runs each item has."""
    others: Numbers
    """For a short item another one that begins with the same words; -1 if there is none."""
    lengths: Numbers
    """How many words each item has."""
    whole: Hashes
    """The hash of all words of each item."""
    anchors: Hashes
    """The keys of all runs of 5 words: nothing of an item begins where none of them stands."""
    keys: Hashes
    """A hash table with open addressing; 0 is a free slot."""
    items: Numbers
    """The item of each slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a text has of an item: `hits` runs of it, the first from the word `at` on."""

    item: int
    kind: Kind
    hits: int
    at: int


def index_items(texts: Sequence[str], ngram: int) -> Benchmarks:
    """Prepare items, given as their texts, to be looked for by runs of `ngram` words."""
    data, offsets = buffers(texts)
    size = int((offsets[1:] - offsets[:-1]).max(initial=0)) + 2
    starts, hashes, power = np.empty(size, np.int64), np.empty(size, np.uint64), powers(size)
    entries: dict[int, int] = {}
    anchors = [np.zeros(0, np.uint64)]
    runs, lengths = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
    others, whole = np.full(len(texts), -1, np.int32), np.zeros(len(texts), np.uint64)
    for item in range(len(texts)):
        where = offsets[item], offsets[item + 1]
        for blind in (True, False):
            count = read_words(data, *where, *tables(), blind, starts, hashes, NO_PLACES)
            if count >= ngram:
                salt = _RENUMBERED if blind else _RUN
                for key in run_keys(starts, hashes, power, count, ngram, salt):
                    entries.setdefault(int(key), item)
        lengths[item] = count
        runs[item] = max(0, count - ngram + 1)
        whole[item] = run_hash(starts, hashes, power, 0, count)
        if count >= _SHORT:
            anchors.append(run_keys(starts, hashes, power, count, _SHORT, _WHOLE))
        if _SHORT <= count < ngram:
            anchor = int(anchors[-1][0])
            others[item] = entries.get(anchor, -1)
            entries[anchor] = item
    slots = 1 << max(10, (4 * len(entries)).bit_length())
    keys, items = np.zeros(slots, np.uint64), np.zeros(slots, np.int32)
    _fill(
        np.fromiter(entries, np.uint64, len(entries)),
        np.fromiter(entries.values(), np.int32, len(entries)),
        keys,
        items,
    )
    return Benchmarks(
        ngram=ngram,
        runs=runs,
        others=others,
        lengths=lengths,
        whole=whole,
        anchors=np.unique(np.concatenate(anchors)),
        keys=keys,
        items=items,
    )


def find_items(
    texts: Sequence[str], benchmarks: Benchmarks, *, least: int = 1, renumbered: float | None = None
) -> list[Hit | None]:
    """For each text the item that it has most of, or None: at least `least` of its runs of words,
    or all of a short one; or the share `renumbered` of its runs with numbers left open.
    """
    data, offsets = buffers(texts)
    return find_in_buffers(data, offsets, benchmarks, least=least, renumbered=renumbered)


def find_in_buffers(
    data: Bytes,
    offsets: Offsets,
    benchmarks: Benchmarks,
    *,
    least: int = 1,
    renumbered: float | None = None,
) -> list[Hit | None]:
    """The same for texts in a buffer (see `filter.hashing`)."""
    found = _scan(
        data, offsets[:-1], offsets[1:], *tables(), benchmarks.ngram, benchmarks.runs,
        benchmarks.others, benchmarks.lengths, benchmarks.whole, benchmarks.anchors,
        benchmarks.keys, benchmarks.items, least, 2.0 if renumbered is None else renumbered,
    )  # fmt: skip
    return [
        None if item < 0 else Hit(item=item, kind=_KINDS[kind], hits=hits, at=at)
        for item, kind, hits, at in found.tolist()
    ]


@compiled
def run_keys(
    starts: Places, hashes: Hashes, power: Hashes, count: int, n: int, salt: np.uint64
) -> Hashes:
    """The key of each run of `n` of `count` words."""
    keys = np.empty(count - n + 1, np.uint64)
    for first in range(count - n + 1):
        run = run_hash(starts, hashes, power, first, first + n)
        keys[first] = mixed(run ^ salt) | np.uint64(1)
    return keys


@compiled
def _fill(entries: Hashes, numbers: Numbers, keys: Hashes, items: Numbers) -> None:
    mask = np.uint64(len(keys) - 1)
    for entry in range(len(entries)):
        slot = (entries[entry] >> np.uint64(8)) & mask
        while keys[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        keys[slot], items[slot] = entries[entry], numbers[entry]


@compiled
def _item(key: np.uint64, keys: Hashes, items: Numbers) -> int:
    """The item of a key, or -1."""
    mask = np.uint64(len(keys) - 1)
    slot = (key >> np.uint64(8)) & mask
    while keys[slot] != 0:
        if keys[slot] == key:
            return int(items[slot])
        slot = (slot + np.uint64(1)) & mask
    return -1


@compiled
def _filter_of(keys: Hashes) -> npt.NDArray[np.uint8]:
    """A bit for each key that is there (a Bloom filter with one hash), which fits a core's cache:
    nearly all that is looked for is not there.
    """
    bits = np.zeros(_BITS // 8, np.uint8)
    for key in keys:
        if key != 0:
            bit = key >> np.uint64(64 - _LOG_BITS)
            bits[bit >> np.uint64(3)] |= np.uint8(1) << np.uint8(bit & np.uint64(7))
    return bits


@compiled
def _scan(
    data: Bytes,
    begins: Offsets,
    ends: Offsets,
    kinds: Bytes,
    lower: Bytes,
    n: int,
    runs: Numbers,
    others: Numbers,
    lengths: Numbers,
    whole: Hashes,
    anchors: Hashes,
    keys: Hashes,
    items: Numbers,
    least: int,
    renumbered: float,
) -> npt.NDArray[np.int64]:
    """For each text its item (-1 if none), the kind, the hits and the first word."""
    texts, longest = len(begins), 0
    for text in range(texts):
        longest = max(longest, ends[text] - begins[text])
    starts, hashes = np.empty(longest + 2, np.int64), np.empty(longest + 2, np.uint64)
    power, nowhere = powers(longest + 2), np.zeros(0, np.int64)
    bits, anchored = _filter_of(keys), _filter_of(anchors)
    result = np.full((texts, 4), -1, np.int64)
    counted = np.zeros((_FEW, 3), np.int64)  # item, hits and first word
    for text in range(texts):
        own = result[text]
        count = read_words(
            data, begins[text], ends[text], kinds, lower, False, starts, hashes, nowhere
        )
        counted[:, 0] = -1
        for first in range(count - _SHORT + 1):
            key = mixed(run_hash(starts, hashes, power, first, first + _SHORT) ^ _WHOLE)
            if not _may_have(anchored, key):
                continue
            if first + n <= count:
                run = run_hash(starts, hashes, power, first, first + n)
                _count(run ^ _RUN, first, bits, keys, items, counted)
            if own[0] < 0 and _may_have(bits, key):
                item = _item(key | np.uint64(1), keys, items)
                while item >= 0:
                    end = first + lengths[item]
                    if end <= count and run_hash(starts, hashes, power, first, end) == whole[item]:
                        own[:] = (item, 1, 1, first)
                        break
                    item = int(others[item])
        for row in range(_FEW):
            item, hits, first = counted[row]
            if item >= 0 and hits >= min(least, runs[item]) and hits > own[2]:
                own[:] = (item, 0, hits, first)
        if own[0] >= 0 or renumbered > 1.0:
            continue
        count = read_words(
            data, begins[text], ends[text], kinds, lower, True, starts, hashes, nowhere
        )
        counted[:, 0] = -1
        for first in range(count - n + 1):
            run = run_hash(starts, hashes, power, first, first + n)
            _count(run ^ _RENUMBERED, first, bits, keys, items, counted)
        for row in range(_FEW):
            item, hits, first = counted[row]
            if item >= 0 and hits >= renumbered * runs[item] and hits > own[2]:
                own[:] = (item, 2, hits, first)
    return result


@compiled
def _may_have(bits: npt.NDArray[np.uint8], key: np.uint64) -> bool:
    bit = key >> np.uint64(64 - _LOG_BITS)
    return bool(bits[bit >> np.uint64(3)] >> np.uint8(bit & np.uint64(7)) & np.uint8(1))


@compiled
def _count(
    run: np.uint64,
    first: int,
    bits: npt.NDArray[np.uint8],
    keys: Hashes,
    items: Numbers,
    counted: npt.NDArray[np.int64],
) -> None:
    """Count a run of words for its item, if it is one's."""
    key = mixed(run)
    if not _may_have(bits, key):
        return
    item = _item(key | np.uint64(1), keys, items)
    if item < 0:
        return
    for row in range(len(counted)):
        if counted[row, 0] == item:
            counted[row, 1] += 1
            return
        if counted[row, 0] < 0:
            counted[row, 0], counted[row, 1], counted[row, 2] = item, 1, first
            return
