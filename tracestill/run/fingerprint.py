"""Whether a stage need not be made again.

A stage depends on its own settings and on the content that earlier stages made, not on how they
made it: sampling with more requests in flight, which gives the same traces, retrains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracestill.recipe.schema import Recipe
from tracestill.records import (
    Manifest,
    OnProgress,
    StageResult,
    check_files,
    digest,
    missing_file,
    read_manifest,
)
from tracestill.records.identity import FORMAT
from tracestill.records.layout import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stage of the line: the settings that its result depends on, as JSON holds them, how it is
    made, and which tables and folders of earlier stages it reads (all of them where none is named).

    `limits` are settings that matter only where they cut the stage short, such as a budget. `given`
    is what people put into the run for the stage, as JSON holds it, empty where they did not.
    """

    settings: Callable[[Recipe], Any]
    make: Callable[[Recipe, Path, OnProgress], StageResult]
    reads: dict[Stage, tuple[str, ...]] = field(default_factory=dict)
    limits: Callable[[Recipe], Any] = lambda recipe: None
    given: Callable[[Path], Any] = lambda run: None


def fingerprint(
    part: Part, stage: Stage, recipe: Recipe, run: Path, *, given: Any, cut_short: bool = False
) -> str:
    """A hash of a stage's settings and of the content of its inputs as they lie on disk, with what
    people had `given` it when it began.

    Raises:
        ValueError: an input is not complete.

    """
    inputs = {}
    for name, parts in part.reads.items():
        manifest = read_manifest(run / name)
        if manifest is None:
            raise ValueError(f"{stage} needs the stage {name}, which is not complete in {run}")
        inputs[name] = manifest.content(*parts)
    limits = part.limits(recipe) if cut_short else None
    further = [given] if given else []  # so that a run of before there was such stays valid
    return digest(FORMAT, stage, inputs, part.settings(recipe), limits, *further)


def current(part: Part, stage: Stage, recipe: Recipe, run: Path) -> Manifest | None:
    """The manifest of a stage that is complete, with every file that it made, and was made from
    today's settings and inputs; None if there is none such.
    """
    manifest = read_manifest(run / stage)
    if manifest is None or missing_file(run / stage, manifest) is not None:
        return None
    made = fingerprint(
        part, stage, recipe, run, given=part.given(run), cut_short=manifest.cut_short
    )
    return manifest if manifest.fingerprint == made else None


def reusable(part: Part, stage: Stage, recipe: Recipe, run: Path) -> bool:
    """Whether a stage need not be made again.

    Raises:
        ValueError: one of its files has another size than when it was made.

    """
    manifest = current(part, stage, recipe, run)
    if manifest is not None:
        check_files(run / stage, manifest)
    return manifest is not None
