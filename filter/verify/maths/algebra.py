"""Exact arithmetic on what short answers are made of: rational functions over the rationals, π,
i, square roots of integers, and variables.

A polynomial maps monomials to rational coefficients. A monomial is `(radicand, i, powers)`: the
square root of a squarefree integer, whether it is imaginary, and a sorted tuple of
`(name, exponent)`. Square roots of different squarefree integers, i, π and the variables are
independent of one another over the rationals, so that two values are equal just where these
forms are: there is no tolerance, and "not equal" is proved as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from math import gcd, isqrt

Monomial = tuple[int, int, tuple[tuple[str, int], ...]]
Poly = dict[Monomial, Fraction]

PI = "\\pi"
_ONE: Monomial = (1, 0, ())
_MAX_TERMS = 200
_MAX_BITS = 20_000
_MAX_WORK = 400_000  # bits times products in one multiplication: some milliseconds
_MAX_SHOWN = 400  # characters
_MAX_RADICAND = 10**8
_PI_DIGITS = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628621"
)


class TooDearError(ValueError):
    """Computing this exactly would cost too much, or is not in this arithmetic's reach."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A quotient of two polynomials; the denominator is never zero."""

    top: Poly
    bottom: Poly


_UNIT: Poly = {_ONE: Fraction(1)}


def number(value: Fraction | int) -> Ratio:
    """A rational number."""
    value = Fraction(value)
    return Ratio({_ONE: value} if value else {}, _UNIT)


def variable(name: str) -> Ratio:
    """A variable, or π as `PI`, or the imaginary unit as `i`."""
    if name == "i":
        return Ratio({(1, 1, ()): Fraction(1)}, _UNIT)
    return Ratio({(1, 0, ((name, 1),)): Fraction(1)}, _UNIT)


def add(a: Ratio, b: Ratio) -> Ratio:
    """The sum a + b."""
    if a.bottom == b.bottom:
        return Ratio(_plus(a.top, b.top), a.bottom)
    top = _plus(_times(a.top, b.bottom), _times(b.top, a.bottom))
    return Ratio(top, _times(a.bottom, b.bottom))


def negate(a: Ratio) -> Ratio:
    """-a."""
    return Ratio({key: -value for key, value in a.top.items()}, a.bottom)


def multiply(a: Ratio, b: Ratio) -> Ratio:
    """The product a · b."""
    return Ratio(_times(a.top, b.top), _times(a.bottom, b.bottom))


def divide(a: Ratio, b: Ratio) -> Ratio:
    """The quotient a / b; `TooDearError` where b is zero."""
    if not b.top:
        raise TooDearError("division by zero")
    if len(b.top) == 1 and b.bottom == _UNIT and _ONE in b.top:
        factor = b.top[_ONE]
        return Ratio({key: value / factor for key, value in a.top.items()}, a.bottom)
    top, bottom = _times(a.top, b.bottom), _times(a.bottom, b.top)
    if len(top) == 1 and top.keys() == bottom.keys():
        return number(next(iter(top.values())) / next(iter(bottom.values())))
    return Ratio(top, bottom)


def power(a: Ratio, exponent: Fraction) -> Ratio:
    """The value of a to a rational power: an integer, or a half of a rational a."""
    if exponent.denominator == 2:
        return power(square_root(a), Fraction(exponent.numerator))
    n = exponent.numerator
    if exponent.denominator != 1 or abs(n) > _MAX_BITS:
        raise TooDearError("exponent")
    if n < 0:
        return power(divide(number(1), a), Fraction(-n))
    if len(a.top) > 1 and n > 40:
        raise TooDearError("power of a sum")
    bits = max((_bits(value) for value in (*a.top.values(), *a.bottom.values())), default=1)
    if bits * n > _MAX_BITS and bits > 1:
        raise TooDearError("power")
    result, base = number(1), a
    while n:
        if n & 1:
            result = multiply(result, base)
        n >>= 1
        if n:
            base = multiply(base, base)
    return result


def square_root(a: Ratio) -> Ratio:
    """√a of a rational number."""
    value = rational(a)
    if value is None:
        raise TooDearError("root of what is no rational number")
    square = abs(value.numerator) * value.denominator
    outer, inner = _squarefree(square)
    if not inner:
        return number(0)
    key: Monomial = (inner, 1 if value < 0 else 0, ())
    return Ratio({key: Fraction(outer, value.denominator)}, _UNIT)


def equal(a: Ratio, b: Ratio) -> bool:
    """Whether a and b are the same."""
    if a.bottom == b.bottom:
        return a.top == b.top
    return _times(a.top, b.bottom) == _times(b.top, a.bottom)


