"""Read a recipe from YAML, with `extends` and `--set`."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tracestill.recipe.errors import Key, Origin, RecipeError, dotted, explain_all
from tracestill.recipe.older_steps import without_steps
from tracestill.recipe.paths import resolve_paths
from tracestill.recipe.schema import NAME, Recipe
from tracestill.recipe.yaml_values import Loader, read_yaml
from tracestill.records.layout import recipe_path


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `overrides` of the form `a.b=value` put over it.

    Raises:
        RecipeError: the file can't be read or holds a mistake; every mistake is named.

    """
    origins: dict[Key, Origin] = {}
    values = _read(path, origins, ())
    for override in overrides:
        _override(values, override, origins)
    resolve_paths(values, origins)
    if re.match(NAME, path.stem):
        values.setdefault("name", path.stem)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = explain_all(error.errors(), origins, path)
        raise RecipeError("\n".join(lines)) from error


def recipe_of_run(run: Path) -> Recipe:
    """The whole recipe with which a run was made.

    Raises:
        ValueError: the folder is no run, or its recipe is not one of this version.

    """
    return Recipe.model_validate(read_yaml(recipe_path(run).read_text(encoding="utf-8")))


def _read(path: Path, origins: dict[Key, Origin], chain: tuple[Path, ...]) -> dict[str, Any]:
    """A file's values over those of the file that it extends."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"there is no recipe {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} can't be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=Loader)
        values = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{where}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict) or node is None:
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as problems and generate")
    own = dict(_lines(node, (), path))
    base = values.get("extends")
    if base is None:
        origins.update(own)
        return values
    parent = (path.parent / str(base)).resolve()
    if parent in (*chain, path.resolve()):
        raise RecipeError(f"{own[('extends',)]}: {base} extends this recipe in turn")
    if not parent.is_file():
        raise RecipeError(f"{own[('extends',)]}: there is no recipe {parent}")
    below = _read(parent, origins, (*chain, path.resolve()))
    if isinstance(said := values.get("filter"), dict) and said.get("steps") is not None:
        _forget_steps(below)
    merged = _merge(below, values)
    origins.update(own)
    return merged


def _lines(node: yaml.Node, key: Key, file: Path) -> Iterator[tuple[Key, Origin]]:
    """Where each key of a YAML tree stands."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*key, str(name.value))
            yield inner, Origin(file, name.start_mark.line + 1)
            yield from _lines(value, inner, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*key, index), Origin(file, value.start_mark.line + 1)
            yield from _lines(value, (*key, index), file)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`: mappings are merged, anything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = _merge(typing.cast(dict[str, Any], old), value) if both else value
    return merged


def _forget_steps(values: dict[str, Any]) -> None:
    """Forget what is said of the filter's steps, which a new list of them replaces."""
    if isinstance(values.get("filter"), dict):
        values["filter"] = without_steps(values["filter"])


def _override(values: dict[str, Any], text: str, origins: dict[Key, Origin]) -> None:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise RecipeError(f"--set {text}: write --set section.key=value")
    key: Key = tuple(int(part) if part.isdigit() else part for part in name.split("."))
    try:
        parsed = read_yaml(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text}: the value is not YAML") from error
    if key == ("filter", "steps"):
        _forget_steps(values)
    place: Any = values
    for index, part in enumerate(key[:-1]):
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        try:
            place = place[part]
        except (KeyError, IndexError, TypeError) as error:
            raise RecipeError(f"--set {text}: there is no {dotted(key[: index + 1])}") from error
    try:
        place[key[-1]] = parsed
    except (IndexError, TypeError) as error:
        raise RecipeError(f"--set {text}: {dotted(key[:-1])} holds no {key[-1]}") from error
    origins[key] = Origin(None, 0)


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML with every default, and with all that it took from a recipe it extends, so
    that it can be run from anywhere.
    """
    values = recipe.model_dump(mode="json", exclude={"extends"})
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text
