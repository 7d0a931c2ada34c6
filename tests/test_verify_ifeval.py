"""IFEval's instructions, judged by the library's checkers, and what is said where it is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import run_tracestill
from scripted import completion, reply, scripted

from filter.verify import Answer, check_ifeval, verifier_names, verify, verify_many
from filter.verify.ifeval import _checkers, followed
from tracestill.evaluate.evaluated import read_evaluated
from tracestill.records import Problem

CAPITALS = (
    "change_case:capital_word_frequency",
    {"capital_frequency": 2, "capital_relation": "at least"},
)
NO_COMMA: tuple[str, dict[str, Any]] = ("punctuation:no_comma", {"num_words": None})
WORDS = ("length_constraints:number_words", {"num_words": 4, "relation": "at least"})


def problem(*instructions: tuple[str, dict[str, Any]], ident: str = "p") -> Problem:
    said = {
        "instruction_id_list": [name for name, _ in instructions],
        "kwargs": [arguments for _, arguments in instructions],
    }
    return Problem(
        id=ident, prompt="Say it.", reference=json.dumps(said), kind="ifeval", source="ifeval"
    )


@pytest.fixture
def library() -> None:
    pytest.importorskip("if_verifiable", reason="needs the extra `ifeval`")


CASES = [
    ([NO_COMMA], "No comma here", True),
    ([NO_COMMA], "One, two", False),
    ([WORDS], "four words are here", True),
    ([WORDS], "not enough words", False),
    ([("keywords:existence", {"keywords": ["rain", "sun"]})], "rain then sun", True),
    ([("keywords:forbidden_words", {"forbidden_words": ["rain"]})], "only rain", False),
    ([("keywords:letter_frequency",
       {"letter": "z", "let_frequency": 2, "let_relation": "at least"})], "zig zag", True),
    ([("language:response_language", {"language": "de"})],
     "Heute scheint die Sonne, und morgen wird es regnen.", True),
    ([("detectable_format:json_format", {})], '```json\n{"a": 1}\n```', True),
    ([("detectable_format:json_format", {})], "a: 1", False),
    ([("detectable_format:title", {})], "<<A title>>\nand text", True),
    ([("startend:quotation", {})], '"all of it"', True),
    ([("startend:end_checker", {"end_phrase": "the end."})], "This is the end.", True),
    ([("detectable_content:number_placeholders", {"num_placeholders": 2})], "[name] [place]", True),
    ([("detectable_format:number_bullet_lists", {"num_bullets": 2})], "* a\n* b", True),
    ([("combination:repeat_prompt", {"prompt_to_repeat": "Say it."})], "Say it. Well then", True),
    ([("change_case:english_lowercase", {})], "it is a sunny day in the park", True),
]  # fmt: skip


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("instructions", "answer", "right"), CASES)
def test_an_instruction_is_checked(
    instructions: list[tuple[str, dict[str, Any]]], answer: str, right: bool
) -> None:
    verdict = verify(problem(*instructions), answer, "t")
    assert verdict.outcome == ("correct" if right else "incorrect"), verdict
    assert verdict.verifier.startswith("ifeval/tracestill-")
    assert verdict.extracted == f"{int(right)} of 1"


@pytest.mark.usefixtures("library")
def test_an_answer_is_right_only_where_it_follows_all() -> None:
    both = problem(NO_COMMA, WORDS)
    answers = ["four words are here", "four words, are here", "a, b", "", None]
    verdicts = verify_many(
        [Answer(problem=both, text=text, trace_id=str(n)) for n, text in enumerate(answers)]
    )
    assert [one.outcome for one in verdicts] == ["correct"] + ["incorrect"] * 4
    assert [one.extracted for one in verdicts] == ["2 of 2", "1 of 2", "0 of 2", "0 of 2", "0 of 2"]
    assert verdicts[1].detail == "does not follow punctuation:no_comma"
    assert followed(verdicts) == (3, 10)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "reference",
    ["no json", "{}", '{"instruction_id_list": ["a:b"], "kwargs": []}',
     '{"instruction_id_list": ["a:b"], "kwargs": [{}]}'],
)  # fmt: skip
def test_a_reference_that_says_nothing_is_unverifiable(reference: str) -> None:
    bad = Problem(id="p", prompt="x", reference=reference, kind="ifeval", source="s")
    assert verify(bad, "text", "t").outcome == "unverifiable"


@pytest.mark.usefixtures("library")
def test_sentences_need_data_which_is_said_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    check_ifeval([problem(NO_COMMA)])
    with pytest.raises(ValueError, match=r"nltk\.downloader punkt_tab"):
        check_ifeval([problem(NO_COMMA, CAPITALS)])


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _checkers.cache_clear()
    monkeypatch.setitem(sys.modules, "if_verifiable.common", None)
    with pytest.raises(ValueError, match=r"pip install 'tracestill\[ifeval\]'"):
        check_ifeval([problem(NO_COMMA)])
    with pytest.raises(ValueError, match=r"pip install 'tracestill\[ifeval\]'"):
        verify(problem(NO_COMMA), "text", "t")
    assert not [name for name in verifier_names() if name.startswith("ifeval")]


@pytest.mark.usefixtures("library")
def test_a_model_is_evaluated_on_it(tmp_path: Path) -> None:
    rows = [
        {
            "key": n,
            "prompt": f"Write {n}.",
            "instruction_id_list": [NO_COMMA[0], WORDS[0]],
            "kwargs": [{}, WORDS[1]],
        }
        for n in range(4)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(request: web.Request, body: dict[str, Any], before: int) -> web.StreamResponse:
        number = int(body["messages"][-1]["content"].split()[1].rstrip("."))
        text = "one two three four" if number else "one, two, three, four"
        return reply(completion(f"<think>\nhm\n</think>\n\n{text}"))

    with scripted(answer) as server:
        done = run_tracestill(
            "evaluate", "m", f"ifeval={file}", "--base-url", server.url, "--out", tmp_path / "out"
        )
    assert done.returncode == 0, done.stderr
    figures = read_evaluated(tmp_path / "out" / "ifeval").figures
    assert (figures.pass_at_1, figures.instructions) == (0.75, 0.875)
    assert "of all instructions 87.5% are followed" in done.stdout
