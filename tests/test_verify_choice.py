from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from filter.verify import verifier_name, verify
from tracestill.records import Problem

TABLES = Path(__file__).parent / "tables"
CITIES = "What is the capital of France?\nA. Berlin\nB. Madrid\nC. Paris\nD. Rome"
NUMBERS = "What is 6 times 7? (A) 40 (B) 41 (C) 42 (D) 43"
FOUR = ["Berlin", "Madrid", "Paris", "Rome"]


def problem(reference: str, prompt: str = CITIES, **meta: Any) -> Problem:
    return Problem(
        id="p", prompt=prompt, reference=reference, kind="choice", source="test", meta=meta
    )


def phrasings(*, right: bool) -> list[str]:
    """Answers to the question for France's capital that say C, or that must not count as C."""
    lines = (TABLES / "choice_phrasings.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["answer"] for row in map(json.loads, lines) if row["right"] is right]


@pytest.mark.parametrize("answer", phrasings(right=True))
def test_the_right_choice_is_seen(answer: str) -> None:
    verdict = verify(problem("C"), answer, "t")
    assert (verdict.outcome, verdict.extracted) == ("correct", "C"), verdict


@pytest.mark.parametrize("answer", phrasings(right=False))
def test_what_is_no_choice_of_the_right_option_is_incorrect(answer: str) -> None:
    verdict = verify(problem("C"), answer, "t")
    assert verdict.outcome == "incorrect", verdict


@pytest.mark.parametrize(
    ("reference", "prompt", "answer", "outcome"),
    [
        ("A", CITIES, "A city in Germany", "incorrect"),
        ("C", CITIES, "<think>So the answer is C", "incorrect"),
        ("A", CITIES, "A capital is needed here. I am not sure.", "incorrect"),
        ("A", CITIES, "The answer is a city", "incorrect"),
        ("A", CITIES, "The answer is A city in France", "incorrect"),
        ("A", CITIES, "Answer: A", "correct"),
        ("A", CITIES, "A", "correct"),
        ("A", CITIES, "The answer is A.", "correct"),
        ("A", CITIES, "The answer is A because Berlin is the capital.", "correct"),
        ("A", CITIES, "A is correct", "correct"),
        ("A", CITIES, "B is wrong, so it is A", "correct"),
        ("A", CITIES, "C is wrong", "incorrect"),
        ("E", "Which? A: 1, B: 2", "E", "unverifiable"),
        ("D", NUMBERS, r"\boxed{43}", "correct"),
        ("C", NUMBERS, r"$6 \cdot 7 = 42$, so \boxed{42}", "correct"),
        ("C", NUMBERS, "6 times 7 is 42.", "correct"),
        ("C", NUMBERS, "The answer is 42", "correct"),
        ("C", NUMBERS, "The answer is 41", "incorrect"),
        ("C", NUMBERS, r"\boxed{44}", "incorrect"),
        ("42", NUMBERS, r"\boxed{C}", "correct"),
        ("42", NUMBERS, "(C) 42", "correct"),
        ("J", "Which?\n" + "\n".join(f"{c}. word{c}" for c in "ABCDEFGHIJ"), "J", "correct"),
        ("I", "Which?\n" + "\n".join(f"{c}. word{c}" for c in "ABCDEFGHIJ"), "The answer is I.",
         "correct"),
        ("I", "Which?\n" + "\n".join(f"{c}. word{c}" for c in "ABCDEFGHIJ"),
         "I think it is hard.", "incorrect"),
        ("3", "Which?\n1. red\n2. green\n3. blue", "3", "correct"),
        ("3", "Which?\n1. red\n2. green\n3. blue", "The answer is (3).", "correct"),
        ("3", "Which?\n1) red\n2) green\n3) blue", r"\boxed{3}", "correct"),
        ("3", "Which?\n1) red\n2) green\n3) blue", "Option 3 is correct.", "correct"),
        ("3", "Which?\n1) red\n2) green\n3) blue", "答案是3", "correct"),
        ("3", "Which?\n1) red\n2) green\n3) blue", "blue", "correct"),
        ("blue", "Which?\n1) red\n2) green\n3) blue", "3", "correct"),
        ("3", "Which?\n1) red\n2) green\n3) blue", "The answer is 2", "incorrect"),
        ("3", "Which?\n1) red\n2) green\n3) blue", "The answer is 3.5", "incorrect"),
        ("B", "Which is NOT a colour?\nA. red\nB. dog\nC. blue",
         "A is correct, C is correct, but B is wrong. The answer is B.", "correct"),
        ("B", "Which is NOT a colour?\nA. red\nB. dog\nC. blue",
         "The answer is B. Actually B is wrong as a colour.", "correct"),
        ("B", r"$\textbf{(A)}\ \frac{1}{2}\qquad\textbf{(B)}\ \frac{1}{3}$",
         r"\boxed{\dfrac13} or rather \boxed{\dfrac{1}{3}}", "correct"),
        ("A", "Length?\nA. 5 cm\nB. 6 cm", r"\boxed{5}", "correct"),
        ("A", "Length?\nA. 5 cm\nB. 5 m", r"\boxed{5}", "incorrect"),
        ("A", "Length?\nA. 5 cm\nB. 5 m", r"\boxed{5\text{ cm}}", "correct"),
        ("B", "Which?\nA. B vitamins\nB. C vitamins", "The answer is B vitamins.", "incorrect"),
        ("A", "Which?\nA. B vitamins\nB. C vitamins", "The answer is B vitamins.", "correct"),
    ],
)  # fmt: skip
def test_options_come_from_the_prompt(
    reference: str, prompt: str, answer: str, outcome: str
) -> None:
    assert verify(problem(reference, prompt), answer, "t").outcome == outcome


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("C", "The answer is C", "correct"),
        ("(C)", "The answer is C", "correct"),
        ("C.", r"\boxed{C}", "correct"),
        ("c", r"\boxed{C}", "correct"),
        ("C) foo", "C", "correct"),
        (r"\boxed{C}", "C", "correct"),
        ("Answer: C", "C", "correct"),
        ("Ｃ", "C", "correct"),
        ("C", "C. whatever it says", "correct"),
        ("C", "B", "incorrect"),
        ("C", "J", "incorrect"),
        ("C Cecile", "C", "correct"),
        ("C Cecile", "B", "incorrect"),
        ("It was Alina, and the answer is\n(C) Cecile", "C", "correct"),
        ("It was Alina, and the answer is\nC Cecile", "C", "correct"),
        ("A Peter\nCelina", "A", "correct"),
        ("A Tale of Two Cities", "A", "unverifiable"),
        ("B", "B不是 A", "correct"),
        ("B", "B不是正确答案", "incorrect"),
        ("some text", "C", "unverifiable"),
        ("", "C", "unverifiable"),
        ("3", "3", "unverifiable"),
        ("AC", "The answer is A and C.", "correct"),
        ("A,C", r"\boxed{CA}", "incorrect"),
        ("A,C", r"\boxed{AC}", "correct"),
        ("A, C", r"\boxed{C, A}", "correct"),
        ("A and C", r"\boxed{A} and \boxed{C}", "correct"),
        ("['A', 'C']", "A、C", "correct"),
        ("AC", "A", "incorrect"),
        ("AC", "A, B, C", "incorrect"),
        ("AC", "A or C", "incorrect"),
        ("AC", "选AC", "correct"),
        ("AC", "A is correct. B is wrong. C is correct.", "correct"),
    ],
)
def test_without_options_the_letters_decide(reference: str, answer: str, outcome: str) -> None:
    assert verify(problem(reference, "Which?"), answer, "t").outcome == outcome


