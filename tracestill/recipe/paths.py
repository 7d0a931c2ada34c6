"""The files and folders that a recipe names: made absolute, and checked before a run."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracestill.recipe.contract import TEMPLATES, read_contract, shipped
from tracestill.recipe.contract_keys import OWN
from tracestill.recipe.egress import egress_mistakes
from tracestill.recipe.errors import Key, Origin, RecipeError, dotted
from tracestill.recipe.forgetting import forgetting_mistakes
from tracestill.recipe.functions import is_function, read_function
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.models import LocalModel
from tracestill.recipe.schema import Recipe
from tracestill.records.content import is_gguf
from tracestill.records.gguf import gguf_mistake

TABLE_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
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
    ("finetune", "replay", "path"),
    ("rounds", "later"),
)


def resolve_paths(values: dict[str, Any], origins: Mapping[Key, Origin]) -> None:
    """Make every path absolute, from the folder of the file in which it is written."""
    sources = values.get("problems")
    files: list[Key] = list(_FILE_KEYS)
    if isinstance(sources, dict):
        for split, items in sources.items():
            if isinstance(items, list):
                files += [("problems", split, index, "path") for index in range(len(items))]
        named = (sources.get("decontaminate") or {}).get("benchmarks") or []
        files += [
            ("problems", "decontaminate", "benchmarks", index, "path")
            for index in range(len(named))
        ]
    files += _asked_again(values)
    files += _functions(values)
    models = (*_MODEL_KEYS, *_embedders(values))
    for key in (*models, *files):
        *parents, last = key
        place: Any = values
        for part in parents:
            try:
                place = place[part]
            except (KeyError, IndexError, TypeError):
                place = None
        if not isinstance(place, dict) or not isinstance(place.get(last), str):
            continue
        if key in models and place.get("engine", "vllm") != "vllm":
            continue  # a name that a server knows
        text = place[last]
        origin = origins.get(key) or Origin(None, 0)
        if key == ("finetune", "template") and text in (OWN, *shipped()):
            place[last] = text if text == OWN else str(TEMPLATES / f"{text}.jinja")
            continue
        if key in models and not text.startswith((".", "/", "~")):
            if Path(text).is_dir() or is_gguf(text):
                raise RecipeError(
                    f"{origin}: {dotted(key)}: {text} would be looked up on the hub; "
                    f"write ./{text}, relative to the recipe, for what lies there"
                )
            continue
        place[last] = str((origin.folder / Path(text).expanduser()).resolve())


def _embedders(values: dict[str, Any]) -> list[Key]:
    """The keys of the static models that the filter's steps name."""
    section = values.get("filter")
    steps = section.get("steps") if isinstance(section, dict) else None
    count = len(steps) if isinstance(steps, list) else 0
    return [("filter", "steps", index, "semantic", "model") for index in range(count)]


def _asked_again(values: dict[str, Any]) -> list[Key]:
    """The keys of the files that `evaluate.forgetting` names."""
    section = values.get("evaluate")
    named = section.get("forgetting") if isinstance(section, dict) else None
    keys: list[Key] = []
    for index, one in enumerate(named if isinstance(named, list) else ()):
        keys.append(("evaluate", "forgetting", index, "path"))
        said = one.get("benchmark") if isinstance(one, dict) else None
        if isinstance(said, str) and said.endswith((".yaml", ".yml")):
            keys.append(("evaluate", "forgetting", index, "benchmark"))
    return keys


def _functions(values: dict[str, Any]) -> list[Key]:
    """The keys of the functions of the user's own, whose files are named with them."""
    section = values.get("filter")
    section = section if isinstance(section, dict) else {}
    verifiers = section.get("verifiers")
    keys: list[Key] = [("filter", "verifiers", kind) for kind in verifiers or ()]
    finetune = values.get("finetune")
    stages = finetune.get("stages") if isinstance(finetune, dict) else None
    for place, items in (
        (("filter", "steps"), section.get("steps")),
        (("finetune", "stages"), stages),
    ):
        for index, item in enumerate(items if isinstance(items, list) else ()):
            select = item.get("select") if isinstance(item, dict) else None
            by = select.get("by") if isinstance(select, dict) else None
            if isinstance(by, str) and is_function(by):
                keys.append((*place, index, "select", "by"))
    return keys


