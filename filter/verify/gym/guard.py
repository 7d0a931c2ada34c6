"""What may be given to those of reasoning-gym's scorers that run text as Python.

Some pass the answer, or a text of the problem's entry, to `eval` or to sympy's parser, which is
`eval` too. Their process is no sandbox, and what runs in it could also change what it says of
other answers. So such a text is given to them only where nothing but a value can come of it:
where it holds no call but of a mathematical function, no attribute, no text and no subscript.
Nor `Integral`, by which an integral's question would be its answer.
"""

from __future__ import annotations

import re
from typing import Any

from filter.verify.gym.checks import Entry

_FUNCTIONS = (
    "sqrt|exp|log|ln|[Aa]bs|sign|(?:arc|a|ar)?(?:sin|cos|tan|cot|sec|csc)h?|pi|oo|Rational|Integer"
)
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_EXPRESSION = re.compile(
    rf"(?:{_NUMBER}(?![A-Za-z_\d])|(?<![A-Za-z_\d])(?:{_FUNCTIONS}|[A-Za-z]\d?)(?![A-Za-z_\d])"
    r"|[\s+\-*/^(),])*+"  # possessive: no second way to read it, so time linear in its length
)
_ARITHMETIC = re.compile(r"[\d\s+\-*/()]*")
_WORDS = re.compile(r"[\w\s]*")  # a list gets but a part of the score: it need not be evaluated
_NUMBERS = re.compile(r"[\d\s+\-.,'\"\[\]eE]*")
_BITS = re.compile(r"[\dxa-fA-F\s+\-*/%&|^~<>()]*")

_ANSWERS = {
    "binary_matrix": _WORDS,
    "countdown": _ARITHMETIC,
    "intermediate_integration": _EXPRESSION,
    "n_queens": _WORDS,
    "polynomial_multiplication": _EXPRESSION,
    "puzzle24": _ARITHMETIC,
    "simple_integration": _EXPRESSION,
    "spiral_matrix": _WORDS,
    "string_insertion": _WORDS,
}
# What of the entry is evaluated with the answer: a problem file may come from anywhere.
_ENTRIES = {
    "bitwise_arithmetic": (("metadata", "problem"), _BITS),
    "intermediate_integration": (("metadata", "integrand"), _EXPRESSION),
    "number_sorting": (("answer",), _NUMBERS),
    "polynomial_multiplication": (("answer",), _EXPRESSION),
    "simple_integration": (("metadata", "integrand"), _EXPRESSION),
}
EVALUATING = frozenset(_ANSWERS) | frozenset(_ENTRIES)


def may_see_answer(family: str, answer: str) -> bool:
    """Whether the family's scorer may be given the answer."""
    return family not in _ANSWERS or _ANSWERS[family].fullmatch(answer) is not None


def may_see_entry(family: str, entry: Entry) -> bool:
    """Whether the family's scorer may be given the entry."""
    if family not in _ENTRIES:
        return True
    path, allowed = _ENTRIES[family]
    value: Any = entry
    for name in path:
        value = value.get(name, "") if isinstance(value, dict) else ""
    return isinstance(value, str) and allowed.fullmatch(value) is not None
