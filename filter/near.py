"""Near duplicates among many texts: candidates by MinHash, then their exact similarity.

A text's shingles are its runs of n words. Texts whose MinHash signatures (Broder 1997) agree in a
band of neighbouring values are candidates (locality-sensitive hashing: Leskovec, Rajaraman, Ullman,
Mining of Massive Datasets, ch. 3); the Jaccard similarity of the shingles decides. Bands are so
narrow that a pair at the threshold is missed once in 2,000: a candidate in vain costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filter.hashing import (
    Bytes,
    Hashes,
    Offsets,
    band_keys,
    run_sets,
    signatures,
    similarities,
    spaced_buffers,
)

Places = npt.NDArray[np.int64]
Compare = Callable[[Places, Places], npt.NDArray[np.float64]]
"""The exact similarities of pairs of texts, by their places."""

_PERMUTATIONS = 128
_MISSED = 1 / 2_000
_PAIRWISE = 32  # texts that share a key, up to which all pairs are candidates
_LEADERS = 8  # of more than that, so many are compared with all others at a time


def _permutations() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    generator = np.random.default_rng(1)
    factors, terms = generator.integers(0, 2**32, (2, _PERMUTATIONS), dtype=np.uint64)
    return (factors | np.uint64(1)).astype(np.uint32), terms.astype(np.uint32)


_FACTORS, _TERMS = _permutations()


@dataclass(frozen=True, slots=True)
class Twins:
    """For each text the place of the kept one that it is a duplicate of, -1 if it is none's, and
    how similar the two are.
    """

    of: Places
    similarity: npt.NDArray[np.float64]


def near_twins(
    texts: Sequence[str], ngram: int, threshold: float, groups: Hashes | None = None
) -> Twins:
    """Which of these texts are near duplicates of others: the first of likes stays. Those whose
    hashes in `groups` differ are none, however like they are.
    """
    data, offsets = spaced_buffers(texts)
    keys = keys_of(data, offsets, ngram, threshold)
    if groups is not None:
        keys ^= groups[:, None]

    def compare(left: Places, right: Places) -> npt.NDArray[np.float64]:
        places, numbers = np.unique(np.concatenate([left, right]), return_inverse=True)
        sets, begins = run_sets(data, offsets[places], offsets[places + 1], ngram)
        return similarities(sets, begins, numbers[: len(left)], numbers[len(left) :])

    return find_twins(keys.T, len(texts), compare, threshold)


def text_keys(texts: Sequence[str], ngram: int, threshold: float) -> Hashes:
    """For each text and band a hash of what its signature has there. Shape (texts, bands)."""
    return keys_of(*spaced_buffers(texts), ngram, threshold)


def text_signatures(texts: Sequence[str], ngram: int) -> npt.NDArray[np.uint32]:
    """The MinHash of each text. Shape (texts, 128)."""
    data, offsets = spaced_buffers(texts)
    return signatures(data, offsets[:-1], offsets[1:], ngram, _FACTORS, _TERMS)


def keys_of(data: Bytes, offsets: Offsets, ngram: int, threshold: float) -> Hashes:
    """The same for texts in a buffer."""
    made = signatures(data, offsets[:-1], offsets[1:], ngram, _FACTORS, _TERMS)
    return band_keys(made, rows_of_a_band(threshold))


def bands_of(threshold: float) -> int:
    """How many bands there are."""
    return _PERMUTATIONS // rows_of_a_band(threshold)


def rows_of_a_band(threshold: float) -> int:
    """How many values make a band: the most with which a pair at the threshold is rarely missed."""
    for rows in range(_PERMUTATIONS, 1, -1):
        if (1 - threshold**rows) ** (_PERMUTATIONS // rows) <= _MISSED:
            return rows
    return 1


def find_twins(bands: Iterable[Hashes], count: int, compare: Compare, threshold: float) -> Twins:
    """Which of `count` texts are duplicates of others: a text is, where one before it stays that is
    a candidate and at least `threshold` similar. `bands` gives the texts' keys, band by band; texts
    that share a key are candidates.
    """
    pairs, crowded = _candidates(bands, count)
    compared, alike = pairs[:0], pairs[:0]
    similarity = np.zeros(0)
    while True:
        found = compare(pairs // count, pairs % count) if len(pairs) else np.zeros(0)
        compared = np.union1d(compared, pairs)
        alike = np.concatenate([alike, pairs[found >= threshold]])
        similarity = np.concatenate([similarity, found[found >= threshold]])
        twins = _decide(alike, similarity, count)
        pairs = _uncompared(crowded, twins, compared, count)
        if not len(pairs):
            return twins


def _candidates(bands: Iterable[Hashes], count: int) -> tuple[Places, list[Places]]:
    """The pairs (as earlier * count + later) that share a key, and the texts of each key that too
    many share for that.
    """
    pairs = [np.zeros(0, np.int64)]
    crowded: dict[bytes, Places] = {}
    for keys in bands:
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[begins, count])
        for size in np.unique(sizes[sizes > 1]):
            groups = order[begins[sizes == size][:, None] + np.arange(size)]
            if size > _PAIRWISE:
                crowded |= {group.tobytes(): group for group in groups}
                continue
            one, other = np.triu_indices(size, 1)
            pairs.append((groups[:, one] * count + groups[:, other]).ravel())
    return np.unique(np.concatenate(pairs)), list(crowded.values())


def _decide(alike: Places, similarity: npt.NDArray[np.float64], count: int) -> Twins:
    """Go through the texts in order; each is a duplicate of the first kept one that it is like."""
    twins = Twins(np.full(count, -1, np.int64), np.zeros(count))
    later = np.lexsort((alike // count, alike % count))
    for pair, value in zip(alike[later].tolist(), similarity[later].tolist(), strict=True):
        first, text = divmod(pair, count)
        if twins.of[text] < 0 and twins.of[first] < 0:
            twins.of[text], twins.similarity[text] = first, value
    return twins


def _uncompared(crowded: Sequence[Places], twins: Twins, compared: Places, count: int) -> Places:
    """Where many share a key: of those that stay, the first few that were not yet compared with
    all that stay after them, and these.
    """
    pairs = [np.zeros(0, np.int64)]
    for group in crowded:
        kept, leaders = group[twins.of[group] < 0], 0
        for number, first in enumerate(kept):
            lacking = _missing(first * count + kept[number + 1 :], compared)
            if len(lacking):
                pairs.append(lacking)
                leaders += 1
            if leaders == _LEADERS:
                break
    return np.unique(np.concatenate(pairs))


def _missing(wanted: Places, ordered: Places) -> Places:
    """Those wanted that are not among the ordered ones."""
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return wanted[ordered[at] != wanted] if len(ordered) else wanted
