r"""Split a LaTeX or plain expression into numbers, commands, letters and marks."""

from __future__ import annotations

import re
from fractions import Fraction

from filter.verify.maths.algebra import PI, Ratio, TooDearError, number

_MAX_DIGITS = 4_000  # int() of more is refused by Python, for its cost
_TOKEN = re.compile(
    r"\s*(?:(?P<repeat>\d*\.\d*\\bar\{\d+\})|(?P<number>\d+(?:\.\d+)?|\.\d+)(?:\.(?=\s|$))?"
    r"|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)|(?P<mark>[-+*/^_(){}\[\]!%']))"
)
_FUNCTIONS = re.compile(
    r"a?(?:sin|cos|tan|cot|sec|csc)h?|arc[a-z]*|log|ln|lg|exp|max|min|gcd|lcm|mod|det|sqrt|abs|sgn"
    r"|floor|ceil|lim|inf|sup|re|im|arg|or|and|is|if|no|to|of|in|for|all|any|not",
    re.IGNORECASE,
)


class Unreadable(TooDearError):  # noqa: N818  (no error of anybody's)
    """Text that this reader does not understand."""


def tokens(text: str) -> list[tuple[str, str]]:
    """The kind and the text of each token (`number`, `repeat`, `command`, `word`, `mark`), and an
    `end` last. Letters side by side are a token each.

    Raises:
        Unreadable: a character or a word of more than three letters is none of these.

    """
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            if text[place:].isspace():
                break
            raise Unreadable(text[place])
        kind = match.lastgroup
        assert kind is not None
        value = match[kind]
        place = match.end()
        if kind == "word":
            if value == "pi":
                found.append(("command", PI))
                continue
            if value == "sqrt":
                found.append(("command", "\\sqrt"))
                continue
            if len(value) > 3 or (len(value) > 1 and _FUNCTIONS.fullmatch(value)):
                raise Unreadable(value)
            found.extend(("word", letter) for letter in value)
            continue
        found.append((kind, value))
    found.append(("end", ""))
    return found


def decimal_value(text: str) -> Ratio:
    """The value of an integer or a decimal."""
    if len(text) > _MAX_DIGITS:
        raise Unreadable("digits")
    return number(int(text) if text.isdigit() else Fraction(text))


def repeating_value(text: str) -> Ratio:
    r"""The value of `0.1\bar{6}`."""
    head, _, period = text.partition("\\bar{")
    period = period.rstrip("}")
    whole, _, fixed = head.partition(".")
    if len(text) > _MAX_DIGITS:
        raise Unreadable("digits")
    scale = 10 ** len(fixed)
    value = Fraction(int((whole or "0") + fixed), scale)
    return number(value + Fraction(int(period), scale * (10 ** len(period) - 1)))
