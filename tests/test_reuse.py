"""Which keys of a recipe make which stages again: every key there is, and the table in the docs."""

from __future__ import annotations

import functools
import json
import re
import shutil
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tracestill.recipe.filter_steps import Step
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.schema import Recipe
from tracestill.records.layout import STAGES, Stage
from tracestill.run.pipeline import LINE

ROOT = Path(__file__).parent.parent

BASE = """\
name: small
problems:
  train:
    - {{source: reasoning_gym, family: chain_sum, size: 3, buckets: {{of: 4, keep: [1]}}}}
    - {{source: file, path: problems.jsonl, buckets: {{of: 4, keep: [1]}}}}
    - {{source: hub, dataset: some/problems, split: train, buckets: {{of: 4, keep: [1]}}}}
  heldout: [{{source: reasoning_gym, family: chain_sum, size: 2, seed: 1}}]
  decontaminate:
    benchmarks: [{{name: mine, source: file, path: problems.jsonl}},
      {{name: theirs, source: hub, dataset: some/questions}}]
generate: {{{teacher}, samples: {{min: 1, max: 4, until_correct: 1}}}}
filter:
  steps:
    - refusal: {{}}
    - form
    - length: {{sources: {{ab: {{max_tokens: 5}}}}}}
    - pattern: {{drop: [x]}}
    - verify: {{}}
    - contamination: {{}}
    - exact: {{}}
    - quality: {{}}
    - language: {{}}
    - private: {{}}
    - near: {{}}
    - semantic: {{model: ./embedder}}
    - select: {{{select}}}
  agreement: {{}}
  judge: {{{judge}, template: judge.jinja}}
finetune:
  student: ./student
  template: template.jinja
  monitor: {{}}
  on_policy: {{teacher: ./teacher}}
  stages: [{{select: {{{select}}}}}]
  replay: {{path: traces.jsonl}}
evaluate:
  forgetting: [{{benchmark: gsm8k, path: problems.jsonl, problems: 9}}]
rounds: {{}}
"""
ASKED = "by: student_pass_rate, total: 9, balance: source"  # a step that asks the student
LOCAL = "model: ./teacher"
SERVED = "engine: openai, model: r1, base_urls: ['http://localhost:8000/v1'], redact: {}"
IMPORTED = "engine: import, layout: table, path: traces.jsonl"

