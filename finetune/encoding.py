"""Text to token ids and back, in batches on all cores, with the tokenizer's own results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from finetune.sample import Ids

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Let the tokenizer use all cores, whatever TOKENIZERS_PARALLELISM says."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Each item with the result of `work` on it, computed in a thread one item ahead of the caller:
    the tokenizer's library does not hold the GIL.
    """
    with ThreadPoolExecutor(1) as thread:
        before: list[tuple[T, Any]] = []
        for item in items:
            coming = thread.submit(work, item)
            for done, result in before:
                yield done, result.result()
            before = [(item, coming)]
        for done, result in before:
            yield done, result.result()


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    """The ids of each text, without added special tokens."""
    if not tokenizer.is_fast:
        rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [np.array(row, dtype=np.int32) for row in rows]
    # Without offsets, which cost a quarter of the time.
    found = _whole(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.int32) for encoding in found]


def _whole(tokenizer: Any) -> Any:
    """The fast tokenizer without the truncation and padding that a tokenizer.json can ask for."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def decode(tokenizer: Any, rows: Sequence[list[int]]) -> list[str]:
    """The text of each row of ids, special tokens included, spaces left as they are."""
    if tokenizer.is_fast:
        texts: list[str] = tokenizer.backend_tokenizer.decode_batch(rows, skip_special_tokens=False)
        return texts
    plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(ids, **plain) for ids in rows]


class TagFinder:
    """Finds where a tag that each text has once ends among the text's ids."""

    def __init__(self, tokenizer: Any, tag: str) -> None:
        """`tag` is the text to find, such as `</think>`."""
        self._tokenizer = tokenizer
        self._tag = tag
        self._known: list[Ids] = []  # the ids that the tag was seen written with

    def after(self, ids: Ids, text: str, end: int) -> int:
        """The number of `ids` up to the tag's end, which is at character `end` of `text`; a token
        that holds the end of the tag and more counts too.
        """
        for known in self._known:
            starts = np.flatnonzero(ids[: len(ids) - len(known) + 1] == known[0])
            for offset in range(1, len(known)):
                starts = starts[ids[starts + offset] == known[offset]]
            # The text has the tag once, so these ids are there at most once.
            if len(starts):
                return int(starts[0]) + len(known)
        if not self._tokenizer.is_fast:
            return self._by_head(ids, text[:end])
        encoding = _whole(self._tokenizer).encode(text, add_special_tokens=False)
        begin: int = encoding.char_to_token(end - len(self._tag))
        after: int = encoding.char_to_token(end - 1) + 1
        if self._tag in decode(self._tokenizer, [ids[begin:after].tolist()])[0]:
            self._known.append(ids[begin:after])
        return after

    def _by_head(self, ids: Ids, head: str) -> int:
        """Without offsets: the ids up to the tag's end are those of `head` tokenised alone, except
        for the last ones where the tokenizer joins the tag with what follows.
        """
        (alone,) = encode(self._tokenizer, [head])
        after = len(alone)
        if np.array_equal(ids[:after], alone):
            return after
        same = min(len(ids), after)
        after = int(np.flatnonzero(ids[:same] != alone[:same])[0])
        while after < len(ids) and self._tag not in self._tokenizer.decode(ids[:after].tolist()):
            after += 1
        return after