@pytest.mark.parametrize(
    ("choices", "reference", "answer", "outcome"),
    [
        (["both", "Neither A nor B", "A"], "B", "The answer is Neither A nor B.", "correct"),
        (["both", "Neither A nor B", "A"], "B", r"\boxed{B. \text{Neither A nor B}}", "correct"),
        (["both", "Neither A nor B", "A"], "A", r"\boxed{\text{Neither A nor B}}", "incorrect"),
        (["guilty", "not guilty"], "B", r"\boxed{\text{not guilty}}", "correct"),
        (["guilty", "not guilty"], "A", r"\boxed{\text{not guilty}}", "incorrect"),
        (["guilty", "not guilty"], "A", "The answer is not guilty.", "incorrect"),
        (["guilty", "not guilty"], "B", "The answer is not guilty.", "correct"),
        (["always", "never", "at times"], "B", "The answer is never.", "correct"),
        (["Wrong", "Right"], "A", "**A. Wrong**", "correct"),
        (["Wrong", "Right"], "B", "**A. Wrong**", "incorrect"),
        (["Wrong", "Right"], "B", "A is wrong. B is right.", "correct"),
        (["True", "False"], "B", "B) False", "correct"),
        (["True", "False"], "A", "B) False", "incorrect"),
        (["120", "-120", "3"], "B", "The answer is B: -120", "correct"),
        (["120", "-120", "3"], "A", "The answer is A: -120", "incorrect"),
        (["one", "two", "three", "four", "five"], "BE", r"\boxed{BE}", "correct"),
        (["one", "two", "three", "four", "five"], "BD", r"\boxed{BE}", "incorrect"),
        (["one", "two", "three"], "C", "C, not B.", "correct"),
        (["one", "two", "three"], "B", "C, not B.", "incorrect"),
        (["one", "two", "three"], "C", "답안: C", "correct"),
        (["one", "two", "three"], "C", "結果: C", "correct"),
        (["one", "two", "three"], "B", "正確答案: C", "incorrect"),
    ],
)
def test_options_may_deny_judge_or_name_others(
    choices: list[str], reference: str, answer: str, outcome: str
) -> None:
    assert verify(problem(reference, "Which?", choices=choices), answer, "t").outcome == outcome


