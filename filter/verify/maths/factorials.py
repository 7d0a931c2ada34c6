"""Factorials, binomial coefficients and powers of which the argument is a polynomial."""

from __future__ import annotations

import re
from fractions import Fraction
from math import comb, factorial, prod

from filter.verify.maths.algebra import (
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
    variable,
    variables,
    without_constant,
)

_MAX_NUMBER = 500  # whose factorial is written out
_MAX_SHIFT = 20  # factors by which one symbolic factorial is written by another
_MAX_TOP = 10**6
_LARGE = re.compile(r"\d+!")  # the name of a large factorial
_MAX_BASE = 10_000


def factorial_of(value: Ratio, largest: int) -> Ratio:
    """The factorial of a value: as a number where that is small; else by `largest!`, the largest in
    the text, so that 2004!/2003! cancels; of n + 1, say, as n!·(n + 1).

    Raises:
        TooDearError: it is not in this arithmetic's reach.

    """
    n = rational(value)
    if n is None:
        return _symbolic(value)
    if n.denominator != 1 or n < 0 or (n > _MAX_NUMBER and largest - n > _MAX_NUMBER):
        raise TooDearError("factorial")
    if n <= _MAX_NUMBER:
        return number(factorial(n.numerator))
    between = prod(range(n.numerator + 1, largest + 1))
    return divide(large_factorial(largest), number(between))


def large_factorial(largest: int) -> Ratio:
    """What stands for the factorial of a large number."""
    return variable(f"{largest}!")


def written_alike(a: Ratio, b: Ratio) -> tuple[Ratio, Ratio]:
    """Two values with their large factorials by the smallest of them: 2025! is 2025 · 2024!.

    Raises:
        TooDearError: only one of them has such a factorial, or they are too far apart.

    """
    found = [{int(n[:-1]) for n in variables(value) if _LARGE.fullmatch(n)} for value in (a, b)]
    if not any(found):
        return a, b
    least, largest = min(set().union(*found)), max(set().union(*found))
    if not all(found) or largest - least > _MAX_NUMBER:
        raise TooDearError("factorial")
    return _by_factorial(a, least), _by_factorial(b, least)


def _by_factorial(value: Ratio, n: int) -> Ratio:
    sums = []
    for poly in (value.top, value.bottom):
        total = number(0)
        for (radicand, imaginary, powers), factor in poly.items():
            kept = tuple(pair for pair in powers if not _LARGE.fullmatch(pair[0]))
            term = Ratio({(radicand, imaginary, kept): factor}, number(1).bottom)
            for name, exponent in powers:
                if (name, exponent) not in kept:
                    between = number(prod(range(n + 1, int(name[:-1]) + 1)))
                    whole = multiply(between, large_factorial(n))
                    term = multiply(term, power(whole, Fraction(exponent)))
            total = add(total, term)
        sums.append(total)
    return divide(*sums)


def binomial(n: Ratio, k: Ratio) -> Ratio:
    """The binomial coefficient, n over k.

    Raises:
        TooDearError: it is not in this arithmetic's reach.

    """
    top, bottom = rational(n), rational(k)
    if bottom is None or (top is None and not 0 <= bottom <= _MAX_SHIFT):
        below = multiply(factorial_of(k, 0), factorial_of(add(n, negate(k)), 0))
        return divide(factorial_of(n, 0), below)
    if bottom.denominator != 1:
        raise TooDearError("binomial")
    if top is None:
        value = number(Fraction(1, factorial(bottom.numerator)))
        for step in range(bottom.numerator):
            value = multiply(value, add(n, number(-step)))
        return value
    if top.denominator != 1 or not 0 <= bottom <= top <= _MAX_TOP:
        raise TooDearError("binomial")
    if min(bottom, top - bottom) > _MAX_NUMBER // 2:
        raise TooDearError("binomial")
    return number(comb(top.numerator, bottom.numerator))


def exponential(base: Ratio, exponent: Ratio) -> Ratio:
    """A positive rational number to the power of a polynomial with integer coefficients, by powers
    of primes, so that 4^n is (2^n)² and 2^{n+1} is 2·2^n.

    Raises:
        TooDearError: it is not in this arithmetic's reach.

    """
    value = rational(base)
    rest, shift = without_constant(exponent)
    if canonical(rest) is None or value is None or value <= 0:
        raise TooDearError("base or exponent")
    if max(value.numerator, value.denominator) > _MAX_BASE:
        raise TooDearError("base")
    result = power(base, shift)
    for prime, times in [*_primes(value.numerator), *_primes(value.denominator, -1)]:
        for key, factor in rest.top.items():
            if factor.denominator != 1 or abs(factor * times) > _MAX_SHIFT:
                raise TooDearError("exponent")
            result = multiply(result, power(variable(f"{prime}^{key}"), factor * times))
    return result


def _primes(n: int, sign: int = 1) -> list[tuple[int, int]]:
    found: dict[int, int] = {}
    factor = 2
    while n > 1:
        while n % factor == 0:
            found[factor] = found.get(factor, 0) + sign
            n //= factor
        factor += 1
    return list(found.items())


def _symbolic(value: Ratio) -> Ratio:
    base, shift = without_constant(value)
    shown = canonical(base)
    if shown is None or shift.denominator != 1 or abs(shift) > _MAX_SHIFT:
        raise TooDearError("factorial")
    result = variable(f"({shown})!")
    for step in range(1, abs(shift.numerator) + 1):
        if shift > 0:
            result = multiply(result, add(base, number(step)))
        else:
            result = divide(result, add(base, number(1 - step)))
    return result
