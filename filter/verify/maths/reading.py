r"""Read a LaTeX or plain expression as an exact value. What it does not surely understand it
leaves to sympy.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import comb, factorial

from filter.verify.maths.algebra import (
    PI,
    Ratio,
    TooDearError,
    add,
    divide,
    multiply,
    negate,
    number,
    power,
    rational,
    square_root,
    variable,
)

_MAX_LENGTH = 600
_MAX_DEPTH = 40
_MAX_DIGITS = 4_000  # int() of more is refused by Python, for its cost
_MAX_FACTORIAL = 500

_TOKEN = re.compile(
    r"\s*(?:(?P<repeat>\d*\.\d*\\bar\{\d+\})|(?P<number>\d+(?:\.\d+)?|\.\d+)(?:\.(?=\s|$))?"
    r"|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)|(?P<mark>[-+*/^_(){}\[\]!%']))"
)
_GREEK = re.compile(
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma"
    r"|tau|(?:var)?phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell)"
)
_FUNCTIONS = re.compile(
    r"a?(?:sin|cos|tan|cot|sec|csc)h?|arc[a-z]*|log|ln|lg|exp|max|min|gcd|lcm|mod|det|sqrt|abs|sgn"
    r"|floor|ceil|lim|inf|sup|re|im|arg|or|and|is|if|no|to|of|in|for|all|any|not",
    re.IGNORECASE,
)
_STARTS = frozenset({"number", "repeat", "word", "command"})


class Unreadable(TooDearError):  # noqa: N818  (no error of anybody's)
    """Text that this reader does not understand."""


def read_value(text: str) -> Ratio | None:
    """The value of a cleaned expression; None where this reader can't tell."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        reader = _Reader(_tokens(text))
        value = reader.sum()
        reader.end()
    except TooDearError:
        return None
    return value


def _tokens(text: str) -> list[tuple[str, str]]:
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


