"""Answers stated in 33 languages: `tables/languages.jsonl` has phrasings of people, in which `{x}`
is the answer (of the kind `denied`: what is not the answer) and `{y}` another value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from filter.extract import final_answer
from filter.phrases import languages_of, with_decimal_point
from filter.verify import verify
from tracestill.records import Problem

TABLE = Path(__file__).parent / "tables" / "languages.jsonl"
ROWS = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
LANGUAGES = sorted({row["language"] for row in ROWS})
OPTIONS = ["red", "green", "blue", "black"]
LABELS = [("B", "D", "B"), ("C", "A", "C"), ("**B**", "A", "B"), ("(B)", "(C)", "B"),
          ("B) green", "D) black", "B"), ("**B. green**", "A", "B"), ("\n\nB", "C", "B"),
          (r"\boxed{B}", r"\boxed{C}", "B")]  # fmt: skip
NUMBERS = [("12", "7", "12"), ("**12**", "7", "12"), ("$12$", "$7$", "12"), ("1234", "567", "1234"),
           (r"\(12\)", "7", "12")]  # fmt: skip
# Here "A" may be an article, and is taken for one.
AMBIGUOUS = {
    "Az {x} válasz a helyes.",
    "A {x} opció a helyes.",
    "Is é {x} an freagra.",
    "Is é {x} an freagra deiridh.",
    "Is í {x} an rogha ceart.",
    "Tá {x} ceart.",
}


def phrasings(language: str, *kinds: str) -> Iterator[str]:
    for row in ROWS:
        if row["language"] == language and row["kind"] in kinds:
            yield row["says"]


def outcome(reference: str, answer: str) -> str:
    problem = Problem(
        id="p", prompt="?", reference=reference, kind="choice", source="test",
        meta={"choices": OPTIONS},
    )  # fmt: skip
    return verify(problem, answer, "t").outcome


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_choice_is_found(language: str) -> None:
    says = list(phrasings(language, "any", "choice"))
    assert len(says) >= 20
    for phrase in says:
        for x, y, label in LABELS:
            text = phrase.replace("{x}", x).replace("{y}", y)
            assert outcome(label, text) == "correct", text
            for other in {"A", "B", "C", "D"} - {label}:
                assert outcome(other, text) == "incorrect", text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_label_a_is_no_article(language: str) -> None:
    for phrase in phrasings(language, "any", "choice"):
        text = phrase.replace("{x}", "A").replace("{y}", "C")
        assert outcome("A", text) == ("incorrect" if phrase in AMBIGUOUS else "correct"), text
        assert outcome("C", text) == "incorrect", text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_number_is_found(language: str) -> None:
    says = list(phrasings(language, "any", "math"))
    assert len(says) >= 20
    for phrase in says:
        for x, y, number in NUMBERS:
            text = phrase.replace("{x}", x).replace("{y}", y)
            assert (final_answer(text) or "").strip("$ .") == number, text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_denied_is_no_answer(language: str) -> None:
    says = list(phrasings(language, "denied"))
    assert len(says) >= 6
    for phrase in says:
        for x, y, label in [("B", "D", "B"), ("C", "A", "C"), ("(B)", "(A)", "B")]:
            text = phrase.replace("{x}", x).replace("{y}", y)
            assert outcome(label, text) == "incorrect", text
    for phrase in says[:4]:
        text = phrase.replace("{x}", "12").replace("{y}", "7")
        assert final_answer(text) in ("7", None), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("【答案】12", "12"),
        ("所以一共有5+8=13只", "13"),
        ("因此，小明一共有 15 个苹果。", "15"),
        ("Die Antwort ist 3,5.", "3.5"),
        ("Die Antwort ist $3{,}5$.", "3.5"),
        ("Antwort: 1.234,5", "1234.5"),
        ("La respuesta es 0,125", "0.125"),
        (r"La réponse est \boxed{3,5}", "3.5"),
        (r"The answer is \boxed{3,5}", "3,5"),
        ("The answer is 1,234.", "1,234"),
        ("La réponse est (3, 5).", "(3, 5)"),
        ("الإجابة هي ١٢", "12"),
        ("الإجابة: ٣٫٥", "3.5"),
        ("الجواب هو ١٬٢٣٤", "1234"),
        ("उत्तर: १२", "12"),
        ("答えは１２です", "12"),
        ("अतः अभीष्ट मान 12 है।", "12"),
        ("Ответ: 13 яблок", "13 яблок"),
        ("Sum: 3+4=7 apples in 2 boxes.", "7"),
        ("She has 7 apples.\n\n1. red\n2. green", "7"),
        ("1. 苹果\n2. 梨", None),
        ("The answer is 7, not 8.", "7"),
        ("答えは7で、8ではありません。", "7"),
        ("12 is wrong.", None),
        ("It can't be 12.", None),
    ],
)
def test_numbers_are_read_as_the_language_writes_them(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


def test_a_language_is_told_by_its_words() -> None:
    assert languages_of("The answer is 5.") == ("en",)
    assert languages_of("La risposta corretta è B.") == ("en", "it")
    assert languages_of("正解は B です") == ("en", "ja")
    assert languages_of("Answer") == ("en",)
    assert languages_of("Pour the sand out.") == ("en",)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("3,5", "3.5"), ("1.234,5", "1234.5"), ("1 234,5 kg", "1234.5 kg"), ("0,125", "0.125"),
        ("1,234", "1,234"), ("3,5,7", "3,5,7"), ("3, 5", "3, 5"), ("12", "12"), ("-2,5", "-2.5"),
    ],
)  # fmt: skip
def test_a_decimal_comma_is_a_point(number: str, expected: str) -> None:
    assert with_decimal_point(number, ("de", "en")) == expected
    assert with_decimal_point(number, ("en",)) == number
