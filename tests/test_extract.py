from __future__ import annotations

import time

import pytest

from filter.boxes import last_boxed
from filter.extract import after_reasoning, final_answer, last_stated


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {3}", "3"),
        (r"\fbox{3}", "3"),
        (r"\boxed{a\boxed{b}}", "b"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{}", ""),
        ("no box", None),
        (r"\boxed{ 7 }", "7"),
        ("\\boxed{" * 3000, None),
        (r"\boxed{4" + r"\boxed{" * 100 + "}", ""),
        (r"\boxed{4} " + r"\boxed{5 " * 100, "4"),
        (r"\\boxed{4}", "4"),
        (r"the boxes are in box 7: \boxed{4} is in the box", "4"),
    ],
)
def test_the_last_balanced_box_is_taken(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 12.", "12"),
        ("**Answer:** 12", "12"),
        ("We get #### 1,234", "1,234"),
        ("The answer is:\n#### 5", "5"),
        ("The answer is not 4, but:\nA: 1,234.5 \n", "1,234.5"),
        ("Die Antwort ist\nA: 3,5", "3.5"),
        ("the final answer is $\\frac{1}{2}$, as said", "\\frac{1}{2}"),
        ("so $x = 3$ and $y = 4$", "y = 4"),
        ("there are 3 apples and 5 pears", "5"),
        ("no number at all", None),
        ("The answer is not $7$", None),
        ("The answer is not 7, but 8.", "8"),
        ("The answer is 5. No: the answer is not 6.", "5"),
        ("It costs $5 and then $6", "6"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        ("1 000", "1 000"),
        ("$28$ %", "$28$ %"),
        ("Then $x = 3$. Therefore it grows by 100%.", "100%"),
        ("Final Answer: The largest $n$ is 34. I hope it is correct.", "34"),
        ("Answer: Jane began 3 hours ago", "3"),
        ("He has 9 left.\nA: 18", "18"),
        ("The answer is:\n$$\\frac{1}{2}$$", "\\frac{1}{2}"),
        ("The answers are $1$ and $2$.", "$1$ and $2$"),
        ("The answer to the question is 12, because 3 * 4 = 12.", "12"),
        ("答案是 12", "12"),
        ("Die Antwort lautet 12.", "12"),
        ("so \\[ x = 3 \\]", "x = 3"),
    ],
)
def test_without_a_box_the_last_statement_counts(text: str, expected: str | None) -> None:
    assert last_stated(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\\boxed{7}</think>The answer is 8.", "8"),
        ("<think>so \\boxed{7}", None),
        ("\\boxed{7}</think>", None),
        ("<think>a</think>b</think>\\boxed{9}", "9"),
        ("\\boxed{9}", "9"),
        ("<think>\\boxed{7}</think>I do not know", None),
    ],
)
def test_what_is_only_reasoned_is_no_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$.", "1, 2, 3"),
        (r"\boxed{1} \quad \text{and} \quad \boxed{-2}", "1, -2"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{1}. Then \boxed{2}", "2"),
        (r"\boxed{1}\boxed{2}", "1, 2"),
        (r"\( y_1 = \boxed{x + 1} \) and \( y_2 = \boxed{2} \)", "x + 1, 2"),
    ],
)
def test_boxes_side_by_side_are_one_answer(text: str, expected: str) -> None:
    assert final_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{255} in all. The final answer is $10,455$. I hope it is correct.", "10,455"),
        (r"\boxed{5}. Final answer is **7**.", "7"),
        (r"The final answer is 5. No: \boxed{7}", "7"),
        (r"\boxed{5x + 3}, so the final answer is 5x + 3.", "5x + 3"),
        (r"\boxed{5}. The final answer is not 7.", "5"),
        (r"\boxed{5}. The final answer is the number of apples.", "5"),
    ],
)
def test_what_is_called_final_after_a_box_counts(text: str, expected: str) -> None:
    assert final_answer(text) == expected


def test_what_precedes_a_reasoning_that_never_ends_is_left() -> None:
    assert after_reasoning("It is 5. <think>or not") == "It is 5. "


@pytest.mark.parametrize(
    "part",
    [
        "\\boxed{", "\\boxed{}", "\\boxed ", "box ", "\\", "\\(", "\\[ $", "$", "$$ ", "$1$ ",
        "#### ", "answer is ", "answer is\n", "answer ", "answer is not 4\n", "A:\n", "\n", " ",
        "1,", "{", "}", "答えは7で、", "ответ: не 4\n", "réponse n'est pas 5, ", "12 不", "1. 5\n",
    ],
)  # fmt: skip
def test_time_is_linear_in_the_text(part: str) -> None:
    text = part * (400_000 // len(part))
    begin = time.process_time()
    final_answer(text)
    assert time.process_time() - begin < 2