@pytest.mark.parametrize(
    "choices",
    [
        FOUR,
        dict(zip("ABCD", FOUR, strict=True)),
        dict(zip("abcd", FOUR, strict=True)),
        {"label": list("ABCD"), "text": FOUR},
    ],
)
@pytest.mark.parametrize("reference", ["C", "Paris", "C. Paris", "(C) Paris", "paris."])
def test_options_may_be_given(choices: Any, reference: str) -> None:
    given = problem(reference, "Which?", choices=choices)
    for answer in ("C", "Paris", r"\boxed{\text{Paris}}", "The answer is Paris."):
        assert verify(given, answer, "t").extracted == "C"
        assert verify(given, answer, "t").outcome == "correct"
    assert verify(given, "The answer is Rome.", "t").extracted == "D"
    assert verify(given, "The answer is Rome.", "t").outcome == "incorrect"


ANIMALS = ["ox", "cat", "dog", "emu", "fox", "gnu", "hen", "ibis", "jay", "koi"]
BLOOD = ["A", "AB", "O", "B"]
PAIR = ["ox", "cat", "dog", "Both A and B"]
FORMULAS = [r"$\frac12$", r"$\frac13$", r"$\sqrt{2}$", r"$2\pi$"]
PRICES = ["$2.50", "$3.50"]


