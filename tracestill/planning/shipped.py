"""The recipes that come with tracestill: what each is for, and what it will take, as far as that is
known without a run.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from finetune.planner import TrainingPlan
from tracestill.planning.training import plan_student
from tracestill.recipe.errors import RecipeError
from tracestill.recipe.generate import ImportTeacher, ServedTeacher
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.schema import Recipe
from tracestill.records.content import model_name

FOLDER = Path(__file__).parents[2] / "recipes"
LABELS = ("What", "GPU", "Teacher", "Data", "Student", "Reported", "Run")
_LABEL = re.compile(r"# ([A-Z][A-Za-z]*): (.*)")
_NOWHERE = Path("/nonexistent")  # a run that has nothing yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A shipped recipe, and what the comments at its head say, by their labels (`LABELS`)."""

    path: Path
    recipe: Recipe
    about: dict[str, str]

    @property
    def gpu(self) -> str | None:
        """The GPU that it is meant for, as `--gpu` takes it; None for a CPU."""
        name = re.split(r"[,;:]", self.about["GPU"])[0].strip()
        return None if name == "none" else re.sub(r"^\d+ x ", "", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What sampling takes at most: tokens of answers, and money in the currency of the recipe's
    prices; None where nothing bounds it. `problems` is None where all of a source are taken.
    """

    problems: int | None
    samples: int
    tokens: int | None
    money: float | None


def names() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shipped(name: str) -> Shipped:
    """A shipped recipe by its name.

    Raises:
        ValueError: there is none of that name.

    """
    if name not in (there := names()):
        raise RecipeError(f"there is no recipe {name}; shipped are {', '.join(there)}")
    path = FOLDER / f"{name}.yaml"
    return Shipped(path=path, recipe=load_recipe(path), about=read_about(path))


def read_about(path: Path) -> dict[str, str]:
    """What the comments at a recipe's head say, by their labels. A label begins a line; lines that
    are indented go on with it.
    """
    about: dict[str, str] = {}
    label = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if found := _LABEL.fullmatch(line):
            label = found[1]
            about[label] = found[2]
        elif label and line.startswith("#  "):
            about[label] += f" {line[1:].strip()}"
    return about


def origin(recipe: Recipe) -> str:
    """Where a recipe's traces come from, in words."""
    teacher = recipe.generate
    if isinstance(teacher, ImportTeacher):
        return f"imported: {teacher.path or teacher.dataset or teacher.layout}"
    if isinstance(teacher, ServedTeacher):
        hosts = dict.fromkeys(urlsplit(url).netloc for url in teacher.base_urls)
        return f"asked at {', '.join(hosts)}: {teacher.model}"
    return f"sampled here: {model_name(teacher.model)}"


def most_sampled(recipe: Recipe) -> Sampling | None:
    """What sampling a recipe's teacher takes at most; None where traces are imported. Prompts are
    not counted.
    """
    teacher = recipe.generate
    if isinstance(teacher, ImportTeacher):
        return None
    sizes = [source.size for source in recipe.problems.train]
    problems = None if None in sizes else sum(typing.cast(list[int], sizes))
    samples = teacher.samples.max
    tokens = problems and problems * samples * teacher.max_tokens
    bounds = [bound for bound in (tokens, teacher.budget.tokens) if bound is not None]
    tokens = min(bounds, default=None)
    by_price = None if tokens is None else tokens * teacher.prices.completion / 1e6
    paid = [bound for bound in (by_price, teacher.budget.money) if bound is not None]
    return Sampling(
        problems=problems, samples=samples, tokens=tokens, money=min(paid, default=None)
    )


def training_plan(recipe: Recipe, gpu: str) -> TrainingPlan:
    """What training takes on the GPU, of full rows, by the student's sizes alone: nothing is read
    from a hub.

    Raises:
        ValueError: the student's sizes or the GPU are not known.

    """
    return plan_student(recipe, _NOWHERE, _NOWHERE, gpu).plan
