"""Gather what a run has and write its report."""

from __future__ import annotations

import base64
import hashlib
import itertools
import shlex
from pathlib import Path
from typing import Any

from tracestill.explore.became import became
from tracestill.explore.load import Run, load_run
from tracestill.explore.plots import NAMES
from tracestill.explore.results import cost_said, results_of, stages_of
from tracestill.explore.training import training
from tracestill.records import Match, read_table
from tracestill.records.layout import REPORT, STAGES

_MATCHES = 100  # that are shown
_HERE = Path(__file__).parent


def build(folder: Path) -> Path:
    """Write `report.html` for the run in `folder`; what is not there yet is named in it.

    Raises:
        ValueError: `folder` is no run, or a stage's files are damaged.

    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from tracestill.records import write_atomic

    run = load_run(folder)
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["thousands"] = lambda value: f"{value:,}"
    page = environment.get_template("page.html.jinja").render(**_content(run), **_own())
    path = folder / REPORT
    write_atomic(path, page.encode())
    return path


def _own() -> dict[str, str]:
    """The page's own style and script, and the policy by which a browser runs nothing else."""
    style = (_HERE / "page.css").read_text()
    script = "".join((_HERE / name).read_text() for name in ("page.js", "traces.js"))
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    ]
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "script": script, "policy": policy}


def _content(run: Run) -> dict[str, Any]:
    """Everything that the page shows; a part is None for what the run does not have yet."""
    done = {stage for stage in STAGES if stage != "report" and run.manifest(stage) is not None}
    recipe, stages = run.recipe, stages_of(run)
    sifted = {"generate", "filter"} <= done
    return {
        "name": recipe["name"],
        "description": recipe["description"],
        "recipe": (run.path / "recipe.yaml").read_text(),
        "provenance": run.provenance,
        "missing": [s for s in STAGES if s != "report" and s not in done],
        "names": NAMES,
        "run": shlex.quote(_as_typed(run.path)),
        "evaluated": results_of(run) if "evaluate" in done else None,
        "became": became(run, recipe["report"]) if sifted else None,
        "matches": _matches(run),
        "training": training(run) if "finetune" in done else None,
        "stages": stages,
        "cost": cost_said(stages),
    }


def _as_typed(path: Path) -> str:
    """The run's folder as a user types it where the run was made."""
    whole, here = path.resolve(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _matches(run: Run) -> list[Match]:
    """Problems that were left out since they hold an item of a benchmark, each beside the item."""
    manifest = run.manifest("problems")
    if manifest is None or "contaminated" not in manifest.tables:
        return []
    return list(
        itertools.islice(read_table(run.path / "problems", "contaminated", Match), _MATCHES)
    )
