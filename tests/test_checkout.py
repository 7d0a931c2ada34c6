"""The checkout itself: which packages are imported, how fast, and what each recipe says."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tracestill.recipe.loading import load_recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", ["tracestill", "generate", "filter", "finetune"])
def test_packages_are_those_of_this_checkout(name: str, root: Path) -> None:
    where = Path(importlib.import_module(name).__file__ or "").resolve()
    owners = packages_distributions().get(name, ["an unknown distribution"])
    assert where.is_relative_to(root), (
        f"`import {name}` finds {where}: uninstall {', '.join(owners)} or use this checkout's .venv"
    )


def test_files_stay_as_short_as_a_reader_likes(root: Path) -> None:
    """The whole line in 120 lines, and no file of the packages above 300."""
    packages = ("tracestill", "generate", "filter", "finetune")
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for package in packages
        for path in (root / package).rglob("*.py")
    }
    assert lengths["tracestill/run/pipeline.py"] <= 120
    assert {path: lines for path, lines in lengths.items() if lines > 300} == {}


def test_recipes_folder_holds_no_python(root: Path) -> None:
    assert not list((root / "recipes").rglob("*.py"))


def test_tests_folder_is_no_package(root: Path) -> None:
    assert not list((root / "tests").rglob("__init__.py"))


@pytest.mark.parametrize(
    "code", ["import tracestill", "import tracestill, tracestill.recipe.loading"]
)
def test_import_is_light(code: str) -> None:
    heavy = "{'torch', 'vllm', 'trl', 'ray', 'transformers', 'pandas'}"
    check = f"{code}; import sys; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, f"{code} imports {done.stderr}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_is_good(path: Path) -> None:
    assert load_recipe(path).name


def test_help_names_every_command() -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tracestill", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for command in ("run", "generate", "filter", "finetune", "evaluate", "report", "status"):
        assert command in done.stdout
    assert time.monotonic() - begin < 30  # a hang, not a benchmark