@pytest.mark.parametrize(
    ("reference", "choices", "answer", "outcome"),
    [
        ("I", ANIMALS, "Option I", "correct"),
        ("I", ANIMALS, r"\boxed{I}", "correct"),
        ("I", ANIMALS, r"\boxed{\text{I}}", "correct"),
        ("I", ANIMALS, "Answer: I", "correct"),
        ("I", ANIMALS, "I choose I.", "correct"),
        ("I", ANIMALS, "The answer is I because jays sing.", "correct"),
        ("I", ANIMALS, "I think it is A.", "incorrect"),
        ("A", ANIMALS, "I think it is A.", "correct"),
        ("I", None, r"\boxed{I}", "correct"),
        ("B", BLOOD, r"\boxed{AB}", "correct"),
        ("A", BLOOD, r"\boxed{AB}", "incorrect"),
        ("B", BLOOD, "B", "correct"),
        ("D", PAIR, r"\boxed{\text{Both A and B}}", "correct"),
        ("D", PAIR, "The answer is both A and B.", "correct"),
        ("A", PAIR, "Both A and B", "incorrect"),
        ("A", FORMULAS, r"\boxed{\frac{1}{2}}", "correct"),
        ("A", FORMULAS, r"\boxed{\frac12}", "correct"),
        ("A", FORMULAS, "0.5", "correct"),
        ("A", FORMULAS, "The answer is 1/2.", "correct"),
        ("A", FORMULAS, "The answer is 1/3.", "incorrect"),
        ("C", FORMULAS, r"\boxed{\sqrt2}", "correct"),
        ("D", FORMULAS, r"\boxed{\frac{4\pi}{2}}", "correct"),
        ("B", ["40", "41"], "41 is wrong.", "incorrect"),
        ("A", PRICES, "2.50", "correct"),
        ("A", PRICES, r"\boxed{\$2.50}", "correct"),
        ("A", PRICES, "The answer is $2.5.", "correct"),
        ("A", PRICES, "3.50", "incorrect"),
        ("(C) Cecile", None, r"\boxed{\text{Cecile}}", "correct"),
        ("(C) Cecile", None, "The answer is C.", "correct"),
        ("(C) Cecile", None, "A is wrong", "incorrect"),
        ("D", FOUR, "The answer is for sure D, it can't be A or B", "correct"),
        ("A", FOUR, "The answer is for sure D, it can't be A or B", "incorrect"),
        ("C", FOUR, "réponse est C non A", "correct"),
        ("A", FOUR, "réponse est C non A", "incorrect"),
        ("B", FOUR, "B。不是 A", "correct"),
        ("A", FOUR, "B。不是 A", "incorrect"),
        ("C", FOUR, "(C) is wrong.", "incorrect"),
        ("C", FOUR, "The answer is not C) Paris, but D) Rome.", "incorrect"),
        ("D", FOUR, "The answer is not C) Paris, but D) Rome.", "correct"),
        ("A", FOUR, "Ответ: А", "correct"),
        ("B", FOUR, "Ответ: Б", "correct"),
        ("B", FOUR, "Ответ: В", "correct"),  # looks like the option's Latin B
        ("B", {"А": "да", "Б": "нет"}, "Ответ: Б", "correct"),
        ("B", ["rojo", "verde"], "La respuesta es verde.", "correct"),
        ("A", ["rojo", "verde"], "La respuesta es verde.", "incorrect"),
        ("B", ["rojo", "verde"], "La respuesta no es verde.", "incorrect"),
        ("B", ["rojo", "verde"], "No es verde.", "incorrect"),
        ("B", ["rouge", "vert"], "Ce n'est pas vert.", "incorrect"),
        ("B", ["красный", "зелёный"], "Это не зелёный.", "incorrect"),
        ("B", ["赤", "緑"], "答えは緑ではありません。", "incorrect"),
        ("B", ["빨강", "초록"], "정답은 초록입니다.", "correct"),
        ("2", {"1": "a", "2": "b", "3": "c"}, "الإجابة هي ٢", "correct"),
    ],
)  # fmt: skip
def test_labels_and_texts_of_many_kinds_are_read(
    reference: str, choices: Any, answer: str, outcome: str
) -> None:
    given = problem(reference, "Which?", choices=choices)
    assert verify(given, answer, "t").outcome == outcome


def test_cyrillic_labels_count_in_their_order() -> None:
    prompt = "Столица Франции?\nА) Берлин\nБ) Мадрид\nВ) Париж\nГ) Рим"
    for reference in ("В", "В) Париж", "Париж", "C"):
        assert verify(problem(reference, prompt), "Ответ: В", "t").outcome == "correct"
        assert verify(problem(reference, prompt), r"\boxed{Париж}", "t").outcome == "correct"
        assert verify(problem(reference, prompt), "Ответ: Б", "t").outcome == "incorrect"


