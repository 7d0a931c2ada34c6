"""Regular expressions of the user's, which may take no longer than a bound."""

from __future__ import annotations

from collections.abc import Iterator

from tracestill.records.private import Finder, Span

_SECONDS = 2.0  # on one text


def user_finder(pattern: str, key: str, so: str = "", *, ignore_case: bool = False) -> Finder:
    """A finder of what the expression under a recipe's `key` matches. `so` says what follows where
    it takes too long.

    Raises:
        ValueError: (the finder) it takes too long on a text.

    """
    import regex  # not `re`, which can't be told to give up

    compiled = regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)

    def find(text: str) -> Iterator[Span]:
        try:
            for found in compiled.finditer(text, timeout=_SECONDS):
                yield found.span()
        except TimeoutError as error:
            raise ValueError(
                f"{key} takes more than {_SECONDS:.0f} s on a text of {len(text):,} "
                f"characters{so}: repeat no repetition, as in (a+)+"
            ) from error

    return find
