"""`tracestill new`: write a recipe by five questions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

_ASKED = {
    "gpu": "GPU to train on (24GB, RTX 4090, H100 …; none for a CPU)",
    "student": "Student (a hub id or a folder)",
    "problems": "Problems (gsm8k, openr1-math, gym:FAMILY,FAMILY, or a file)",
    "teacher": "Teacher (a hub id or folder that vLLM runs here, MODEL@URL, or import:DATASET)",
    "budget": "Budget of the teacher (none, 20M tokens, 12 hours)",
}


def new(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Where to write the recipe.")
    ] = Path("recipe.yaml"),
    gpu: Annotated[str | None, typer.Option("--gpu", help=_ASKED["gpu"])] = None,
    student: Annotated[str | None, typer.Option("--student", help=_ASKED["student"])] = None,
    problems: Annotated[str | None, typer.Option("--problems", help=_ASKED["problems"])] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help=_ASKED["teacher"])] = None,
    budget: Annotated[str | None, typer.Option("--budget", help=_ASKED["budget"])] = None,
) -> None:
    """Write a recipe of your own: asks for what no option says, and overwrites nothing."""
    from tracestill.planning.draft import (
        budget_of,
        checked_gpu,
        checked_student,
        draft,
        largest_student,
        problems_of,
        teacher_of,
    )

    if file.exists():
        raise ValueError(f"{file} is there already, and is left as it is; name another file")
    gpu = _asked("gpu", gpu, "24GB", checked_gpu)
    student = _asked("student", student, largest_student(gpu), checked_student)
    problems = _asked("problems", problems, "gsm8k", lambda said: problems_of(said, False))
    usual = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    teacher = _asked("teacher", teacher, usual, teacher_of)
    budget = _asked("budget", budget, "none", budget_of)
    _write(file, draft(gpu, student, problems, teacher, budget))
    typer.echo(f"{file} is written. Next:\n")
    typer.echo(f"  tracestill validate {file}")
    # A pilot of the teacher is planned once it is at hand: first what the student takes.
    typer.echo(f"  tracestill plan {file} --pilot 0" + ("" if gpu == "none" else f" --gpu '{gpu}'"))
    typer.echo(f"  tracestill run {file}")


def _asked(name: str, said: str | None, default: str, check: Callable[[str], Any]) -> str:
    """The option's value, or the answer of the person at the terminal, asked until it is right.

    Raises:
        ValueError: the option's value is wrong, or nobody is there to be asked.

    """
    if said is not None:
        check(said)
        return said
    if not sys.stdin.isatty():
        raise ValueError(f"--{name} is missing, and there is no terminal to ask: {_ASKED[name]}")
    while True:
        answer: str = typer.prompt(_ASKED[name], default=default).strip()
        try:
            check(answer)
        except ValueError as error:
            typer.echo(str(error), err=True)
        else:
            return answer


def _write(file: Path, values: dict[str, Any]) -> None:
    """Write a recipe that is good; nothing stays of one that is not."""
    import yaml

    from tracestill.recipe.loading import load_recipe
    from tracestill.recipe.paths import check_paths

    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    text = yaml.dump(values, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)
    with file.open("x", encoding="utf-8") as opened:
        opened.write(f"# Written by `tracestill new`; docs/recipes.md has every key.\n{text}")
    try:
        check_paths(load_recipe(file))
    except ValueError:
        file.unlink()
        raise
