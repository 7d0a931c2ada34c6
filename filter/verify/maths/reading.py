r"""Read a LaTeX or plain expression as an exact value. What it does not surely understand it
leaves to sympy.
"""

from __future__ import annotations

import re
from itertools import pairwise

from filter.verify.maths.algebra import (
    PI,
    Ratio,
    TooDearError,
    add,
    canonical,
    divide,
    multiply,
    negate,
    number,
    power,
    rational,
    square_root,
    variable,
)
from filter.verify.maths.factorials import binomial, exponential, factorial_of
from filter.verify.maths.tokens import Unreadable, decimal_value, repeating_value, tokens

_MAX_LENGTH = 600
_MAX_DEPTH = 40

_GREEK = re.compile(
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma"
    r"|tau|(?:var)?phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell)"
)
_FUNCTION_NAMES = {*"fghpqFGHPQRST", "\\phi", "\\varphi", "\\sigma", "\\tau", "\\mu"}
_STARTS = frozenset({"number", "repeat", "word", "command"})


def read_value(text: str) -> Ratio | None:
    """The value of a cleaned expression; None where this reader can't tell."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        reader = _Reader(tokens(text))
        value = reader.sum()
        reader.end()
    except TooDearError:
        return None
    return value


def _is_factorial(text: str, mark: str) -> bool:
    return mark == "!" and text.isdigit() and len(text) < 7


class _Reader:
    """A recursive descent over tokens. Not a public class: `read_value` is the interface."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._largest = max(
            (int(text) for (_, text), (_, mark) in pairwise(tokens) if _is_factorial(text, mark)),
            default=0,
        )

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
                if kind in ("number", "repeat") and self._tokens[self._place - 1][1] != "!":
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
                exponent = self._exponent()
                known = rational(exponent)
                value = exponential(value, exponent) if known is None else power(value, known)
            elif mark == "%":
                value = divide(value, number(100))
            else:
                value = factorial_of(value, self._largest)
        return value

    def _exponent(self) -> Ratio:
        if self._peek() in ("{", "("):
            return self._group()
        if self._peek() == "-":
            self._take()
            return negate(self._exponent())
        kind, text = self._take()
        if kind == "number":
            return decimal_value(text)
        if kind == "word" and text != "i":
            return variable(text)
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
            return repeating_value(text)
        if text == "\\frac":
            top = self._argument()
            return divide(top, self._argument())
        if text == "\\sqrt":
            if self._peek() == "[":
                raise Unreadable("root")
            if self._tokens[self._place][0] == "number" and self._peek().isdigit():
                # `\sqrt12` is the root of 1, twice, to TeX, and of 12 to whoever wrote it
                return square_root(decimal_value(self._take()[1]))
            return square_root(self._argument())
        if text == "\\binom":
            return binomial(self._argument(), self._argument())
        if kind == "word" or text == PI or text == "\\infty" or _GREEK.fullmatch(text):
            name = self._name(text)
            return self._applied(name) if self._is_applied(text) else variable(name)
        raise Unreadable(text)

    def _is_applied(self, letter: str) -> bool:
        """Whether the bracket after a letter holds an argument: always after f and g, after other
        names of functions where it is one symbol (`P(x)`) or a function's value (`h(f(x))`).
        """
        if letter not in _FUNCTION_NAMES or self._peek() != "(":
            return False
        following = [text for _, text in self._tokens[self._place + 1 : self._place + 3]]
        return (
            letter in "fg"
            or (following[0] in _FUNCTION_NAMES and following[1:] == ["("])
            or (following[1:] == [")"] and following[0] not in ("+", "-"))
        )

    def _applied(self, name: str) -> Ratio:
        argument = self._group()
        shown = canonical(argument)
        if shown is None:
            raise Unreadable("argument")
        return variable(f"{name}({shown})")

    def _name(self, text: str) -> str:
        while self._peek() in ("_", "'"):
            mark = self._take()[1]
            text += mark
            if mark == "_" and self._peek() == "{":
                self._take()
                while self._peek() != "}":
                    text += self._subscript()
                self._take()
            elif mark == "_":
                text += self._subscript()
        return text

    def _subscript(self) -> str:
        kind, part = self._take()
        if kind not in ("number", "word"):
            raise Unreadable("subscript")
        return part

    def _mixed(self, text: str) -> Ratio:
        r"""A number, with a fraction of numbers after it as in `1\frac{4}{5}` their sum."""
        value = decimal_value(text)
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
