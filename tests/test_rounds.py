"""Rounds: the student of one run is the teacher of the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run_tracestill

from tracestill.recipe.loading import load_recipe, recipe_of_run
from tracestill.records import read_manifest
from tracestill.run.rounds import Round, best


def written(folder: Path, recipe: Path, rounds: dict[str, Any], **later: Any) -> Path:
    """The tiny recipe with rounds, and another for the later ones that extends it."""
    values = yaml.safe_load(recipe.read_text())
    values["evaluate"] = {"models": ["student_after"]}
    path = folder / "rounds.yaml"
    path.write_text(yaml.safe_dump(values | {"rounds": rounds}))
    served = "engine" in later.get("generate", {})  # what it says replaces the first one's
    base = values if served else {"extends": "rounds.yaml"}
    (folder / "later.yaml").write_text(yaml.safe_dump(base | later))
    return path


def test_the_best_of_equal_rounds_is_the_first() -> None:
    made = [
        Round(number=number, folder="", kept=0, pass_at_1=rate, ci95=(0.0, 1.0))
        for number, rate in enumerate([0.5, 0.7, 0.7], 1)
    ]
    assert best(made).number == 2


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (
            {"generate": {"engine": "openai", "base_urls": ["http://localhost:1/v1"],
                          "model": "served"}},
            "name a recipe in rounds.later whose generate.engine is vllm",
        ),
        ({"evaluate": {"models": ["student_before"]}}, "evaluate.models must name student_after"),
        ({"problems": {"heldout": [{"source": "reasoning_gym", "family": "ab", "size": 3}]}},
         "compared on the same ones"),
        ({"generate": {"samples": "many"}}, "later.yaml, line "),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_the_first_round(
    tmp_path: Path, recipe: Path, later: dict[str, Any], said: str
) -> None:
    path = written(tmp_path, recipe, {"later": "later.yaml"}, **later)
    for command in (["run"], ["validate"]):
        options = ["--out", str(tmp_path / "out")] if command == ["run"] else []
        done = run_tracestill(*command, path, *options)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_recipe_for_later_rounds_that_is_missing_is_one_line(
    tmp_path: Path, recipe: Path
) -> None:
    path = written(tmp_path, recipe, {"later": "other.yaml"})
    done = run_tracestill("validate", path)
    assert "rounds.later: there is no file" in done.stderr
    assert load_recipe(path).rounds is not None


def test_a_stage_by_itself_is_that_of_the_first_round(tmp_path: Path, recipe: Path) -> None:
    path = written(tmp_path, recipe, {"count": 2})
    done = run_tracestill("run", path, "--out", tmp_path / "out", "--to", "problems")
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "out" / "round-1" / "problems") is not None
    assert recipe_of_run(tmp_path / "out" / "round-1").rounds is None


@pytest.mark.slow
@pytest.mark.parametrize("student", ["first", "last"])
def test_a_rounds_student_teaches_the_next(
    tmp_path: Path, recipe: Path, root: Path, student: str
) -> None:
    rounds = {"count": 2, "later": "later.yaml", "student": student}
    path = written(tmp_path, recipe, rounds, generate={"samples": 2})
    # A student that reasons already: of so few traces the other one does not learn to.
    command = ("run", path, "--out", tmp_path / "out", "--set")
    command += (f"finetune.student={root}/miniature/teacher",)
    done = run_tracestill(*command)
    assert done.returncode == 0, done.stderr
    second = recipe_of_run(tmp_path / "out" / "round-2")
    merged = str((tmp_path / "out" / "round-1" / "finetune" / "merged").resolve())
    assert second.generate.model == merged  # type: ignore[union-attr]
    assert (second.finetune.student == merged) is (student == "last")
    assert second.generate.samples.max == 2  # type: ignore[union-attr]
    told = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert [one["number"] for one in told] == [1, 2]
    again = run_tracestill(*command)
    assert again.returncode == 0
    assert "the best is round" in done.stdout
    assert again.stdout.count("reused") >= 10