class _Reader:
    """A recursive descent over tokens. Not a public class: `read_value` is the interface."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def end(self) -> None:
        if self._tokens[self._place][0] != "end":
            raise Unreadable(self._tokens[self._place][1])

    def _peek(self) -> str:
        return self._tokens[self._place][1]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._place]
        if token[0] != "end":
            self._place += 1
        return token

    def _expect(self, mark: str) -> None:
        if self._take()[1] != mark:
            raise Unreadable(mark)

    def sum(self) -> Ratio:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable("depth")
        value = self._product(signed=True)
        while self._peek() in ("+", "-"):
            minus = self._take()[1] == "-"
            following = self._product(signed=True)
            value = add(value, negate(following) if minus else following)
        self._depth -= 1
        return value

    def _product(self, *, signed: bool) -> Ratio:
        value = self._factor(signed=signed)
        while True:
            kind, mark = self._tokens[self._place]
            if mark in ("*", "\\cdot"):
                self._take()
                value = multiply(value, self._factor(signed=True))
            elif mark == "/":
                self._take()
                value = divide(value, self._factor(signed=True))
            elif kind in _STARTS or mark in ("(", "{", "["):
                if kind in ("number", "repeat"):
                    raise Unreadable("two numbers side by side")
                value = multiply(value, self._factor(signed=False))
            else:
                return value

    def _factor(self, *, signed: bool) -> Ratio:
        minus = False
        while signed and self._peek() in ("+", "-"):
            minus ^= self._take()[1] == "-"
        value = self._power()
        return negate(value) if minus else value

    def _power(self) -> Ratio:
        value = self._atom()
        while self._peek() in ("^", "!", "%"):
            mark = self._take()[1]
            if mark == "^":
                exponent = rational(self._exponent())
                if exponent is None:
                    raise Unreadable("exponent")
                value = power(value, exponent)
            elif mark == "%":
                value = divide(value, number(100))
            else:
                n = rational(value)
                if n is None or n.denominator != 1 or not 0 <= n <= _MAX_FACTORIAL:
                    raise Unreadable("factorial")
                value = number(factorial(n.numerator))
        return value

    def _exponent(self) -> Ratio:
        if self._peek() in ("{", "("):
            return self._group()
        if self._peek() == "-":
            self._take()
            return negate(self._exponent())
        kind, text = self._take()
        if kind == "number":
            return _decimal(text)
        raise Unreadable("exponent")

    def _group(self) -> Ratio:
        closing = {"{": "}", "(": ")", "[": "]"}[self._take()[1]]
        value = self.sum()
        self._expect(closing)
        return value

    def _argument(self) -> Ratio:
        r"""What follows `\frac` or `\sqrt`: a group, or one digit or letter."""
        if self._peek() in ("{", "("):
            return self._group()
        kind, text = self._tokens[self._place]
        if kind == "number" and len(text) == 1:
            self._take()
            return number(int(text))
        if kind == "word" or text == PI:
            self._take()
            return variable(text)
        raise Unreadable("argument")

    def _atom(self) -> Ratio:
        kind, text = self._tokens[self._place]
        if text in ("(", "{", "["):
            return self._group()
        self._take()
        if kind == "number":
            return self._mixed(text)
        if kind == "repeat":
            return _repeating(text)
        if text == "\\frac":
            top = self._argument()
            return divide(top, self._argument())
        if text == "\\sqrt":
            if self._peek() == "[":
                raise Unreadable("root")
            if self._tokens[self._place][0] == "number" and self._peek().isdigit():
                # `\sqrt12` is the root of 1, twice, to TeX, and of 12 to whoever wrote it
                return square_root(_decimal(self._take()[1]))
            return square_root(self._argument())
        if text == "\\binom":
            n, k = rational(self._argument()), rational(self._argument())
            if n is None or k is None or n.denominator != 1 or k.denominator != 1:
                raise Unreadable("binomial")
            if not 0 <= k <= n <= _MAX_FACTORIAL:
                raise Unreadable("binomial")
            return number(comb(n.numerator, k.numerator))
        if kind == "word" or text == PI or text == "\\infty" or _GREEK.fullmatch(text):
            return variable(self._name(text))
        raise Unreadable(text)

    def _name(self, text: str) -> str:
        while self._peek() in ("_", "'"):
            mark = self._take()[1]
            text += mark
            if mark == "_":
                if self._peek() == "{":
                    self._take()
                    while self._peek() != "}":
                        kind, part = self._take()
                        if kind not in ("number", "word"):
                            raise Unreadable("subscript")
                        text += part
                    self._take()
                else:
                    kind, part = self._take()
                    if kind not in ("number", "word"):
                        raise Unreadable("subscript")
                    text += part
        return text

    def _mixed(self, text: str) -> Ratio:
        r"""A number, with a fraction of numbers after it as in `1\frac{4}{5}` their sum."""
        value = _decimal(text)
        if self._peek() == "_":
            raise Unreadable("base")
        if self._peek() == "\\frac" and text.isdigit():
            place = self._place
            fraction = self._atom()
            part = rational(fraction)
            if part is not None and 0 < part < 1 and self._peek() not in ("^", "!"):
                return add(value, fraction)
            self._place = place
        return value


def _decimal(text: str) -> Ratio:
    if len(text) > _MAX_DIGITS:
        raise Unreadable("digits")
    return number(int(text) if text.isdigit() else Fraction(text))


def _repeating(text: str) -> Ratio:
    head, _, period = text.partition("\\bar{")
    period = period.rstrip("}")
    whole, _, fixed = head.partition(".")
    if len(text) > _MAX_DIGITS:
        raise Unreadable("digits")
    scale = 10 ** len(fixed)
    value = Fraction(int((whole or "0") + fixed), scale)
    return number(value + Fraction(int(period), scale * (10 ** len(period) - 1)))
