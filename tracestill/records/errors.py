"""What an error of a library says, in one line."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """An error's first line that says something; its class where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
