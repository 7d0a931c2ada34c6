"""A grid of runs: one recipe, keys that are varied, and seeds."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tracestill.recipe.errors import RecipeError
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.schema import NAME, Recipe
from tracestill.recipe.yaml_values import read_yaml
from tracestill.records import digest

_MANY = 3  # seeds, where nothing is said of them
_KEYS = ("recipe", "what", "set", "vary", "seeds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of what is varied: how it is called, and the keys that it sets (`a.b=value`)."""

    label: str
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Varied:
    """What is varied: a key of the recipe, or a name for several keys that change together."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A value of each varied key, by the key, and the settings of all of them."""

    labels: dict[str, str]
    settings: tuple[str, ...]

    def __str__(self) -> str:
        said = ", ".join(f"{short(key)} {label}" for key, label in self.labels.items())
        return said or "the recipe as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Every combination of the varied values, each with every seed. `settings` (`a.b=value`) hold
    in all of them, `what` says what is asked.
    """

    recipe: Path
    name: str
    what: str = ""
    settings: tuple[str, ...] = ()
    varied: tuple[Varied, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)

    def cells(self) -> list[Cell]:
        """The combinations; the last key changes first."""
        return [
            Cell(
                labels={one.key: v.label for one, v in zip(self.varied, values, strict=True)},
                settings=tuple(setting for value in values for setting in value.settings),
            )
            for values in itertools.product(*(one.values for one in self.varied))
        ]

    def load(self, cell: Cell, seed: int) -> Recipe:
        """The recipe of a cell with a seed.

        Raises:
            RecipeError: a varied key or value is not one of the recipe's.

        """
        try:
            return load_recipe(self.recipe, [*self.settings, *cell.settings, f"seed={seed}"])
        except RecipeError as error:
            raise RecipeError(str(error).replace("--set", "--vary")) from error


@dataclass(slots=True, kw_only=True)
class _Said:
    """What a file or the command line says of a grid, as YAML has it."""

    recipe: Path
    name: str
    what: str = ""
    settings: list[str] = field(default_factory=list)
    vary: dict[str, Any] = field(default_factory=dict)
    seeds: Any = _MANY


def read_grid(
    path: Path, vary: Sequence[str] = (), seeds: str | None = None, settings: Sequence[str] = ()
) -> Grid:
    """The grid that a file describes (its keys are recipe, what, set, vary, seeds), or that of a
    recipe, with what the command line adds: `vary` (`key=value,value`), `seeds` (a number of them,
    or several) and `settings` (`key=value`).

    Raises:
        RecipeError: the file, a key or a value can't be used.

    """
    said = _read_file(path)
    for text in vary:
        key, sign, values = text.partition("=")
        if not key or not sign:
            raise RecipeError(f"--vary {text}: write --vary section.key=value,value")
        said.vary[key] = _yaml(f"[{values}]", f"--vary {text}")
    said.settings += settings
    if seeds is not None:
        several = "," in seeds
        said.seeds = _yaml(f"[{seeds}]" if several else seeds, f"--seeds {seeds}")
    load_recipe(said.recipe, said.settings)  # its own mistakes are told before those of a cell
    return Grid(
        recipe=said.recipe,
        name=said.name,
        what=said.what,
        settings=tuple(said.settings),
        varied=tuple(_varied(key, values) for key, values in said.vary.items()),
        seeds=_seeds(said.seeds),
    )


def short(key: str) -> str:
    """The end of a key that says enough for people: `finetune.lora.rank` is `lora.rank`."""
    return ".".join(key.split(".")[-2:]) if key.count(".") > 1 else key.split(".")[-1]


def folder_of(cell: Cell, seed: int) -> str:
    """The name of a run's folder, which the values and the seed decide."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", str(cell)).strip("-.")[:48] if cell.labels else "recipe"
    return f"{words}-{digest('cell', list(cell.settings))[:6]}-seed{seed}"


def setting(key: str, value: Any) -> str:
    """A key and its value as `--set` takes them."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _read_file(path: Path) -> _Said:
    """What a grid's file says; of a recipe's file, that it is varied."""
    values: Any = None
    if path.is_file():
        try:
            values = read_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            values = None  # which load_recipe tells with the line
    if not isinstance(values, dict) or "recipe" not in values:
        return _Said(recipe=path, name=f"ablate-{path.stem}")
    if unknown := [name for name in values if name not in _KEYS]:
        raise RecipeError(
            f"{path}: {unknown[0]}: unknown key; a grid has these: {', '.join(_KEYS)}"
        )
    if not re.match(NAME, path.stem):
        raise RecipeError(f"{path}: name the file by letters, digits, dots, dashes only")
    for name in ("set", "vary"):
        if not isinstance(values.get(name) or {}, dict):
            raise RecipeError(f"{path}: {name}: write keys of the recipe, each with its value")
    return _Said(
        recipe=path.parent / str(values["recipe"]),
        name=path.stem,
        what=" ".join(str(values.get("what") or "").split()),
        settings=[setting(key, value) for key, value in (values.get("set") or {}).items()],
        vary=dict(values.get("vary") or {}),
        seeds=values.get("seeds", _MANY),
    )


def _yaml(text: str, where: str) -> Any:
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: the values are not YAML") from error


def _varied(key: str, values: Any) -> Varied:
    """A varied key with a list of values, or a name with named groups of settings."""
    if key == "seed":
        raise RecipeError("--vary seed: say it as --seeds")
    if isinstance(values, Mapping):
        if wrong := [name for name, keys in values.items() if not isinstance(keys, Mapping)]:
            raise RecipeError(
                f"vary: {key}: {wrong[0]}: write the keys that it sets, as {{section.key: value}}"
            )
        named = [
            Value(label=str(name), settings=tuple(setting(*item) for item in keys.items()))
            for name, keys in values.items()
        ]
    elif isinstance(values, list):
        named = [Value(label=_label(value), settings=(setting(key, value),)) for value in values]
    else:
        raise RecipeError(f"vary: {key}: write a list of values")
    labels = [value.label for value in named]
    if len(labels) < 2:
        raise RecipeError(f"--vary {key}: give two values or more, as {key}=VALUE,VALUE")
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise RecipeError(f"--vary {key}: {twice[0]} is there twice")
    return Varied(key=key, values=tuple(named))


def _label(value: Any) -> str:
    """A value as a table shows it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())


def _seeds(said: Any) -> tuple[int, ...]:
    whole = isinstance(said, int) and not isinstance(said, bool)
    seeds = list(range(said)) if whole else said
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise RecipeError("--seeds: write how many, such as 5 (seeds 0 to 4), or several: 3,7")
    if len(set(seeds)) < len(seeds):
        raise RecipeError("--seeds: one is there twice")
    return tuple(seeds)
