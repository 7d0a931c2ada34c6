r"""What an expression may cost before sympy is asked: it has no bounds of its own."""

from __future__ import annotations

import re

MAX_LENGTH = 1_000
_MAX_DIGITS = 60
_MAX_EXPONENT = 400
_MAX_SUM_EXPONENT = 24
_MAX_NESTING = 25
_MAX_SIGNS = 40
_MAX_FACTORIAL = 150
_MAX_TERMS = 60  # of a sum or a product that is written out in no other way
_MAX_ENTRIES = 16

_RUN = re.compile(r"\d+")
_EXPONENT = re.compile(r"\^\s*(\{|\(|-?\s*\d+|\\?[A-Za-z]+)")
_FACTORIAL = re.compile(r"(\d+|[)}\]])\s*!")
_POWER_FACTORIAL = re.compile(r"\^\s*\w+\s*!")
_SUM_POWER = re.compile(r"[)}\]]\s*\^\s*\{?\s*(\d+)")
_MATRIX_POWER = re.compile(r"\\end\{[a-zA-Z]*\}\s*(?:\\right\S?\s*)?[)\]]?\s*\^")
_BIG = re.compile(r"\\(?:sum|prod|int|iint|iiint|oint|bigcup|bigcap|lim)(?![a-zA-Z])")
_ITERATED = re.compile(r"\\(?:sum|prod|bigcup|bigcap)(?![a-zA-Z])")
_COMBINATORIAL = re.compile(
    r"\\(?:[dt]?binom|choose|gcd|lcm|Gamma|zeta)(?![a-zA-Z])|\b(?:gcd|lcm)\b"
)
_ROUNDING = re.compile(r"\\(?:lfloor|lceil|floor|ceil|bmod|pmod|mod)(?![a-zA-Z])|⌊|⌈")
_FORBIDDEN = re.compile(r"__|[\"`;#@?&]|\\(?:def|input|write|include|read|catcode|csname)|lambda\s")
_SIGNS = re.compile(r"[-+]\s*(?:[-+]\s*){8}")


def too_dear(text: str) -> str | None:
    """Why sympy should not be asked about a cleaned expression; None where it may be.

    Takes time linear in the text.
    """
    if len(text) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    if not text.isprintable():
        return "characters that do not print"
    matrix = "\\begin" in text
    if _FORBIDDEN.search(text.replace("&", "") if matrix else text):
        return "not mathematics"
    if matrix and text.count("&") + text.count("\\\\") + 1 > _MAX_ENTRIES:
        return f"a matrix of more than {_MAX_ENTRIES} entries"
    if _nesting(text) > _MAX_NESTING:
        return f"nested more than {_MAX_NESTING} deep"
    if _SIGNS.search(text):
        return "a row of signs"
    numbers = _RUN.findall(text)
    longest = max(map(len, numbers), default=0)
    if longest > _MAX_DIGITS:
        return f"a number of more than {_MAX_DIGITS} digits"
    largest = max(map(int, numbers), default=0)
    return _powers(text) or _functions(text, largest)


def _nesting(text: str) -> int:
    depth = deepest = 0
    for char in text:
        if char in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")}]":
            depth -= 1
    return deepest


def _powers(text: str) -> str | None:
    exponents = 0
    reach = -1  # where the exponent that was read last ends
    for match in _EXPONENT.finditer(text):
        exponents += 1
        if match.start() <= reach:
            return "a tower of exponents"
        begins = match[1]
        if begins in ("{", "("):
            reach = _closes(text, match.end() - 1)
            inner = text[match.end() : reach]
            if "!" in inner:
                return "a factorial in an exponent"
            if any(int(run) > _MAX_EXPONENT for run in _RUN.findall(inner)):
                return f"an exponent beyond {_MAX_EXPONENT}"
            if len(_RUN.findall(inner)) > 6:
                return "a long exponent"
        else:
            reach = match.end()
            digits = begins.lstrip("- ")
            if digits.isdigit() and int(digits) > _MAX_EXPONENT:
                return f"an exponent beyond {_MAX_EXPONENT}"
    if any(int(match[1]) > _MAX_SUM_EXPONENT for match in _SUM_POWER.finditer(text)):
        return f"a bracket to a power beyond {_MAX_SUM_EXPONENT}"
    if _MATRIX_POWER.search(text):
        return "a power of a matrix"
    return "too many exponents" if exponents > _MAX_SIGNS else None


def _closes(text: str, opens: int) -> int:
    depth = 0
    for place in range(opens, len(text)):
        if text[place] in "{(":
            depth += 1
        elif text[place] in "})":
            depth -= 1
            if not depth:
                return place
    return len(text)


def _functions(text: str, largest: int) -> str | None:
    for match in _FACTORIAL.finditer(text):
        if not match[1].isdigit() or int(match[1]) > _MAX_FACTORIAL:
            return f"a factorial beyond {_MAX_FACTORIAL}"
    if "!!" in text.replace(" ", ""):
        return "a factorial of a factorial"
    if _ITERATED.search(text) and largest > _MAX_TERMS:
        return f"a sum or product over more than {_MAX_TERMS} terms"
    if len(_BIG.findall(text)) > 1 or "\\int" in text or "\\oint" in text or "\\iint" in text:
        return "integrals, or nested sums, products or limits"
    if _POWER_FACTORIAL.search(text):
        return "a factorial of a power"
    if _COMBINATORIAL.search(text) and (largest > 5_000 or "^" in text):
        return "a large combinatorial number"
    if _ROUNDING.search(text) and ("!" in text or "^" in text):
        return "the integer part or remainder of a power"
    return None
