"""Which traces of a problem are least like each other.

Each time the trace is taken that is least like the most similar of those before it (farthest-first
traversal: Gonzalez 1985). Similarity is Jaccard's over runs of 5 words, estimated by MinHash with
32 values, to about a tenth.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from filter.hashing import Hashes
from filter.near import text_signatures

_RUN = 5  # words
_VALUES = 32
COLUMNS = _VALUES // 2  # of 64 bits, in which two values lie side by side


def signature_columns(texts: Sequence[str]) -> Hashes:
    """What is kept of each text to compare it with others. Shape (texts, COLUMNS)."""
    made = np.ascontiguousarray(text_signatures(texts, _RUN)[:, :_VALUES])
    return made.view(np.uint64)


def diverse_ranks(signatures: Hashes, groups: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The order in which the texts of each group are taken, from 0; its first comes first."""
    values = np.ascontiguousarray(signatures).view(np.uint32)
    ranks = np.zeros(len(groups), np.int64)
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0, True])
    for begin, end in itertools.pairwise(bounds.tolist()):
        rows = order[begin:end]
        ranks[rows] = _farthest_first(values[rows])
    return ranks


def _farthest_first(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    ranks = np.zeros(len(values), np.int64)
    nearest = np.full(len(values), -1.0)  # how similar each is to the most similar of those taken
    taken = 0
    for rank in range(1, len(values)):
        nearest = np.maximum(nearest, (values == values[taken]).mean(axis=1))
        nearest[taken] = np.inf
        taken = int(np.argmin(nearest))
        ranks[taken] = rank
    return ranks
