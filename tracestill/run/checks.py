"""What must be as a recipe says before any of its stages begins."""

from __future__ import annotations

from collections.abc import Collection

from tracestill.recipe.egress import check_egress
from tracestill.recipe.forgetting import check_judges
from tracestill.recipe.schema import Recipe
from tracestill.recipe.trackers import check_trackers
from tracestill.records.layout import Stage


def check_start(recipe: Recipe, stages: Collection[Stage]) -> None:
    """Check what would else end a run after hours, and what must never leave the machine.

    Raises:
        ValueError: the recipe sends something to a host that it does not allow, or a library that
            one of these stages takes is missing.

    """
    check_egress(recipe)  # before a URL with a password in it is written to the folder
    if "finetune" in stages:
        check_trackers(recipe.finetune.report_to)
    if "evaluate" in stages:
        check_judges(recipe.evaluate)
