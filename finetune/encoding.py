"""Text to token ids and back, many at once, with all cores and as the tokenizer itself does it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ids = npt.NDArray[np.int32]

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Let the tokenizer use all cores, whatever the variable says to those who fork."""
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
    """Each item with what `work` makes of it, begun while the one before is still looked at: the
    tokenizer's library runs beside Python.
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
    """The ids of each text, without special tokens around it."""
    if not tokenizer.is_fast:
        rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [np.array(row, dtype=np.int32) for row in rows]
    # Without offsets, which cost a fourth of the time.
    found = _whole(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.int32) for encoding in found]


def _whole(tokenizer: Any) -> Any:
    """The tokenizer's own library, without what a tokenizer.json can have that cuts or fills up."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def decode(tokenizer: Any, rows: Sequence[list[int]]) -> list[str]:
    """The text of ids with special tokens, and with no white space tidied up."""
    if tokenizer.is_fast:
        texts: list[str] = tokenizer.backend_tokenizer.decode_batch(rows, skip_special_tokens=False)
        return texts
    plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(ids, **plain) for ids in rows]


class Seams:
    """Finds in texts' ids where something comes to its end that each text has once."""

    def __init__(self, tokenizer: Any, tag: str) -> None:
        """`tag` is the text that comes to its end there."""
        self._tokenizer = tokenizer
        self._tag = tag
        self._known: list[Ids] = []  # how it is written, from its first token to its last

    def after(self, ids: Ids, text: str, end: int) -> int:
        """How many of a text's `ids` hold the text up to `end`, where the tag has come to its end;
        a token that holds the end and what follows it counts.
        """
        for known in self._known:
            starts = np.flatnonzero(ids[: len(ids) - len(known) + 1] == known[0])
            for offset in range(1, len(known)):
                starts = starts[ids[starts + offset] == known[offset]]
            # The text has the tag once, so these ids, which hold it, are there at most once.
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
        """Without offsets: the tokens up to the end are those that this part of the text has alone,
        but for the last ones where the tokenizer joins the tag with what follows.
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
