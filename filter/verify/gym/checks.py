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

Check = Callable[[str, Entry], bool]
"""Whether an answer with a full score is right: (answer, entry)."""

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
    if family not in _CHECKS:
        return True
    try:
        return _CHECKS[family](answer, entry)
    except (ArithmeticError, ValueError, SyntaxError, RecursionError):
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
    """The scorer takes the first digits, `0` for `0.25`, for all of the answer, and any number
    within 0.0001. Right is the value itself, or as it is rounded to four digits or more, a half up.
    """
    wanted, found = Fraction(entry["answer"]), Fraction(answer.replace(",", ""))
    if "/" in answer or found == wanted:
        return found == wanted
    given = Decimal(answer.replace(",", ""))
    unit = Fraction(10) ** int(given.as_tuple().exponent)
    return len(given.as_tuple().digits) >= 4 and -unit / 2 < found - wanted <= unit / 2


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


def _same_decimal(answer: str, entry: Entry) -> bool:
    """The scorers allow an error of 0.01, or of a unit of the places that the numbers in the
    question have, where the value was asked for in more digits.
    """
    return bool(Fraction(answer.replace(",", "").strip()) == Fraction(entry["answer"]))


def _rounds_to_it(answer: str, entry: Entry) -> bool:
    """The scorer lets each number be off by a hundredth of itself, where two places are given."""
    pairs = zip(answer.split(), entry["answer"].split(), strict=True)
    return all(abs(Fraction(one) - Fraction(other)) <= Fraction(1, 200) for one, other in pairs)


def _same_counts(answer: str, entry: Entry) -> bool:
    """The scorers pass over what follows the numbers that they look for."""
    return len(_NUMBER.findall(answer)) == len(_NUMBER.findall(entry["answer"]))


def _same_integers(answer: str, entry: Entry) -> bool:
    """The scorer passes over what follows the numbers that it looks for."""
    words = len(answer.split()) <= len(entry["answer"].split())
    return words and _integers(answer) == _integers(entry["answer"])


def _same_duration(answer: str, entry: Entry) -> bool:
    """The scorer passes over what follows the numbers that it looks for, and over units."""
    rest = re.sub(r"\bdays?\b|[\d\s,:.]", "", answer)
    return not rest and _integers(answer) == _integers(entry["answer"])


def _integers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def _same_grid(answer: str, entry: Entry) -> bool:
    """The scorers pass over all in a line that is no number, or neither 0 nor 1."""
    rows, wanted = (
        [line.split() for line in text.strip().split("\n")] for text in (answer, entry["answer"])
    )
    known = {cell for row in wanted for cell in row}
    return [len(row) for row in rows] == [len(row) for row in wanted] and all(
        cell in known for row in rows for cell in row
    )


def _same_items(answer: str, entry: Entry) -> bool:
    """The scorer does not see what follows the last of its words."""
    items, wanted = (text.split(",") for text in (answer, entry["answer"]))
    return [item.strip() for item in items] == [item.strip() for item in wanted]


def _as_many_words(answer: str, entry: Entry) -> bool:
    """The scorer does not see what follows the last of its words."""
    return len(answer.split()) == len(str(entry["answer"]).split())


def _as_many_letters(answer: str, entry: Entry) -> bool:
    """The scorer takes the last of several digits for a letter."""
    return answer.count("=") == str(entry["answer"]).count("=")


def _only_moves(answer: str, entry: Entry) -> bool:
    """The scorer passes over what is no move."""
    return re.fullmatch(r"[UDLR\s,]*", answer, re.IGNORECASE) is not None


def _only_buttons(answer: str, entry: Entry) -> bool:
    """The scorer takes each a, b and c of any word for a button."""
    return re.fullmatch(r"\s*[ABC](\s*(→|->|,|\s)\s*[ABC])*\s*", answer, re.IGNORECASE) is not None


def _only_logic(answer: str, entry: Entry) -> bool:
    """The scorer passes over small letters and open parentheses."""
    return re.fullmatch(r"[A-Z¬∧∨→↔()\s]*", answer) is not None and (
        answer.count("(") == answer.count(")")
    )


def _same_people(answer: str, entry: Entry) -> bool:
    """The scorer looks at which words there are, not at their order, and at none twice."""
    said, wanted = (sorted(_PERSON.findall(text)) for text in (answer, entry["answer"]))
    return said == wanted and not _PERSON.sub("", answer).replace("and", "").strip(" .,;\n")


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
    return len([Fraction(part.strip()) for part in answer.split(",")]) > 0


_CHECKS: dict[str, Check] = {
    "advanced_geometry": _same_counts,
    "codeio": _same_json,
    "coin_flip": _near,
    "complex_arithmetic": _a_number,
    "countdown": _uses_the_numbers,
    "cryptarithm": _as_many_letters,
    "decimal_arithmetic": _same_decimal,
    "figlet_font": _same_word,
    "fraction_simplification": _same_integers,
    "game_of_life": _same_json,
    "game_of_life_halting": _same_truth,
    "gsm_symbolic": _one_number,
    "kakurasu": _same_grid,
    "knights_knaves": _same_people,
    "letter_jumble": _as_many_words,
    "number_format": _same_decimal,
    "number_sorting": _same_numbers,
    "polynomial_equations": _all_numbers,
    "pool_matrix": _rounds_to_it,
    "propositional_logic": _only_logic,
    "puzzle24": _uses_the_numbers,
    "quantum_lock": _only_buttons,
    "sokoban": _only_moves,
    "survo": _same_grid,
    "time_intervals": _same_duration,
    "word_sorting": _same_items,
}
