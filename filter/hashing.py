"""Hashes of words and of runs of words, made of texts' UTF-8 bytes by compiled code.

Texts are handed over as one buffer of bytes and the offsets at which each begins, as Arrow keeps
them. A word is what stands between white space (bytes up to 0x20), see `filter.words.spaced`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filter.words import spaced

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

F = TypeVar("F", bound=Callable[..., Any])


def _let_vllm_start() -> None:
    """Let vLLM start in a process that has imported numba. On a CPU vLLM 0.32 asks every value of
    every module for its `__dict__`; llvmlite's library, which has none, takes that for a function
    of its own and wraps it, and vLLM fails on the wrapper.
    """
    from llvmlite.binding import ffi

    wrapper: Any = type(ffi.lib)
    lookup = wrapper.__getattr__

    def look_up(self: Any, name: str) -> Any:
        if name == "__dict__":
            raise AttributeError(name)
        return lookup(self, name)

    wrapper.__getattr__ = look_up


_let_vllm_start()


def compiled(function: F) -> F:
    """Compile a function when it is first called; what was compiled is kept beside the source."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


# Of FNV-1a, by which bytes are hashed.
PRIME = np.uint64(0x100000001B3)
BASIS = np.uint64(0xCBF29CE484222325)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over a run's words, odd
_SPACE = np.uint8(0x20)


def buffers(texts: Sequence[str] | Any) -> tuple[Bytes, Offsets]:
    """Texts as their bytes and offsets (one more than there are texts); without a copy where they
    are Arrow's already. None is an empty text.
    """
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    if isinstance(array, pa.ChunkedArray):
        array = array.cast(pa.large_string()).combine_chunks()
    wide = pa.types.is_large_string(array.type)
    _, offsets, data = cast(Any, array).buffers()
    size = np.dtype(np.int64 if wide else np.int32)
    begins = np.frombuffer(offsets, size)[array.offset : array.offset + len(array) + 1]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return raw, begins.astype(np.int64)


def spaced_buffers(texts: Sequence[str]) -> tuple[Bytes, Offsets]:
    """The bytes and offsets of texts in which each word stands by itself."""
    return buffers([spaced(text) for text in texts])


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """A 64-bit hash's bits spread over all of it (the finaliser of MurmurHash3)."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@compiled
def word_hashes(data: Bytes, begin: int, end: int, out: Hashes) -> int:
    """Write the hash of each word in data[begin:end] to `out`; returns how many there are."""
    count = 0
    inside = False
    value = BASIS
    for place in range(begin, end):
        byte = data[place]
        if byte <= _SPACE:
            if inside:
                out[count] = mixed(value)
                count += 1
                inside = False
                value = BASIS
        else:
            inside = True
            value = (value ^ np.uint64(byte)) * PRIME
    if inside:
        out[count] = mixed(value)
        count += 1
    return count


@compiled
def run_hashes(words: Hashes, count: int, n: int, out: Hashes) -> int:
    """Write the hash of each run of `n` of the first `count` words to `out`; returns how many: one,
    of all words, where there are fewer than `n`.
    """
    n = min(n, count)
    if n == 0:
        out[0] = mixed(BASIS)
        return 1
    top = np.uint64(1)
    for _ in range(n - 1):
        top *= _BASE
    rolled = np.uint64(0)
    for place in range(n):
        rolled = rolled * _BASE + words[place]
    out[0] = mixed(rolled)
    for place in range(n, count):
        rolled = (rolled - words[place - n] * top) * _BASE + words[place]
        out[place - n + 1] = mixed(rolled)
    return count - n + 1


@compiled
def _longest(begins: Offsets, ends: Offsets) -> int:
    longest = 0
    for text in range(len(begins)):
        longest = max(longest, ends[text] - begins[text])
    return longest // 2 + 2


@compiled
def signatures(
    data: Bytes,
    begins: Offsets,
    ends: Offsets,
    n: int,
    factors: npt.NDArray[np.uint32],
    terms: npt.NDArray[np.uint32],
) -> npt.NDArray[np.uint32]:
    """Each text's MinHash over its runs of `n` words: under each of the permutations
    h -> factor * h + term (mod 2^32) the least. Shape (texts, permutations).
    """
    texts, width = len(begins), len(factors)
    made = np.full((texts, width), np.uint32(0xFFFFFFFF))
    words = np.empty(_longest(begins, ends), np.uint64)
    runs = np.empty(_longest(begins, ends), np.uint64)
    for text in range(texts):
        count = word_hashes(data, begins[text], ends[text], words)
        count = run_hashes(words, count, n, runs)
        least = made[text]
        for place in range(count):
            value = np.uint32(runs[place] >> np.uint64(32))
            for number in range(width):
                least[number] = min(
                    least[number], np.uint32(factors[number] * value + terms[number])
                )
    return made


@compiled
def band_keys(made: npt.NDArray[np.uint32], rows: int) -> Hashes:
    """A hash of each `rows` neighbouring values of a signature. Shape (texts, bands)."""
    texts, bands = made.shape[0], made.shape[1] // rows
    keys = np.empty((texts, bands), np.uint64)
    for text in range(texts):
        for band in range(bands):
            value = np.uint64(band) * _BASE
            for row in range(band * rows, (band + 1) * rows):
                value = mixed(value ^ np.uint64(made[text, row])) * _BASE
            keys[text, band] = value
    return keys


@compiled
def run_sets(data: Bytes, begins: Offsets, ends: Offsets, n: int) -> tuple[Hashes, Offsets]:
    """Each text's runs of `n` words as a set: ascending hashes, all texts' in one array, and the
    offsets at which each text's begin.
    """
    texts = len(begins)
    words = np.empty(_longest(begins, ends), np.uint64)
    runs = np.empty(_longest(begins, ends), np.uint64)
    sets = np.empty((ends - begins).sum() // 2 + 2 * texts, np.uint64)
    offsets = np.zeros(texts + 1, np.int64)
    filled = 0
    for text in range(texts):
        count = word_hashes(data, begins[text], ends[text], words)
        count = run_hashes(words, count, n, runs)
        ordered = np.sort(runs[:count])
        for place in range(count):
            if place == 0 or ordered[place] != ordered[place - 1]:
                sets[filled] = ordered[place]
                filled += 1
        offsets[text + 1] = filled
    return sets[:filled].copy(), offsets


@compiled
def similarities(
    sets: Hashes, begins: Offsets, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of each pair of sets, by their numbers."""
    found = np.empty(len(left), np.float64)
    for pair in range(len(left)):
        one, end = begins[left[pair]], begins[left[pair] + 1]
        other, stop = begins[right[pair]], begins[right[pair] + 1]
        total, shared = end - one + stop - other, 0
        while one < end and other < stop:
            if sets[one] == sets[other]:
                shared += 1
                one += 1
                other += 1
            elif sets[one] < sets[other]:
                one += 1
            else:
                other += 1
        found[pair] = shared / (total - shared)
    return found
