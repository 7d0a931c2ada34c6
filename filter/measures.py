"""What a trace's text is like, measured in one pass over its bytes by compiled code.

A word is what stands between white space; each Chinese, Japanese or Korean character is one. Only
letters, without case, count for the branch words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filter.hashing import BASIS, PRIME, Bytes, Hashes, Offsets, buffers, compiled, mixed

RUN = 20  # words of a run that should not come again
_LONGEST_PERIOD = 400  # words, of what is said over and over at the end
_LEAST_LOOP = 40  # words
_COMPRESSED = 4_096  # bytes, at the end, where loops are

# What is counted of each text, in this order.
_WORDS, _AGAIN, _OFTEN, _LOOP, _PERIOD, _LINES, _LINES_AGAIN, _BRANCHES, _LONGEST, _ODD = range(10)
_COUNTS = 10


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures of some texts, an array with a value for each."""

    words: npt.NDArray[np.int64]
    repeated: npt.NDArray[np.float64]
    """The share of runs of 20 words that came before."""
    often: npt.NDArray[np.int64]
    """How often the most frequent of them comes."""
    loops: npt.NDArray[np.float64]
    """How often the end of the text is said in a row; 1 where it is no loop."""
    repeated_lines: npt.NDArray[np.float64]
    """The share of lines of at least 5 words that came before."""
    branches: npt.NDArray[np.float64]
    """Branch words per 1,000 words."""
    longest: npt.NDArray[np.int64]
    """Bytes of the longest word."""
    odd: npt.NDArray[np.int64]
    """Control characters and such that stand for what could not be read (U+FFFD)."""
    compression: npt.NDArray[np.float64]
    """The last 4 kB as compressed by zstd at level 1, relative to their size."""


def measure(texts: Sequence[str], branch_words: Sequence[str]) -> Measures:
    """Measure texts; `branch_words` are single words in lower case."""
    return measure_buffers(*buffers(texts), branch_words)


def measure_buffers(data: Bytes, offsets: Offsets, branch_words: Sequence[str]) -> Measures:
    """The same for texts in a buffer (see `filter.hashing`)."""
    found = _counted(data, offsets[:-1], offsets[1:], _branch_hashes(tuple(branch_words)))
    words = found[:, _WORDS]
    runs = np.maximum(1, words - RUN + 1)
    period = np.maximum(1, found[:, _PERIOD])
    return Measures(
        words=words,
        repeated=found[:, _AGAIN] / runs,
        often=found[:, _OFTEN],
        loops=1 + found[:, _LOOP] / period,
        repeated_lines=found[:, _LINES_AGAIN] / np.maximum(1, found[:, _LINES]),
        branches=found[:, _BRANCHES] * 1000 / np.maximum(1, words),
        longest=found[:, _LONGEST],
        odd=found[:, _ODD],
        compression=_compression(data, offsets),
    )


def _compression(data: Bytes, offsets: Offsets) -> npt.NDArray[np.float64]:
    codec, whole = pa.Codec("zstd", 1), memoryview(cast(Any, np.ascontiguousarray(data)))
    begins = np.maximum(offsets[:-1], offsets[1:] - _COMPRESSED)
    sizes = [
        len(codec.compress(whole[begin:end], asbytes=True)) / max(1, end - begin)
        for begin, end in zip(begins.tolist(), offsets[1:].tolist(), strict=True)
    ]
    return np.array(sizes)


@lru_cache(maxsize=8)
def _branch_hashes(words: tuple[str, ...]) -> Hashes:
    made = []
    for word in words:
        value = int(BASIS)
        for byte in word.encode():
            value = ((value ^ byte) * int(PRIME)) & 0xFFFFFFFFFFFFFFFF
        made.append(value)
    return np.array(sorted(made), np.uint64)