def _function_mistakes(recipe: Recipe) -> list[str]:
    """A line for each function of the user's own that is not there."""
    named = [(f"filter.verifiers.{kind}", text) for kind, text in recipe.filter.verifiers.items()]
    for index, step in enumerate(recipe.filter.steps):
        if step.select is not None and step.select.own:
            named.append((f"filter.steps.{index}.select.by", step.select.by))
    for index, stage in enumerate(recipe.finetune.stages or ()):
        if stage.select is not None and stage.select.own:
            named.append((f"finetune.stages.{index}.select.by", stage.select.by))
    mistakes = []
    for key, text in named:
        try:
            read_function(text)
        except ValueError as error:
            mistakes.append(f"{key}: {error}")
    return mistakes


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
    templates: list[tuple[str, str]] = []
    for name, section in (("generate", recipe.generate), ("filter.judge", recipe.filter.judge)):
        if isinstance(section, LocalModel):
            models.append((f"{name}.model", section.model))
    if recipe.filter.judge is not None:
        templates.append(("filter.judge.template", recipe.filter.judge.template))
    imported = recipe.generate.path if isinstance(recipe.generate, ImportTeacher) else None
    replay = recipe.finetune.replay
    replayed = replay.path if replay is not None else None
    for key, path in (("generate.path", imported), ("finetune.replay.path", replayed)):
        if path is None:
            continue
        try:
            files_at(path)
        except ValueError as error:
            mistakes.append(f"{key}: {error}")
    for name, model in models:
        if model.startswith("/") and is_gguf(model):
            if mistake := gguf_mistake(model):
                mistakes.append(f"{name}: {mistake}")
        elif model.startswith("/") and not (Path(model) / "config.json").is_file():
            state = "has no config.json" if Path(model).is_dir() else "does not exist"
            mistakes.append(f"{name}: the model folder {model} {state}")
    if recipe.rounds is not None and recipe.rounds.later is not None:
        templates.append(("rounds.later", recipe.rounds.later))
    for name, template in templates:
        if not Path(template).is_file():
            mistakes.append(f"{name}: there is no file {template}")
    for index, step in enumerate(recipe.filter.steps):
        folder = step.semantic.model if step.semantic else ""
        if folder.startswith("/") and not Path(folder).is_dir():
            mistakes.append(f"filter.steps.{index}.semantic.model: there is no folder {folder}")
    mistakes += _template_mistakes(recipe)
    for split, sources in (("train", recipe.problems.train), ("heldout", recipe.problems.heldout)):
        for index, source in enumerate(sources):
            if source.source == "file" and not Path(source.path).is_file():
                mistakes.append(f"problems.{split}.{index}.path: there is no file {source.path}")
    if recipe.problems.decontaminate is not None:
        for index, one in enumerate(recipe.problems.decontaminate.benchmarks):
            if one.source == "file" and not Path(one.path).is_file():
                key = f"problems.decontaminate.benchmarks.{index}.path"
                mistakes.append(f"{key}: there is no file {one.path}")
    mistakes += _function_mistakes(recipe)
    mistakes += forgetting_mistakes(recipe.evaluate, recipe.filter.verifiers)
    if mistakes:
        raise RecipeError("\n".join(mistakes))


def _template_mistakes(recipe: Recipe) -> list[str]:
    template = recipe.finetune.template
    if template == OWN:
        return []
    if not Path(template).is_file():
        return [
            f"finetune.template: there is no file {template}; name one, {OWN} for the template "
            f"that the student comes with, or a shipped one: {', '.join(shipped())}"
        ]
    try:
        read_contract(Path(template), recipe.finetune)
    except ValueError as error:
        return [str(error)]
    return []


def files_at(path: str) -> list[Path]:
    """The files that a path names, in order: a file, or those of a folder or a glob.

    Raises:
        ValueError: there is none.

    """
    place = Path(path)
    if place.is_dir():
        found = [p for p in sorted(place.rglob("*")) if p.name.endswith(TABLE_ENDINGS)]
    elif place.is_file():
        found = [place]
    else:
        found = [Path(name) for name in sorted(glob.glob(path, recursive=True))]
    if not found:
        raise ValueError(f"there is no {', '.join(TABLE_ENDINGS)} file at {path}")
    for file in found:
        if not file.name.endswith(TABLE_ENDINGS):
            raise ValueError(f"{file} does not end in {', '.join(TABLE_ENDINGS)}")
    return found
