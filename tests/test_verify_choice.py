from __future__ import annotations

import time
from typing import Any

import pytest

from filter.verify import verifier_name, verify
from tracestill.records import Problem

CITIES = "What is the capital of France?\nA. Berlin\nB. Madrid\nC. Paris\nD. Rome"
NUMBERS = "What is 6 times 7? (A) 40 (B) 41 (C) 42 (D) 43"
FOUR = ["Berlin", "Madrid", "Paris", "Rome"]


def problem(reference: str, prompt: str = CITIES, **meta: Any) -> Problem:
    return Problem(
        id="p", prompt=prompt, reference=reference, kind="choice", source="test", meta=meta
    )


RIGHT = [  # of the cities: C is right
    r"\boxed{C}",
    r"\boxed{\text{C}}",
    r"\boxed{\text{(C)}}",
    r"\boxed{\textbf{(C)}}",
    r"\boxed{\mathrm{C}}",
    r"\boxed{C. Paris}",
    r"\boxed{\text{C) Paris}}",
    r"\boxed{(C)\ \text{Paris}}",
    r"\boxed{Paris}",
    r"\boxed{\text{Paris}}",
    r"\fbox{C}",
    r"So the answer is \boxed{\textbf{(C)}\ \text{Paris}}.",
    r"\boxed{B}? No, that is wrong: \boxed{C}",
    r"\boxed{c}",
    r"\boxed{\boxed{C}}",
    r"$$\boxed{C}$$",
    "C",
    "(C)",
    "C.",
    "C)",
    "c)",
    "(c)",
    "[C]",
    "**C**",
    "*C*",
    "`C`",
    "$C$",
    "C. Paris",
    "(C) Paris",
    "C: Paris",
    "C - Paris",
    "Paris",
    "Paris.",
    "paris",
    "The answer is C",
    "The answer is (C).",
    "The answer is: C",
    "The answer is **C**.",
    "The answer is **(C) Paris**.",
    "The answer is C because Paris is the capital.",
    "the answer is c.",
    "The correct answer is option C.",
    "The correct answer is C) Paris.",
    "The correct answer is Paris.",
    "The best answer to this question is therefore C.",
    "The final answer is $\\boxed{\\text{C}}$. I hope it is correct.",
    "The answer must be C.",
    "The correct one is C.",
    "My answer: C",
    "Answer: C",
    "ANSWER: (C)",
    "Answer: **C**",
    "**Answer:** C",
    "**Answer:** **(C)**",
    "**Answer: C**",
    "**Final Answer:**\n\n(C)",
    "Answer:\nC",
    "Answer = C",
    "Answer: C\n\nExplanation: Berlin is in Germany, Madrid in Spain and Rome in Italy.",
    "Answer: C. A is wrong, B is wrong, and D is wrong too.",
    "Answer: Paris",
    "### Answer\n**C**",
    "#### C",
    "<answer>C</answer>",
    "Option C is correct.",
    "Option (C) is the correct answer.",
    "C is correct.",
    "C is the right one.",
    "C (Paris) is correct.",
    "Choice C is the best answer.",
    "Only C is correct.",
    "C it is.",
    "I choose C.",
    "I'd go with C.",
    "I would pick option C here.",
    "My choice is C.",
    "The capital is Paris, which corresponds to option (C).",
    "The capital of France is Paris.",
    "That is Paris, so C.",
    "Therefore, C.",
    "It must be C.",
    "France's capital has the Louvre: **C**. Rome is older.",
    "The answer is not A. It is C.",
    "The answer is not B but C.",
    "It can't be B, it's C.",
    "The answer isn't A; it's C.",
    "A and B are incorrect, D is incorrect, so C.",
    "A, B and D are wrong.",
    "A is wrong. B is wrong. D can't be right.",
    "Neither A nor B nor D is correct.",
    "It could be A or C. But A is wrong.",
    "The answer is C, not A.",
    "C, not B, is what I mean, so the answer is C rather than D.",
    "The answer is B. Wait, no: the answer is C.",
    "The answer is B. Hmm, actually C is correct.",
    "Answer: B. Sorry, correction: it's C.",
    "If the answer is B, the capital were Madrid. The answer is C.",
    "At first I thought the answer was B. The answer is C.",
    "Let me check.\nA. Berlin\nB. Madrid\nC. Paris\nD. Rome\nAnswer: C",
    "Answer:\nA. Berlin\nB. Madrid\nC. Paris\nD. Rome\n\nC",
    "A: incorrect\nB: incorrect\nC: correct\nD: incorrect",
    "- A. Berlin: wrong\n- B. Madrid: wrong\n- C. Paris: correct\n- D. Rome: wrong",
    "A ❌\nB ❌\nC ✅\nD ❌",
    "A city in Germany is Berlin. I think the answer is C.",
    "<think>The answer is A.</think>The answer is C.",
    "<think>hm</think><think>A?</think>\n\nC",
    "答案是C",
    "答案：C",
    "答案是（C）。",
    "答案为Ｃ",
    "正确答案为(C)。",
    "正确答案是C，因为巴黎是首都。",
    "选C",
    "故选C。",
    "故选：C",
    "应选 C",
    "因此选择C。",
    "选项C正确。",
    "选项C是正确的。",
    "C项正确",
    "C是正确答案",
    "不是A，而是C。",
    "答案不是A，而是C",
    "A错误，B错误，D错误，故选C",
    "【答案】C",
    "Ｃ",
    "（C）",
    "Die Antwort ist C.",
    "Die richtige Antwort ist C.",
    "Die richtige Antwort lautet: C) Paris",
    "Antwort: C",
    "Antwort C ist richtig.",
    "Lösung: C",
    "Richtig ist C.",
    "Korrekt ist Antwort C.",
    "Ich wähle C.",
    "Also C.",
    "Die Antwort ist nicht A, sondern C.",
    "A ist falsch, B ist falsch, D scheidet aus.",
]

