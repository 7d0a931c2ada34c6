"""A few problems sampled ahead of a run, to plan it by."""

from __future__ import annotations

from pathlib import Path

from tracestill.recipe.loading import dump_recipe
from tracestill.recipe.schema import Recipe
from tracestill.records import write_atomic
from tracestill.records.layout import RECIPE
from tracestill.run.fingerprint import reusable
from tracestill.run.listener import Listener
from tracestill.run.lock import locked
from tracestill.run.pipeline import LINE, run_recipe
from tracestill.run.process import run_job


def run_pilot(recipe: Recipe, run: Path, count: int, listener: Listener) -> None:
    """Make a run's problems and sample `count` of them: see `tracestill.stages.generate.pilot`.

    Raises:
        as `run_recipe`.

    """
    if not reusable(LINE["problems"], "problems", recipe, run):
        run_recipe(recipe, run, listener, stop="problems")
    with locked(run) as lock:
        write_atomic(run / RECIPE, dump_recipe(recipe).encode())
        if count:
            listener.begin("pilot")
            run_job("pilot", run, lock, listener, str(count))
