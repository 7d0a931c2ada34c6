"""`tracestill plan`: what is still to come, by what each problem lacks."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from conftest import run_tracestill

from tracestill.commands.plan import _print_sampling
from tracestill.explore.load import load_run
from tracestill.planning.sampling import estimate
from tracestill.recipe.schema import Recipe
from tracestill.records import journal as journals


def recipe_of(run: Path, **sampling: object) -> Recipe:
    values = load_run(run).recipe
    values["generate"] |= sampling
    return Recipe.model_validate(values)


@pytest.fixture
def killed(copied: Path) -> Path:
    """A run that was killed at 35 of its 60 traces: every problem has one, none has all three."""
    journal = copied / "generate" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    rows = [row for row, _ in journals.read(journal)]
    first = sorted(range(60), key=lambda number: rows[number]["sample"])[:35]
    journal.write_bytes(b"".join(lines[number] for number in first))
    journals.index_path(journal).unlink()
    return copied


def test_after_a_kill_what_each_problem_lacks_is_still_to_come(killed: Path) -> None:
    plan = estimate(recipe_of(killed), killed, killed)
    assert (plan.problems, plan.sampled, plan.by) == (20, 0, 20)
    rows = [row for row, _ in journals.read(killed / "generate" / "journal.jsonl")]
    mean = sum(row["spent"] for row in rows) / len(rows)
    assert plan.tokens.estimate == pytest.approx(25 * mean)
    assert plan.tokens.low < plan.tokens.estimate < plan.tokens.high
    assert plan.hours.estimate > 0
    assert plan.disk.estimate > 0


def test_more_samples_are_still_to_come_where_the_rule_wants_more(copied: Path) -> None:
    done = estimate(recipe_of(copied), copied, copied)
    assert (done.sampled, done.tokens.estimate) == (20, 0)
    more = estimate(recipe_of(copied, samples=5), copied, copied)
    assert more.tokens.estimate == pytest.approx(done.tokens.spent * 2 / 3)


def test_the_speed_of_another_teacher_is_said_to_be_that(copied: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copied, tmp_path / "other"))
    assert estimate(recipe_of(other), other, copied).notes == []
    (note,) = estimate(recipe_of(other, temperature=0.3), other, copied).notes
    assert "with other settings: lengths and speed are those of that run" in note


@pytest.mark.slow
def test_few_problems_are_told_by_how_many_the_plan_goes_by(recipe: Path, copied: Path) -> None:
    """Twenty problems, all of them sampled: there are no more to go by."""
    done = run_tracestill("plan", recipe, "--out", copied, "--pilot", "0")
    assert done.returncode == 0, done.stderr
    assert "20 problems, 20 of them sampled" in done.stdout
    assert "to go by" not in done.stdout


def test_a_teacher_that_solves_nothing_is_shown(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = estimate(recipe_of(killed), killed, killed)
    _print_sampling(dataclasses.replace(plan, verified=0.0))
    assert "0.0% of those with a verified trace" in capsys.readouterr().out