WRONG = [  # what must not count as C
    "",
    "   ",
    "I do not know.",
    r"\boxed{B}",
    r"\boxed{\text{(A)}}",
    r"\boxed{Madrid}",
    r"\boxed{}",
    r"\boxed{A, C}",
    r"\boxed{A} and \boxed{C}",
    r"\boxed{A}, \boxed{B}, \boxed{C}, \boxed{D}",
    r"\boxed{C} Wait, that is wrong: \boxed{B}",
    r"not \boxed{C}",
    "The answer is B.",
    "The answer is not C.",
    "The answer isn't C.",
    "The answer cannot be C.",
    "It can't be C.",
    "C is wrong.",
    "C is not correct.",
    "C is incorrect.",
    "Option C is ruled out.",
    "C can't be right.",
    "A and C are correct.",
    "A is correct. C is correct.",
    "A and C",
    "A, C",
    "AC",
    "A B C D",
    "A\nB\nC\nD",
    "A. Berlin\nB. Madrid\nC. Paris\nD. Rome",
    "The options are A, B, C and D.",
    "The answer is A or C.",
    "The answer is either B or C.",
    "It could be A or B.",
    "It could be B or C.",
    "The answer might be C.",
    "The answer could be C.",
    "Maybe the answer could be C or D.",
    "Answer: C? Or D?",
    "Is the answer C?",
    "If the answer is C, then Paris were the capital.",
    "Suppose the answer is C.",
    "At first I thought the answer was C.",
    "The answer is C. Wait, that's wrong.",
    "The answer is C. Wait, no: the answer is B.",
    "The answer is C. Actually, C is wrong.",
    "Answer: C. Hmm, however it's B.",
    "I would not choose C.",
    "Don't pick C.",
    "Neither C nor D is correct.",
    "C. Madrid",
    r"\boxed{C. Madrid}",
    "The answer is C. Madrid",
    "It is not Paris.",
    "Paris or Rome",
    "The vitamin C content is high.",
    "C = 42",
    "The answer is C = 12",
    "I think that a city is needed.",
    "<think>The answer is C.</think>",
    "<think>The answer is C.</think>The answer is B.",
    "<think>The answer is C.</think>I am not sure.",
    "答案是B",
    "答案不是C",
    "不是C",
    "不选C",
    "C错误",
    "可能是B或C",
    "答案可能是C",
    "选A、C",
    "Die Antwort ist B.",
    "Die Antwort ist nicht C.",
    "Nicht C.",
    "C ist falsch.",
    "Entweder B oder C.",
    "Die Antwort könnte B oder C sein.",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_the_right_choice_is_seen(answer: str) -> None:
    verdict = verify(problem("C"), answer, "t")
    assert (verdict.outcome, verdict.extracted) == ("correct", "C"), verdict


@pytest.mark.parametrize("answer", WRONG)
def test_what_is_no_choice_of_the_right_option_is_incorrect(answer: str) -> None:
    verdict = verify(problem("C"), answer, "t")
    assert verdict.outcome == "incorrect", verdict


@pytest.mark.parametrize(
    ("reference", "prompt", "answer", "outcome"),
    [
        ("A", CITIES, "A city in Germany", "incorrect"),
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


@pytest.mark.parametrize("prompt", [
    "Which?\nA. Berlin\nB. Madrid\nC. Paris",
    "Which?\nA) Berlin\nB) Madrid\nC) Paris",
    "Which?\nA: Berlin\nB: Madrid\nC: Paris\n\nAnswer with A, B or C.",
    "Which?\n(A) Berlin\n(B) Madrid\n(C) Paris\nAnswer with (A), (B) or (C).",
    "Which? (A) Berlin (B) Madrid (C) Paris",
    "Which? A. Berlin B. Madrid C. Paris",
    "Which? a) Berlin b) Madrid c) Paris",
    "- **A.** Berlin\n- **B.** Madrid\n- **C.** Paris",
    r"$\textbf{(A)}\ \text{Berlin}\qquad\textbf{(B)}\ \text{Madrid}\qquad\textbf{(C)}\ \text{Paris}$",
    "哪个？\nA．Berlin　B．Madrid　C．Paris",
    "哪个？A、Berlin B、Madrid C、Paris",
    "Which?（A）Berlin（B）Madrid（C）Paris",
    "Consider:\n1. Rome\n2. Paris\nWhich?\nA. Berlin\nB. Madrid\nC. Paris",
    "Q: which? A. Paris B. Rome\nAnswer: A\n\nQ: which?\nA. Berlin\nB. Madrid\nC. Paris",
])  # fmt: skip
def test_lists_of_options_are_read(prompt: str) -> None:
    assert verify(problem("Paris", prompt), "C", "t").outcome == "correct"
    assert verify(problem("C", prompt), r"\boxed{Paris}", "t").outcome == "correct"


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
    begin = time.perf_counter()
    verify(problem("C"), text, "t")
    verify(problem("C", text), "C", "t")
    verify(problem(text), "C", "t")
    assert time.perf_counter() - begin < 6.0
