"""Rounds: the student of one run is the teacher of the next, for as long as that helps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tracestill.recipe.generate import LocalTeacher
from tracestill.recipe.rounds import Rounds
from tracestill.recipe.schema import Recipe
from tracestill.records import write_atomic
from tracestill.run.listener import Listener
from tracestill.run.pipeline import run_recipe
from tracestill.run.summary import Summary
from tracestill.stages.evaluate import dtype_for_vllm

ROUNDS = "rounds.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A finished round: its number from 1, its folder's name, the traces that were kept, and how
    often its student is right on the held-out problems.
    """

    number: int
    folder: str
    kept: int
    pass_at_1: float
    ci95: tuple[float, float]


def round_folder(run: Path, number: int) -> Path:
    """Where a round's run lies in the folder of all."""
    return run / f"round-{number}"


def run_rounds(
    recipe: Recipe,
    later: Recipe,
    run: Path,
    listener: Listener,
    finished: Callable[[Round, Summary, Path], None],
) -> list[Round]:
    """Run the rounds of a recipe, each a run of its own in `round-1`, `round-2`, … of the folder
    `run`, and write `rounds.json`. `later` is the recipe of the second and those after it. What is
    there is reused, as in any run. `finished` is called after each round.

    Raises:
        ValueError: the recipe has no rounds, or what `check_rounds` and `run_recipe` say.
        StageError, StoppedError, OSError: as `run_recipe`.

    """
    rounds = recipe.rounds
    if rounds is None:
        raise ValueError("rounds: the recipe has none")
    check_rounds(recipe, later)
    made: list[Round] = []
    for number in range(1, rounds.count + 1):
        own = recipe if number == 1 else later
        before = round_folder(run, number - 1) if number > 1 else None
        folder = round_folder(run, number)
        summary = run_recipe(_recipe_of_round(own, rounds, before), folder, listener)
        student = summary.evaluate["student_after"]
        kept = next(stage.rows_out for stage in summary.stages if stage.name == "filter")
        low, high = student.ci95
        made.append(
            Round(
                number=number, folder=folder.name, kept=kept, pass_at_1=student.pass_at_1,
                ci95=(low, high),
            )
        )  # fmt: skip
        write_atomic(run / ROUNDS, (json.dumps([asdict(one) for one in made], indent=2)).encode())
        finished(made[-1], summary, folder)
        if best(made) is not made[-1]:
            break
    return made


def best(rounds: Sequence[Round]) -> Round:
    """The round whose student is right most often, of equal ones the first."""
    return max(rounds, key=lambda one: one.pass_at_1)


def check_rounds(recipe: Recipe, later: Recipe) -> None:
    """Check before the first round what would else end a later one.

    Raises:
        ValueError: a round's student could not be the next one's teacher, or is not evaluated.

    """
    if not isinstance(later.generate, LocalTeacher):
        raise ValueError(
            "rounds: from the second round on the student is the teacher, which vLLM runs in this "
            "process: name a recipe in rounds.later whose generate.engine is vllm"
        )
    for one in (recipe, later):
        if "student_after" not in one.evaluate.models:
            raise ValueError("rounds: evaluate.models must name student_after, which ends them")
    if recipe.problems.heldout != later.problems.heldout:
        raise ValueError(
            "rounds: rounds.later has other problems.heldout: rounds are compared on the same ones"
        )


def _recipe_of_round(recipe: Recipe, rounds: Rounds, before: Path | None) -> Recipe:
    """The recipe of one round, after the run `before`: an ordinary one."""
    alone = recipe.model_copy(update={"rounds": None})
    if before is None:
        return alone
    merged = (before / "finetune" / "merged").resolve()
    student = recipe.finetune
    asked = {
        "model": str(merged),
        "revision": None,
        "dtype": dtype_for_vllm(merged),
        "system_prompt": student.system_prompt,
    }
    update: dict[str, object] = {"generate": recipe.generate.model_copy(update=asked)}
    if rounds.student == "last":
        trained = {"student": str(merged), "revision": None}
        update["finetune"] = student.model_copy(update=trained)
    return alone.model_copy(update=update)