@compiled
def _counted(data: Bytes, begins: Offsets, ends: Offsets, branch: Hashes) -> npt.NDArray[np.int64]:
    texts = len(begins)
    found = np.zeros((texts, _COUNTS), np.int64)
    longest = 0
    for text in range(texts):
        longest = max(longest, ends[text] - begins[text])
    words = np.empty(longest // 2 + longest // 3 + 4, np.uint64)
    lines = np.empty(longest // 10 + 4, np.uint64)
    size = 16
    while size < 2 * len(words):
        size *= 2
    keys = np.zeros(size, np.uint64)
    counts = np.zeros(size, np.int32)
    for text in range(texts):
        row = found[text]
        count = _read(data, begins[text], ends[text], branch, words, lines, row)
        row[_WORDS] = count
        if count >= 2 * RUN:
            _runs(words, count, keys, counts, row)
            _loop(words, count, row)
        if row[_LINES] > 1:
            ordered = np.sort(lines[: row[_LINES]])
            for line in range(1, len(ordered)):
                row[_LINES_AGAIN] += ordered[line] == ordered[line - 1]
    return found


@compiled
def _read(
    data: Bytes,
    begin: int,
    end: int,
    branch: Hashes,
    words: Hashes,
    lines: Hashes,
    row: npt.NDArray[np.int64],
) -> int:
    """Write the hashes of words and of lines, and count what needs no more than the bytes."""
    count = line_words = began = 0
    word, letters, line = BASIS, BASIS, BASIS
    inside = in_letters = False
    for place in range(begin, end + 1):
        byte = data[place] if place < end else np.uint8(10)
        letter = np.uint8(97) <= (byte | np.uint8(32)) <= np.uint8(122)
        if letter and byte < 128:
            letters = (letters ^ np.uint64(byte | np.uint8(32))) * PRIME
            in_letters = True
        elif in_letters:
            for known in branch:
                row[_BRANCHES] += known == letters
            letters, in_letters = BASIS, False
        # Chinese, Japanese and Korean characters of three bytes begin with these.
        alone = np.uint8(0xE3) <= byte <= np.uint8(0xED) and byte != np.uint8(0xE1)
        if byte <= np.uint8(32) or alone:
            if inside:
                words[count] = mixed(word)
                line = (line ^ words[count]) * PRIME
                count += 1
                line_words += 1
                row[_LONGEST] = max(row[_LONGEST], place - began)
                word, inside = BASIS, False
            if byte == np.uint8(10):
                if line_words >= 5:
                    lines[row[_LINES]] = mixed(line)
                    row[_LINES] += 1
                line, line_words = BASIS, 0
            elif byte < np.uint8(32) and byte != np.uint8(9) and byte != np.uint8(13):
                row[_ODD] += 1
        if byte > np.uint8(32):
            if not inside:
                inside, began = True, place
            word = (word ^ np.uint64(byte)) * PRIME
            if byte == np.uint8(0xBD) and place - begin >= 2:
                row[_ODD] += data[place - 1] == np.uint8(0xBF) and data[place - 2] == np.uint8(0xEF)
    return count


@compiled
def _runs(
    words: Hashes,
    count: int,
    keys: Hashes,
    counts: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
) -> None:
    """Count the runs of 20 words that came before, in a hash table as large as this text needs."""
    size = 16
    while size < 2 * count:
        size *= 2
    mask = np.uint64(size - 1)
    keys[:size] = 0
    counts[:size] = 0
    factor = np.uint64(0x9E3779B97F4A7C15)
    top = np.uint64(1)
    for _ in range(RUN - 1):
        top *= factor
    rolled = np.uint64(0)
    for place in range(count):
        if place >= RUN:
            rolled -= words[place - RUN] * top
        rolled = rolled * factor + words[place]
        if place < RUN - 1:
            continue
        key = mixed(rolled) | np.uint64(1)
        slot = (key >> np.uint64(8)) & mask
        while keys[slot] != 0 and keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        if keys[slot] == key:
            row[_AGAIN] += 1
        keys[slot] = key
        counts[slot] += 1
        row[_OFTEN] = max(row[_OFTEN], counts[slot])


@compiled
def _loop(words: Hashes, count: int, row: npt.NDArray[np.int64]) -> None:
    """Find what is said over and over at the end: the period for which the longest end of the text
    equals what stands a period before it. The last word may have been cut, and does not count.
    """
    last = count - 2
    for period in range(1, min(_LONGEST_PERIOD, last // 2) + 1):
        place = last
        while place >= period and words[place] == words[place - period]:
            place -= 1
        same = last - place
        better = row[_PERIOD] == 0 or same * row[_PERIOD] > row[_LOOP] * period
        if better and same >= max(_LEAST_LOOP, period):
            row[_LOOP], row[_PERIOD] = same, period
