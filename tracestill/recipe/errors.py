"""Where a recipe's keys are written, and its mistakes as lines that name the place and the fix."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tracestill.recipe.schema import Recipe

Key = tuple[str | int, ...]

# What pydantic adds to the place of a mistake where a key may be of several types.
_OF_A_TYPE = re.compile(r"(constrained-)?(int|float|str|bool)$|(list|dict|tuple|literal)\[")
_SHOULD = "Input should be "


class RecipeError(ValueError):
    """A recipe that can't be used; its text is one line for each mistake."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: a file and its line (from 1), or the command line."""

    file: Path | None
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.file else "--set"

    @property
    def folder(self) -> Path:
        """From where a relative path written here leads."""
        return self.file.parent if self.file else Path.cwd()


def dotted(key: Sequence[str | int]) -> str:
    """A key as `--set` takes it: `problems.train.0.path`."""
    return ".".join(str(part) for part in key)


def explain_all(details: Sequence[Any], origins: Mapping[Key, Origin], path: Path) -> list[str]:
    """Pydantic's mistakes, a line each. What fits none of a key's types is one mistake, of which
    pydantic has one for each type.
    """
    grouped: dict[tuple[Any, ...], list[Any]] = {}
    for detail in details:
        location = detail["loc"]
        if location and _OF_A_TYPE.match(str(location[-1])):
            grouped.setdefault(location[:-1], []).append(detail)
        else:
            grouped[*location, detail["msg"]] = [detail]
    lines = [explain(_joined(several), origins, path) for several in grouped.values()]
    return list(dict.fromkeys(lines))


def _joined(details: Sequence[Any]) -> Any:
    """The mistakes of a value by its key's types as one: what it should be, or else."""
    first = details[0]
    if not first["loc"] or not _OF_A_TYPE.match(str(first["loc"][-1])):
        return first
    wanted = [one["msg"].removeprefix(_SHOULD).partition(", unable")[0] for one in details]
    message = f"{_SHOULD}{' or '.join(dict.fromkeys(wanted))}"
    return {**first, "loc": first["loc"][:-1], "msg": message}


def explain(detail: Any, origins: Mapping[Key, Origin], path: Path) -> str:
    """One mistake as one line: where it stands, what is wrong, what would be right."""
    message = detail["msg"].removeprefix("Value error, ")
    between_sections = not detail["loc"]
    key, model = _locate(detail["loc"] or tuple(message.partition(":")[0].split(".")))
    origin = next(
        (origins[key[:end]] for end in range(len(key), 0, -1) if key[:end] in origins),
        Origin(path, 1),
    )
    if between_sections:
        return f"{origin}: {message}"
    where = f"{origin}: {dotted(key)}"
    kind = detail["type"]
    if kind == "extra_forbidden":
        allowed = sorted(model.model_fields) if model else []
        near = difflib.get_close_matches(str(key[-1]), allowed, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{where}: unknown key; {hint}Allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return f"{origin}: {dotted(key)} is missing"
    shown = repr(detail["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
    message = message[0].lower() + message[1:]
    if key[-1] == "api_key_env":
        return f"{where}: {message}"  # it may be the key itself
    return f"{where}: {message} (it is {shown})"


def _locate(location: Sequence[str | int]) -> tuple[Key, type[BaseModel] | None]:
    """The YAML key of an error's location, which also names members of unions, and the model
    that holds the key.
    """
    key: list[str | int] = []
    models: list[type[BaseModel]] = [Recipe]
    owner: type[BaseModel] | None = Recipe
    for part in location:
        tagged = [m for m in models if part in (m.__name__, _tag(m))]
        if len(models) > 1 and tagged:
            models = tagged
            owner = tagged[0]
            continue
        key.append(part)
        if isinstance(part, int):
            continue
        owner = models[0] if models else None
        found = [m.model_fields[part] for m in models if part in m.model_fields]
        models = [m for item in found for m in _models_in(item.annotation)]
    return tuple(key), owner


def _tag(model: type[BaseModel]) -> str | None:
    for name in ("source", "engine"):
        if field := model.model_fields.get(name):
            return str(typing.get_args(field.annotation)[0])
    return None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for inner in typing.get_args(annotation) for m in _models_in(inner)]