def proportional(a: Ratio, b: Ratio) -> bool | None:
    """Whether the polynomials a and b differ by a rational factor only, so that a = 0 and b = 0
    say the same. None where one of them is no polynomial.
    """
    if not (_constant(a.bottom) and _constant(b.bottom)):
        return None
    if a.top.keys() != b.top.keys():
        return False
    factors = {a.top[key] / b.top[key] for key in a.top}
    return len(factors) <= 1


def rational(a: Ratio) -> Fraction | None:
    """The rational number that a is; None where it is none."""
    if any(key != _ONE for key in (*a.top, *a.bottom)):
        return None
    return a.top.get(_ONE, Fraction(0)) / a.bottom[_ONE]


def variables(a: Ratio) -> set[str]:
    """The names of the variables in a; π is none."""
    return {
        name
        for poly in (a.top, a.bottom)
        for _, _, powers in poly
        for name, _ in powers
        if name != PI
    }


def canonical(a: Ratio) -> str | None:
    """A text that is the same for equal polynomials only; None where a is no polynomial, or a long
    one: such texts name variables, which may stand in further ones.
    """
    if not _constant(a.bottom):
        return None
    scale = a.bottom[_ONE]
    shown = repr(sorted((key, str(value / scale)) for key, value in a.top.items()))
    return shown if len(shown) < _MAX_SHOWN else None


def without_constant(a: Ratio) -> tuple[Ratio, Fraction]:
    """The polynomial a without its rational term, and that term."""
    if not _constant(a.bottom):
        raise TooDearError("no polynomial")
    rest = {key: value / a.bottom[_ONE] for key, value in a.top.items() if key != _ONE}
    return Ratio(rest, _UNIT), a.top.get(_ONE, Fraction(0)) / a.bottom[_ONE]


def approximate(a: Ratio) -> Decimal | None:
    """The value of a real constant to about 60 digits; None for what is none."""
    with localcontext() as context:
        context.prec = 70
        top, bottom = _evaluate(a.top), _evaluate(a.bottom)
        return None if top is None or not bottom else top / bottom


def _evaluate(poly: Poly) -> Decimal | None:
    total = Decimal(0)
    for (radicand, imaginary, powers), value in poly.items():
        if imaginary or any(name != PI for name, _ in powers) or _bits(value) > 1000:
            return None
        term = Decimal(value.numerator) / Decimal(value.denominator) * Decimal(radicand).sqrt()
        for _, exponent in powers:
            term *= _PI_DIGITS**exponent
        total += term
    return total


def _constant(poly: Poly) -> bool:
    return len(poly) == 1 and _ONE in poly


def _plus(a: Poly, b: Poly) -> Poly:
    total = dict(a)
    for key, value in b.items():
        value += total.get(key, 0)
        if value:
            total[key] = value
        else:
            total.pop(key, None)
    return total


def _times(a: Poly, b: Poly) -> Poly:
    if a == _UNIT:
        return b
    if b == _UNIT:
        return a
    products = len(a) * len(b)
    if products > 4 and products * (_size(a) + _size(b)) > _MAX_WORK:
        raise TooDearError("terms")
    total: Poly = {}
    for (root_a, i_a, powers_a), value_a in a.items():
        for (root_b, i_b, powers_b), value_b in b.items():
            value = value_a * value_b
            common = gcd(root_a, root_b)
            if common > 1:
                value *= common
            if i_a and i_b:
                value = -value
            key = (root_a // common * (root_b // common), i_a ^ i_b, _joined(powers_a, powers_b))
            value += total.get(key, 0)
            if _bits(value) > _MAX_BITS:
                raise TooDearError("digits")
            total[key] = value
    total = {key: value for key, value in total.items() if value}
    if len(total) > _MAX_TERMS:
        raise TooDearError("terms")
    return total


def _joined(
    a: tuple[tuple[str, int], ...], b: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, int], ...]:
    if not a or not b:
        return a or b
    powers = dict(a)
    for name, exponent in b:
        powers[name] = powers.get(name, 0) + exponent
    return tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))


def _size(poly: Poly) -> int:
    return 20 + max(map(_bits, poly.values()))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _squarefree(n: int) -> tuple[int, int]:
    """(a, b) with n = a²·b and b squarefree."""
    root = isqrt(n)
    if root * root == n:
        return root, 1 if n else 0
    outer, inner, factor = 1, 1, 2
    while factor * factor <= n:
        if factor > 10_000:
            raise TooDearError("radicand")
        times = 0
        while n % factor == 0:
            n //= factor
            times += 1
        outer *= factor ** (times // 2)
        inner *= factor ** (times % 2)
        factor += 1 if factor == 2 else 2
    if inner * n > _MAX_RADICAND**2:
        raise TooDearError("radicand")
    return outer, inner * n
