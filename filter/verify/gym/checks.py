"""What must hold besides a full score, for families whose scorers also give it to wrong answers.

Each was found with reasoning-gym 0.1.25; what their scorers refuse stays refused.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

Entry = dict[str, Any]
"""One problem as reasoning-gym makes it: `question`, `answer`, `metadata`."""

Check = Callable[[str, Entry], bool]
"""Whether an answer with a full score is right: (answer, entry)."""

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_NO_SOLUTION = re.compile(r"[\s\"']*|.*\b(?:no|none|not|empty)\b.*|\\emptyset|∅", re.IGNORECASE)


def deserved(family: str, answer: str, entry: Entry) -> bool:
    """Whether an answer to which the family's scorer gives 1.0 is right."""
    if family not in _CHECKS:
        return True
    try:
        return _CHECKS[family](answer, entry)
    except (ValueError, ZeroDivisionError, SyntaxError, RecursionError):
        return False


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


def _same_truth(answer: str, entry: Entry) -> bool:
    """The scorer compares `bool` of two texts, which is true of every text but the empty one."""
    return answer.strip().lower() == str(entry["answer"]).lower()


def _near(answer: str, entry: Entry) -> bool:
    """The scorer takes the first digits, `0` for `0.25`, for all of the answer, and impossible or
    certain for what is within its tolerance, 0.0001, of being so.
    """
    wanted = Fraction(entry["answer"])
    distance = abs(Fraction(answer.replace(",", "")) - wanted)
    return distance <= min(Fraction(1, 10_000), wanted / 10, (1 - wanted) / 10)


def _a_number(answer: str, entry: Entry) -> bool:
    """The scorer's distance to `nan` is taken for none."""
    return "n" not in answer.lower()


def _same_numbers(answer: str, entry: Entry) -> bool:
    """The scorer lets each number be off by 1, or be NaN."""
    answered, wanted = (
        [Fraction(str(number)) for number in json.loads(text.replace("'", '"'))]
        for text in (answer, entry["answer"])
    )
    return bool(answered == wanted)


def _same_json(answer: str, entry: Entry) -> bool:
    """The scorers look at no cell outside the right grid, or take `{}` for `[]`."""
    wanted = entry["answer"].strip()
    return bool(answer.strip() == wanted or json.loads(answer) == json.loads(wanted))


def _same_word(answer: str, entry: Entry) -> bool:
    """The scorer gives a tenth for each right letter: ten of twelve are enough."""
    return bool(answer.replace(" ", "").lower() == entry["answer"].strip().lower())


def _one_number(answer: str, entry: Entry) -> bool:
    """The scorer takes the first number, without its sign."""
    numbers = _NUMBER.findall(answer)
    return bool(len(numbers) == 1 and Fraction(numbers[0]) == Fraction(entry["answer"]))


def _all_numbers(answer: str, entry: Entry) -> bool:
    """The scorer passes over what is no number: where there is no solution, all is right."""
    if not entry["answer"]:
        return _NO_SOLUTION.fullmatch(answer) is not None
    return len([Fraction(part.strip()) for part in answer.split(",")]) > 0


_CHECKS: dict[str, Check] = {
    "codeio": _same_json,
    "coin_flip": _near,
    "complex_arithmetic": _a_number,
    "countdown": _uses_the_numbers,
    "figlet_font": _same_word,
    "game_of_life": _same_json,
    "game_of_life_halting": _same_truth,
    "gsm_symbolic": _one_number,
    "number_sorting": _same_numbers,
    "polynomial_equations": _all_numbers,
    "puzzle24": _uses_the_numbers,
}
