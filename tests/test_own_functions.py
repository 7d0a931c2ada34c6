"""Verifiers and selections that a user writes: `filter.verifiers`, `select: {by: FILE.py:…}`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import run_tracestill
from kept_run import make_run, row

from filter.verify import by_rules, verifier_name, verify
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.rules import Rules, read_rules
from tracestill.records import Drop, Problem, Verdict, read_table
from tracestill.stages.filter_settings import settings

ROMAN = """\
import os, time
from values import VALUES  # beside this file


def judge(problem, answer):
    if answer == "raise":
        return 1 / 0
    if answer == "leave":
        os._exit(3)
    if answer == "number":
        return 1
    if problem.reference == "?":
        return None
    return value(answer) == int(problem.reference), f"read as {value(answer)}"


def value(text):
    numbers = [VALUES[letter] for letter in text if letter in VALUES]
    after = [*numbers[1:], 0]
    return sum(-n if n < m else n for n, m in zip(numbers, after))


def fewest_steps(problem, trace):
    return None if trace.reasoning is None else trace.reasoning.count("\\n")


def not_even(problem, trace):
    return 1 / (trace.sample - 1)
"""


@pytest.fixture
def roman(tmp_path: Path) -> Path:
    (tmp_path / "values.py").write_text("VALUES = dict(I=1, V=5, X=10, L=50)\n")
    (tmp_path / "roman.py").write_text(ROMAN)
    return tmp_path / "roman.py"


def rules(file: Path) -> Rules:
    return read_rules("bubblewrap", {"roman": f"{file}:judge"})


def asked(reference: str) -> Problem:
    return Problem(id="1", prompt="In Roman?", reference=reference, kind="roman", source="mine")


@pytest.mark.parametrize(
    ("reference", "answer", "outcome", "detail"),
    [
        ("14", "XIV", "correct", "read as 14"),
        ("14", "XVI", "incorrect", "read as 16"),
        ("?", "X", "unverifiable", ""),
        ("14", None, "incorrect", "no answer"),
        ("14", "raise", "error", "ZeroDivisionError: division by zero"),
        ("14", "number", "error", "TypeError: judge returned 1: it returns True, False or None"),
        ("14", "leave", "error", "the verifier's process ended: code 3"),
    ],
)
def test_a_users_function_judges_problems_of_its_kind(
    roman: Path, reference: str, answer: str | None, outcome: str, detail: str
) -> None:
    verdict = verify(asked(reference), answer, "t", rules(roman))
    assert (verdict.outcome, verdict.detail) == (outcome, detail)
    assert verdict.verifier.startswith("roman/roman.judge-")


def test_its_name_tells_what_the_file_holds(roman: Path) -> None:
    before = verifier_name("roman", rules(roman))
    roman.write_text(ROMAN + "\n# another\n")
    assert verifier_name("roman", rules(roman)) != before


def test_a_file_that_cant_be_loaded_is_told_before_anything_is_judged(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\ndef judge(p, a): return True\n")
    given = read_rules("bubblewrap", {"mine": f"{tmp_path / 'bad.py'}:judge"})
    with pytest.raises(ValueError, match=r"bad\.py can't be loaded: ModuleNotFoundError: No mod"):
        by_rules(given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("roman.py:grade", "has no function grade, only judge, value, fewest_steps, not_even"),
        ("other.py:judge", "there is no file"),
        ("roman.py", "write FILE.py:FUNCTION"),
        ("broken.py:judge", "broken.py, line 1 is no Python"),
    ],
)
def test_what_is_not_there_is_told_when_the_recipe_is_read(
    roman: Path, text: str, said: str
) -> None:
    (roman.parent / "broken.py").write_text("def judge(:\n")
    recipe = _recipe(roman.parent, {"verifiers": {"roman": text}})
    done = run_tracestill("validate", recipe)
    assert done.returncode == 1
    assert f"filter.verifiers.roman: {said}" in done.stderr or said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("filtered", "kind", "said"),
    [
        ({}, "roman", "problems.heldout.0.kind: nothing judges problems of kind 'roman'"),
        ({"verifiers": {"math": "roman.py:judge"}}, "math", "have a verifier: give yours another"),
        ({"verifiers": {"Ro man": "roman.py:judge"}}, "math", "is no name of a kind"),
    ],
)
def test_a_kind_that_nothing_judges_is_told(
    roman: Path, filtered: dict[str, Any], kind: str, said: str
) -> None:
    done = run_tracestill("validate", _recipe(roman.parent, filtered, kind))
    assert done.returncode == 1
    assert said in done.stderr


def _recipe(folder: Path, filtered: dict[str, Any], kind: str = "math") -> Path:
    (folder / "traces.jsonl").write_text(json.dumps(row(1)))
    (folder / "heldout.jsonl").write_text(json.dumps({"prompt": "50 + 1?", "reference": "51"}))
    values = {
        "problems": {"heldout": [{"source": "file", "path": "heldout.jsonl", "kind": kind}]},
        "generate": {"engine": "import", "layout": "table", "path": "traces.jsonl"},
        "filter": filtered,
        "finetune": {"student": str(Path(__file__).parent.parent / "miniature/student"),
                     "template": "miniature"},
    }  # fmt: skip
    path = folder / "mine.yaml"
    path.write_text(json.dumps(values))
    return path


def _numerals() -> list[dict[str, Any]]:
    rows = []
    for number, good in ((4, "IV"), (9, "IX"), (14, "XIV")):
        for lines, text in ((3, good), (1, good), (2, "III")):
            steps = "\n".join(f"Step {step} of {number}." for step in range(lines))
            rows.append(row(
                number, prompt=f"Write {number} in Roman.", reference=str(number), source="roman",
                response=f"<think>\n{steps}\n</think>\n\n{text}",
            ))  # fmt: skip
    return rows


def test_a_run_filters_by_a_users_verifier_and_selection(roman: Path, tmp_path: Path) -> None:
    teacher = {"engine": "import", "layout": "table", "path": "traces.jsonl", "kind": "roman"}
    filtered = {
        "verifiers": {"roman": "roman.py:judge"},
        "steps": ["verify", {"select": {"by": "roman.py:fewest_steps", "per_problem": 1}}],
    }
    recipe, run = make_run(tmp_path, _numerals(), generate=teacher, filter=filtered)
    verdicts = read_table(run / "filter", "verdicts", Verdict)
    assert [one.outcome for one in verdicts] == ["correct", "correct", "incorrect"] * 3
    drops = read_table(run / "filter", "drops", Drop)
    assert sorted(one.reason for one in drops) == ["incorrect"] * 3 + ["over_cap"] * 3
    kept = [json.loads(line) for line in _kept(run)]
    assert [one["reasoning"].count("\n") for one in kept] == [0, 0, 0]

    # Only what the file says counts, not when it was written.
    made = settings(recipe)
    roman.write_text(ROMAN)
    assert settings(load_recipe(tmp_path / "sums.yaml")) == made
    roman.write_text(ROMAN.replace("return None if", "return 0 if"))
    assert settings(load_recipe(tmp_path / "sums.yaml")) != made


def _kept(run: Path) -> list[str]:
    import pyarrow.parquet as pq

    table = pq.read_table(next((run / "filter").glob("kept*.parquet")))
    return [json.dumps(one, default=str) for one in table.to_pylist()]


def test_a_selection_that_fails_says_on_which_trace(roman: Path, tmp_path: Path) -> None:
    steps = [{"select": {"by": "roman.py:not_even", "per_problem": 1}}]
    with pytest.raises(ValueError, match=r"roman\.py: not_even fails on trace \w+: ZeroDivision"):
        make_run(tmp_path, _numerals(), filter={"steps": steps})


def test_files_are_judged_and_curated_by_it(roman: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(
            json.dumps({"kind": "roman", "reference": "9", "completion": text}) + "\n"
            for text in ("IX", "XI")
        )
    )
    done = run_tracestill(
        "verify", "answers.jsonl", "judged.jsonl", "--verifier", "roman=roman.py:judge",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    judged = [json.loads(line) for line in (tmp_path / "judged.jsonl").read_text().splitlines()]
    assert [one["outcome"] for one in judged] == ["correct", "incorrect"]

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in _numerals()))
    steps = "[verify, {select: {by: 'roman.py:fewest_steps', per_problem: 1}}]"
    curate = ["curate", "rows.jsonl", "kept.jsonl", "--kind", "roman", "--steps", steps]
    done = run_tracestill(*curate, cwd=tmp_path)
    assert done.returncode == 1
    assert "--kind roman: nothing judges problems of kind 'roman'" in done.stderr
    done = run_tracestill(*curate, "--verifier", "roman=roman.py:judge", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 3
