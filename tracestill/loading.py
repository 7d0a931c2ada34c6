"""Read a recipe from YAML: `extends`, `--set`, paths, and errors that name the line and the fix."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from finetune.contract import read_contract
from generate.config import ImportTeacher
from tracestill.egress import egress_mistakes
from tracestill.recipe import Recipe
from tracestill.records.models import LocalModel

Key = tuple[str | int, ...]

_MODEL_KEYS: tuple[Key, ...] = (
    ("generate", "model"),
    ("finetune", "student"),
    ("finetune", "on_policy", "teacher"),
    ("filter", "judge", "model"),
)
_FILE_KEYS: tuple[Key, ...] = (
    ("finetune", "template"),
    ("filter", "judge", "template"),
    ("generate", "path"),
)


class RecipeError(ValueError):
    """A recipe that can't be used; its text is one line for each mistake."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a value was written: a file and its line (from 1), or the command line."""

    file: Path | None
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.file else "--set"

    @property
    def folder(self) -> Path:
        return self.file.parent if self.file else Path.cwd()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `overrides` of the form `a.b=value` put over it.

    Raises:
        RecipeError: the file can't be read or holds a mistake; every mistake is named.

    """
    origins: dict[Key, _Origin] = {}
    values = _read(path, origins, ())
    for override in overrides:
        _override(values, override, origins)
    _resolve_paths(values, origins)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = [_explain(detail, origins, path) for detail in error.errors()]
        raise RecipeError("\n".join(dict.fromkeys(lines))) from error


def _read(path: Path, origins: dict[Key, _Origin], chain: tuple[Path, ...]) -> dict[str, Any]:
    """A file's values over those of the file that it extends."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"there is no recipe {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} can't be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
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
    merged = _merge(_read(parent, origins, (*chain, path.resolve())), values)
    origins.update(own)
    return merged


def _lines(node: yaml.Node, key: Key, file: Path) -> Iterator[tuple[Key, _Origin]]:
    """Where each key of a YAML tree stands."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*key, str(name.value))
            yield inner, _Origin(file, name.start_mark.line + 1)
            yield from _lines(value, inner, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*key, index), _Origin(file, value.start_mark.line + 1)
            yield from _lines(value, (*key, index), file)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`: mappings are merged, anything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = _merge(typing.cast(dict[str, Any], old), value) if both else value
    return merged


def _override(values: dict[str, Any], text: str, origins: dict[Key, _Origin]) -> None:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise RecipeError(f"--set {text}: write --set section.key=value")
    key: Key = tuple(int(part) if part.isdigit() else part for part in name.split("."))
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text}: the value is not YAML") from error
    place: Any = values
    for index, part in enumerate(key[:-1]):
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        try:
            place = place[part]
        except (KeyError, IndexError, TypeError) as error:
            raise RecipeError(f"--set {text}: there is no {_dotted(key[: index + 1])}") from error
    try:
        place[key[-1]] = parsed
    except (IndexError, TypeError) as error:
        raise RecipeError(f"--set {text}: {_dotted(key[:-1])} holds no {key[-1]}") from error
    origins[key] = _Origin(None, 0)


def _resolve_paths(values: dict[str, Any], origins: dict[Key, _Origin]) -> None:
    """Make every path absolute, from the folder of the file in which it is written."""
    sources = values.get("problems")
    files: list[Key] = list(_FILE_KEYS)
    if isinstance(sources, dict):
        for split, items in sources.items():
            if isinstance(items, list):
                files += [("problems", split, index, "path") for index in range(len(items))]
    for key in (*_MODEL_KEYS, *files):
        *parents, last = key
        place: Any = values
        for part in parents:
            try:
                place = place[part]
            except (KeyError, IndexError, TypeError):
                place = None
        if not isinstance(place, dict) or not isinstance(place.get(last), str):
            continue
        if key in _MODEL_KEYS and place.get("engine", "vllm") != "vllm":
            continue  # a name that a server knows
        text = place[last]
        origin = origins.get(key) or _Origin(None, 0)
        if key in _MODEL_KEYS and not text.startswith((".", "/", "~")):
            if Path(text).is_dir():
                raise RecipeError(
                    f"{origin}: {_dotted(key)}: {text} would be looked up on the hub; "
                    f"write ./{text}, relative to the recipe, for the folder"
                )
            continue
        place[last] = str((origin.folder / Path(text).expanduser()).resolve())


def check_paths(recipe: Recipe) -> None:
    """Check that every file and folder that a recipe names is there, and that every host which it
    sends something to is allowed.

    Raises:
        RecipeError: one is missing or not allowed; every such one is named.

    """
    mistakes = egress_mistakes(recipe)
    models = [("finetune.student", recipe.finetune.student)]
    if recipe.finetune.on_policy is not None:
        models.append(("finetune.on_policy.teacher", recipe.finetune.on_policy.teacher))
    templates = [("finetune.template", recipe.finetune.template)]
    for name, section in (("generate", recipe.generate), ("filter.judge", recipe.filter.judge)):
        if isinstance(section, LocalModel):
            models.append((f"{name}.model", section.model))
    if recipe.filter.judge is not None:
        templates.append(("filter.judge.template", recipe.filter.judge.template))
    if isinstance(recipe.generate, ImportTeacher) and recipe.generate.path is not None:
        from generate.importing.rows import files_at

        try:
            files_at(recipe.generate.path)
        except ValueError as error:
            mistakes.append(str(error))
    for name, model in models:
        if model.startswith("/") and not (Path(model) / "config.json").is_file():
            state = "has no config.json" if Path(model).is_dir() else "does not exist"
            mistakes.append(f"{name}: the model folder {model} {state}")
    for name, template in templates:
        if not Path(template).is_file():
            mistakes.append(f"{name}: there is no file {template}")
    if Path(recipe.finetune.template).is_file():
        try:
            read_contract(Path(recipe.finetune.template), recipe.finetune)
        except ValueError as error:
            mistakes.append(str(error))
    for split, sources in (("train", recipe.problems.train), ("heldout", recipe.problems.heldout)):
        for index, source in enumerate(sources):
            if source.source == "file" and not Path(source.path).is_file():
                mistakes.append(f"problems.{split}.{index}.path: there is no file {source.path}")
    if mistakes:
        raise RecipeError("\n".join(mistakes))


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML with every default."""
    text: str = yaml.safe_dump(
        recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _dotted(key: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in key)


def _explain(detail: Any, origins: dict[Key, _Origin], path: Path) -> str:
    """One mistake as one line: where it stands, what is wrong, what would be right."""
    message = detail["msg"].removeprefix("Value error, ")
    between_sections = not detail["loc"]
    key, model = _locate(detail["loc"] or tuple(message.partition(":")[0].split(".")))
    origin = next(
        (origins[key[:end]] for end in range(len(key), 0, -1) if key[:end] in origins),
        _Origin(path, 1),
    )
    if between_sections:
        return f"{origin}: {message}"
    where = f"{origin}: {_dotted(key)}"
    kind = detail["type"]
    if kind == "extra_forbidden":
        allowed = sorted(model.model_fields) if model else []
        near = difflib.get_close_matches(str(key[-1]), allowed, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{where}: unknown key; {hint}Allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return f"{origin}: {_dotted(key)} is missing"
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
