"""Texts that mean the same, by the embeddings of a static model.

A static model (model2vec: Tulkens and van Dongen 2024, github.com/MinishLab/model2vec) has one
vector for each token, and a text's embedding is the mean of its tokens'. That costs little more
than tokenising, and does not know the order of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from filter.near import Twins

Places = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

_IN_MEMORY = 1 << 30  # bytes of embeddings, from which on they lie in a file
_BLOCK = 2_048  # rows that are compared with as many others at once
_ROUNDED = 1e-6  # by which a text's similarity to itself can miss 1


def load_embedder(model: str) -> Callable[[Sequence[str]], Vectors]:
    """A function that gives each text's embedding, of length 1: float32 of shape (texts,
    dimensions). A text without any token that the model knows has zeros. `model` is a folder or a
    hub id.

    Raises:
        ValueError: model2vec is not installed, or there is no such model.

    """
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise ValueError(
            "the filter's step `semantic` needs model2vec: pip install 'tracestill[semantic]'"
        ) from error
    try:
        static = StaticModel.from_pretrained(model)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"filter.steps: semantic: model: no static model in {model}: {why}") from (
            error
        )

    def embed(texts: Sequence[str]) -> Vectors:
        # Its own default reads no more than the first 512 tokens of a text.
        made: Any = static.encode(list(texts), max_length=None, use_multiprocessing=False)
        vectors: Vectors = np.array(made, np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(norms > 0, norms, 1)
        return vectors

    return embed


def embed_all(
    parts: Iterable[tuple[Places, Sequence[str]]],
    count: int,
    embed: Callable[[Sequence[str]], Vectors],
    scratch: Path,
) -> Vectors:
    """The embeddings of `count` texts, which come some at a time with their rows. Beyond a GiB they
    are mapped from a file in `scratch`.
    """
    (width,) = embed([""]).shape[1:]
    if count * width * 4 > _IN_MEMORY:
        path = scratch / "embeddings.bin"
        vectors: Vectors = np.memmap(path, np.float32, "w+", shape=(count, width))
    else:
        vectors = np.zeros((count, width), np.float32)
    for rows, texts in parts:
        vectors[rows] = embed(texts)
    return vectors


def similar_twins(vectors: Vectors, threshold: float, groups: npt.NDArray[Any]) -> Twins:
    """Which of these texts are like others: a text is, where one before it stays that has the same
    `groups` and a cosine similarity of at least `threshold`; it is the first such one's.

    Every text is compared with all before it that stay, in blocks: n texts of d dimensions take
    about n² · d operations.
    """
    twins = Twins(np.full(len(vectors), -1, np.int64), np.zeros(len(vectors)))
    order = np.argsort(groups, kind="stable")
    begins = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]])
    for members in np.split(order, begins[1:]):
        if len(members) > 1:
            _find(vectors, members, threshold - _ROUNDED, twins)
    return twins


def _find(vectors: Vectors, members: Places, threshold: float, twins: Twins) -> None:
    """Note the twins among a group's members, which are in the order in which they should stay."""
    kept = members[:0]
    for begin in range(0, len(members), _BLOCK):
        block = members[begin : begin + _BLOCK]
        own = vectors[block]
        for start in range(0, len(kept), _BLOCK):
            leaders = kept[start : start + _BLOCK]
            left = np.flatnonzero(twins.of[block] < 0)
            found = own[left] @ vectors[leaders].T
            alike = found >= threshold
            rows = np.flatnonzero(alike.any(axis=1))
            firsts = alike[rows].argmax(axis=1)
            twins.of[block[left[rows]]] = leaders[firsts]
            twins.similarity[block[left[rows]]] = found[rows, firsts]
        left = np.flatnonzero(twins.of[block] < 0)
        found = own[left] @ own[left].T
        rest = block[left]
        alike = np.tril(found >= threshold, -1)
        for row in np.flatnonzero(alike.any(axis=1)):
            firsts = np.flatnonzero(alike[row] & (twins.of[rest] < 0))
            if len(firsts):
                twins.of[rest[row]] = rest[firsts[0]]
                twins.similarity[rest[row]] = found[row, firsts[0]]
        kept = np.concatenate([kept, rest[twins.of[rest] < 0]])