@pytest.mark.parametrize("prompt", [
    "Which?\nA. Berlin\nB. Madrid\nC. Paris",
    "Which?\nA) Berlin\nB) Madrid\nC) Paris",
    "Which?\nA: Berlin\nB: Madrid\nC: Paris\n\nAnswer with A, B or C.",
    "Which?\n(A) Berlin\n(B) Madrid\n(C) Paris\nAnswer with (A), (B) or (C).",
    "Which? (A) Berlin (B) Madrid (C) Paris",
    "Which? A. Berlin B. Madrid C. Paris",
    "Which? a) Berlin b) Madrid c) Paris",
    "- **A.** Berlin\n- **B.** Madrid\n- **C.** Paris",
    r"$\textbf{(A)}\ \text{Berlin}\qquad\textbf{(B)}\ \text{Madrid}\qquad\textbf{(C)}\ "
    r"\text{Paris}$",
    "哪个？\nA．Berlin　B．Madrid　C．Paris",
    "哪个？A、Berlin B、Madrid C、Paris",
    "Which?（A）Berlin（B）Madrid（C）Paris",
    "Consider:\n1. Rome\n2. Paris\nWhich?\nA. Berlin\nB. Madrid\nC. Paris",
    "Q: which? A. Paris B. Rome\nAnswer: A\n\nQ: which?\nA. Berlin\nB. Madrid\nC. Paris",
])  # fmt: skip
def test_lists_of_options_are_read(prompt: str) -> None:
    assert verify(problem("Paris", prompt), "C", "t").outcome == "correct"
    assert verify(problem("C", prompt), r"\boxed{Paris}", "t").outcome == "correct"


@pytest.mark.parametrize(
    "choices", [{"]": "x", "^": "y"}, {"option 1": "x"}, {}, [], [None, 3], {"text": ["x"]}, "x", 7]
)
@pytest.mark.parametrize("reference", ["C", "]", "x", "3"])
def test_odd_options_raise_nothing(choices: Any, reference: str) -> None:
    for answer in ("C", "]", "x", "3", "\x00", "\ud800", "C\u202e", "(" * 99, "\\boxed{C"):
        outcome = verify(problem(reference, "Which?", choices=choices), answer, "t").outcome
        assert outcome in ("correct", "incorrect", "unverifiable")
        if reference == "C" and choices in ("x", 7, {}):
            assert (outcome == "correct") == (answer.startswith("C"))


def test_a_gold_answer_that_two_options_share_is_unverifiable() -> None:
    verdict = verify(problem("4", "?", choices=["4", "4", "5"]), "A", "t")
    assert verdict.outcome == "unverifiable"
    assert "options" in verdict.detail


def test_the_verdict_says_how_the_answer_was_found() -> None:
    assert verify(problem("C"), r"\boxed{C}", "t").detail == "boxed"
    assert verify(problem("C"), "The answer is C", "t").detail == "stated"
    assert verify(problem("C"), None, "t").detail == "no answer"
    assert verifier_name("choice").startswith("choice/")


@pytest.mark.parametrize(
    "text",
    [
        "The answer is C. " * 60_000,
        "\\boxed{C} " * 100_000,
        "\\boxed{" * 150_000,
        "A, B and C, " * 85_000,
        "(A" * 500_000,
        "A. " * 330_000,
        "a\u0301\u0316" * 330_000,
        " " * 1_000_000,
        "answer " * 140_000,
        "**" * 500_000,
        "\\text{" * 160_000,
        "{" * 1_000_000,
        "A is A is " * 100_000,
        "(A) x (B) y\n" * 80_000,
        "C\n" * 500_000,
        "⟦" * 500_000,
    ],
)
def test_a_megabyte_is_judged_in_a_moment(text: str) -> None:
    begin = time.process_time()  # other processes' load is none of ours
    verify(problem("C"), text, "t")
    verify(problem("C", text), "C", "t")
    verify(problem(text), "C", "t")
    assert time.process_time() - begin < 6.0
