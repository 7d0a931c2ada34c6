"""What must hold besides a full score, for families whose scorers also give it to wrong answers.

Each was found with reasoning-gym 0.1.25; what their scorers refuse stays refused.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

Entry = dict[str, Any]
"""One problem as reasoning-gym makes it: `question`, `answer`, `metadata`."""

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_PERSON = re.compile(r"(\w+) is (?:an? )?(\w+)")
_NO_SOLUTION = re.compile(r"[\s\"']*|.*\b(?:no|none|not|empty)\b.*|\\emptyset|∅", re.IGNORECASE)


def deserved(family: str, answer: str, entry: Entry) -> bool:
    """Whether an answer to which the family's scorer gives 1.0 is right."""
    own = str(entry["answer"]).strip()
    try:
        return (
            (family not in _ALLOWED or _ALLOWED[family].fullmatch(answer) is not None)
            and (family not in _FORMS or _FORMS[family](answer.strip()) == _FORMS[family](own))
            and (family not in _CHECKS or _CHECKS[family](answer, entry))
        )
    except (ArithmeticError, ValueError, SyntaxError, RecursionError):
        return answer.strip() == own


# What an answer may consist of, where the scorers pass over all else, or take `nan` for a number.
_ALLOWED = {
    "complex_arithmetic": re.compile(r"[^nN]*"),
    "propositional_logic": re.compile(r"[A-Z¬∧∨→↔()\s]*"),
    "quantum_lock": re.compile(r"\s*[ABC](\s*(→|->|,|\s)\s*[ABC])*\s*", re.IGNORECASE),
    "sokoban": re.compile(r"[UDLR\s,]*", re.IGNORECASE),
}


def _uses_the_numbers(answer: str, entry: Entry) -> bool:
    """The scorer looks only at how many numbers there are, and rounds the value down."""
    numbers: list[int] = []
    value = _value(ast.parse(answer.strip(), mode="eval").body, numbers)
    wanted = entry["metadata"].get("target", 24)
    return value == wanted and sorted(numbers) == sorted(entry["metadata"]["numbers"])


def _value(node: ast.expr, numbers: list[int]) -> Fraction:
    """The exact value of an arithmetic expression, whose integers are added to `numbers`."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, numbers)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        return _OPERATORS[type(node.op)](left, right)
    raise ValueError("only numbers and + - * / are allowed")


def _near(answer: str, entry: Entry) -> bool:
    """The scorer takes the first digits, `0` for `0.25`, for all of the answer, and any number
    within 0.0001. Right is the value itself, or as it is rounded to four digits or more, a half up.
    """
    wanted, found = Fraction(entry["answer"]), Fraction(answer.replace(",", ""))
    if "/" in answer or found == wanted:
        return found == wanted
    given = Decimal(answer.replace(",", ""))
    unit = Fraction(10) ** int(given.as_tuple().exponent)
    return len(given.as_tuple().digits) >= 4 and -unit / 2 < found - wanted <= unit / 2


def _rounds_to_it(answer: str, entry: Entry) -> bool:
    """The scorer lets each number be off by a hundredth of itself, where two places are given."""
    pairs = zip(answer.split(), entry["answer"].split(), strict=True)
    return all(abs(Fraction(one) - Fraction(other)) <= Fraction(1, 200) for one, other in pairs)


def _one_number(answer: str, entry: Entry) -> bool:
    """The scorer takes the first number, without its sign and whatever is said of it."""
    numbers = _NUMBER.findall(answer)
    if re.search(r"\b(?:not|or)\b", answer, re.IGNORECASE):
        return False
    return bool(len(numbers) == 1 and Fraction(numbers[0]) == Fraction(entry["answer"]))


def _all_numbers(answer: str, entry: Entry) -> bool:
    """The scorer passes over what is no number: where there is no solution, all is right."""
    if not entry["answer"]:
        return _NO_SOLUTION.fullmatch(answer) is not None
    return bool([Fraction(part.strip()) for part in answer.split(",")])


def _no_more_words(answer: str, entry: Entry) -> bool:
    """The scorer passes over what follows the numbers that it looks for."""
    return len(answer.split()) <= len(entry["answer"].split())


def _same_grid(answer: str, entry: Entry) -> bool:
    """The scorers pass over all in a line that is no number, or neither 0 nor 1."""
    rows, wanted = (
        [line.split() for line in text.strip().split("\n")] for text in (answer, entry["answer"])
    )
    known = {cell for row in wanted for cell in row}
    return [*map(len, rows)] == [*map(len, wanted)] and all(known.issuperset(row) for row in rows)


_CHECKS: dict[str, Callable[[str, Entry], bool]] = {
    "coin_flip": _near,
    "countdown": _uses_the_numbers,
    "fraction_simplification": _no_more_words,
    "gsm_symbolic": _one_number,
    "kakurasu": _same_grid,
    "polynomial_equations": _all_numbers,
    "pool_matrix": _rounds_to_it,
    "puzzle24": _uses_the_numbers,
    "survo": _same_grid,
}


def _numbers(text: str) -> list[Fraction]:
    return [Fraction(str(number)) for number in json.loads(text.replace("'", '"'))]


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").strip())


def _integers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def _words(text: str) -> int:
    return len(text.split())


# What of an answer must be as in the problem's own.
_FORMS: dict[str, Callable[[str], Any]] = {
    # The scorers do not see what follows the numbers, items or words that they look for,
    "advanced_geometry": lambda text: len(_NUMBER.findall(text)),
    "letter_jumble": _words,
    "word_sorting": lambda text: [item.strip() for item in text.split(",")],
    # nor units,
    "time_intervals": lambda text: (_integers(text), re.sub(r"\bdays?\b|[\d\s,:.]", "", text)),
    # nor cells outside the right grid, or they take `{}` for `[]`;
    "codeio": json.loads,
    "game_of_life": json.loads,
    # take the last of several digits for a letter;
    "cryptarithm": lambda text: text.count("="),
    # compare `bool` of two texts, which is true of every text but the empty one;
    "game_of_life_halting": str.lower,
    # allow an error of 0.01, or of a unit of the places that the question's numbers have, where the
    # value was asked for in more digits, or let each number be off by 1, or be NaN;
    "decimal_arithmetic": _decimal,
    "number_format": _decimal,
    "number_sorting": _numbers,
    "fraction_simplification": _integers,
    # give a tenth for each right letter: ten of twelve are enough;
    "figlet_font": lambda text: text.replace(" ", "").lower(),
    # look at which words there are, not at their order, and at none twice;
    "knights_knaves": lambda text: (
        sorted(_PERSON.findall(text)),
        _PERSON.sub("", text).replace("and", "").strip(" .,;\n"),
    ),
    # or pass over open parentheses.
    "propositional_logic": lambda text: text.count("(") - text.count(")"),
}