# Other values for keys of which no rule makes one up.
OTHER: dict[str, Any] = {
    "name": "other",
    "extends": "base.yaml",
    "rounds.later": "later.yaml",
    "egress.allow": ["api.example"],
    "problems.train.0.family": "ab",
    "problems.train.0.config": {"min_terms": 3},
    "buckets.keep": [2],
    "problems.heldout.0.buckets": {"of": 4, "keep": [1]},
    "problems.train.1.path": "more.jsonl",
    "problems.train.1.columns": {"prompt": "question"},
    "problems.train.1.kind": "open",
    "problems.train.1.language": "de",
    "problems.train.2.language": "de",
    "problems.train.2.columns": {"prompt": "question"},
    "problems.train.2.kind": "open",
    "problems.heldout.0.family": "ab",
    "benchmarks.0.path": "more.jsonl",
    "problems.heldout.0.config": {"min_terms": 3},
    "model": "./other-teacher",
    "base_urls": ["http://localhost:9000/v1"],
    "api_key_env": "OTHER_KEY",
    "engine_args": {"hf_overrides": {"rope_theta": 1000}},
    "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
    "redact.kinds": ["email"],
    "redact.phone_countries": ["DE"],
    "redact.patterns": {"ticket": "T-[0-9]+"},
    "generate.samples.until_correct": 2,
    "generate.path": "more.jsonl",
    "generate.dataset": None,
    "generate.columns": {"response": "solution"},
    "generate.kind": "open",
    "verify.keep": ["correct", "unverifiable"],
    "quality.branch_words": ["perhaps"],
    "select.branch_words": ["perhaps"],
    "pattern.drop": ["y"],
    "select.by": "pass_rate",
    "select.keep": [0.1, 0.9],
    "select.balance": "length",
    "select.weights": {"ab": 2},
    "select.draw": "halving",
    "select.among.sources": ["ab"],
    "select.among.pass_rate": [0.2, 0.4],
    "length.sources": {"ab": {"max_tokens": 9}},
    "language.allow": ["de"],
    "refusal.topics": ["evasive"],
    "refusal.patterns": {"sales": ["visit us"]},
    "private.kinds": ["email"],
    "private.phone_countries": ["DE"],
    "exact.keep": ["shortest"],
    "near.keep": ["shortest"],
    "filter.selection": "bespoke-stratos",
    "semantic.model": "./other-embedder",
    "semantic.keep": ["shortest"],
    "filter.verifiers": {"riddle": "own.py:judge"},
    "filter.sandbox": "piston=http://localhost:2000",
    "filter.judge.template": "other.jinja",
    "filter.agreement.share": 0.75,
    "finetune.student": "./other-student",
    "finetune.template": "other.jinja",
    "finetune.think": "none",
    "finetune.contract.closes": "</thought>",
    "finetune.contract.opens": "<thought>",
    "finetune.contract.date": "2020-02-02",
    "finetune.contract.eos": ["<|other|>"],
    "finetune.contract.languages": ["de"],
    "finetune.stop": "<|other|>",
    "finetune.lora.targets": ["q_proj"],
    "finetune.launch.gpus": 2,
    "finetune.report_to": ["tensorboard"],
    "finetune.on_policy.teacher": "./other-teacher",
    "finetune.learning_rate": 0.5,
    "finetune.on_policy.learning_rate": 0.5,
    "finetune.micro_batch": 3,
    "finetune.unlearnable": "drop",
    "finetune.gradient_checkpointing": True,
    "evaluate.models": ["student_after", "student_before"],
    "replay.path": "more.jsonl",
    "replay.columns": {"response": "solution"},
    "forgetting.0.benchmark": "math-500",
    "forgetting.0.path": "more.jsonl",
}
# Keys that can't be changed alone in a recipe that is valid.
FIXED = {"source", "engine", "layout", "dataset"}
# What else must be said for a key to have its other value.
ALONG = {
    "generate.batch": ["evaluate.models=[student_before, student_after]"],
    "filter.steps.12.select.keep": ["filter.steps.12.select.by=pass_rate"],
    "filter.steps.12.select.weights": ["filter.steps.12.select.balance=source"],
    "finetune.launch.gpus": ["finetune.on_policy=null"],
    "finetune.epochs": ["finetune.stages=[]"],
    "finetune.most_epochs": ["finetune.epochs=auto", "finetune.stages=[]"],
    "finetune.stages.0.select.keep": ["finetune.stages.0.select.by=pass_rate"],
    "finetune.stages.0.select.weights": ["finetune.stages.0.select.balance=source"],
    "finetune.average_of": ["finetune.keep=average"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipes below name."""
    made = tmp_path_factory.mktemp("recipes")
    for name in ("teacher", "student"):
        shutil.copytree(ROOT / "miniature" / name, made / name)
        shutil.copytree(ROOT / "miniature" / name, made / f"other-{name}")
        (made / f"other-{name}" / "more.txt").write_text("another model")
    for name in ("embedder", "other-embedder"):
        (made / name).mkdir()
        (made / name / "config.json").write_text(json.dumps({"of": name}))
    for name, text in (("problems", "a"), ("traces", "b"), ("more", "c")):
        (made / f"{name}.jsonl").write_text(json.dumps({"prompt": text, "response": text}))
    for name in ("template", "other", "judge"):
        (made / f"{name}.jinja").write_text(f"{{#- {name} -#}}")
    (made / "base.yaml").write_text("{}")
    (made / "own.py").write_text("def judge(problem, answer):\n    return True\n")
    for name in ("template", "other"):
        (made / f"{name}.yaml").write_text("{think: prefilled, stop: '<|end|>'}")
    return made


def write(folder: Path, teacher: str, judge: str, select: str) -> Path:
    path = folder / "recipe.yaml"
    text = BASE.format(teacher=teacher, judge=judge, select=select)
    if teacher == IMPORTED:  # which brings its problems, and has no rules of sampling
        text = re.sub(r"  train:\n(    .*\n)+", "", text)
        text = text.replace(", samples: {min: 1, max: 4, until_correct: 1}", "")
    path.write_text(text)
    return path


def leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str, Any]]:
    """Every key of a recipe that is no section itself: its dotted name, the model and the field
    that it is, and its value.
    """
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            for index, item in enumerate(value):
                if isinstance(item, Step):
                    yield from leaves(item.settings, f"{key}.{index}.{item.name}.")
                else:
                    yield from leaves(item, f"{key}.{index}.")
        else:
            yield key, type(section), name, value
            for inner, item in value.items() if isinstance(value, dict) else ():
                if isinstance(item, BaseModel):
                    yield from leaves(item, f"{key}.{inner}.")


def other(key: str, annotation: Any, value: Any) -> Any:
    """Another value of a key."""
    parts = key.split(".")
    for begin in range(len(parts)):
        if (name := ".".join(parts[begin:])) in OTHER:
            return OTHER[name]
    return changed(annotation, value)


def changed(annotation: Any, value: Any) -> Any:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return next(one for one in arguments if one != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.5 or 0.25
    if isinstance(value, str) and annotation is str:
        return f"{value}x"
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated):
        for one in arguments:
            if one is not type(None) and not isinstance(one, str):
                return changed(one, value)
    simple = {str: "x", int: 7, float: 0.5, bool: True}
    assert annotation in simple, f"say another value than {value!r} for it in OTHER"
    return simple[annotation]


def settings(recipe: Recipe) -> dict[Stage, str]:
    return {stage: json.dumps(LINE[stage].settings(recipe), sort_keys=True) for stage in STAGES}


@functools.cache
def documented() -> dict[str, str]:
    """The table of docs/resuming.md: what is made again, by pattern of key."""
    text = (ROOT / "docs" / "resuming.md").read_text(encoding="utf-8")
    table = text[text.index("| key | made again |") :].split("\n\n")[0].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in table]
    return {key: made for keys, made in rows for key in re.findall(r"`([^`]+)`", keys)}


def expected(key: str, kinds: set[str]) -> set[str]:
    """What the docs say of a key in a recipe of these kinds. The longest pattern that fits the key
    counts, and of what stands there the last part whose condition holds.
    """
    name = re.sub(r"\.\d+", "", key)
    fitting = [
        pattern
        for pattern in documented()
        if name == pattern or (pattern.endswith(".*") and name.startswith(pattern[:-1]))
    ]
    assert fitting, f"docs/resuming.md does not say what {key} makes again"
    first, *others = documented()[max(fitting, key=len)].split("; ")
    said = first
    for part in others:
        condition, _, stages = part.partition(": ")
        if condition in kinds:
            said = stages
    return set(re.findall(r"\w+", said)) & set(STAGES)


def reachable_by(annotation: Any) -> set[type[BaseModel]]:
    """The models that a key's type holds, and all below them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return reachable(annotation)
    return {model for inner in typing.get_args(annotation) for model in reachable_by(inner)}


def reachable(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and all below it."""
    found = {model}
    for field in model.model_fields.values():
        found |= reachable_by(field.annotation)
    return found


def test_every_key_makes_again_what_the_docs_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # from where `--set` reads paths
    seen: set[tuple[type[BaseModel], str]] = set()
    wrong: list[str] = []
    for teacher, judge, select, kinds in (
        (LOCAL, LOCAL, "total: 9", {"until_correct"}),
        (SERVED, SERVED, "total: 9", {"until_correct", "redact"}),
        (IMPORTED, LOCAL, ASKED, {"import", "student"}),
    ):
        path = write(folder, teacher, judge, select)
        recipe = load_recipe(path)
        unchanged = settings(recipe)
        for key, model, name, value in leaves(recipe):
            seen.add((model, name))
            if name in FIXED or key == "problems.train":
                continue
            new = other(key, model.model_fields[name].annotation, value)
            along = ALONG.get(key, [])
            after = settings(load_recipe(path, [*along, f"{key}={json.dumps(new)}"]))
            before = settings(load_recipe(path, along)) if along else unchanged
            remade = {stage for stage in STAGES if before[stage] != after[stage]}
            if remade != (said := expected(key, kinds)):
                wrong.append(f"{key}: {sorted(remade)}, the docs say {sorted(said)}")
    assert not wrong, "\n".join(wrong)
    keys = {(model, name) for model in reachable(Recipe) for name in model.model_fields}
    sections = {(m, n) for m, n in keys if reachable_by(m.model_fields[n].annotation)}
    assert keys - seen - sections == set(), "a recipe above must use these too"
