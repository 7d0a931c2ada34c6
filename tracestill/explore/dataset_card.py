"""The card of the kept traces as a data set: who wrote them, what was dropped, how it is loaded."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracestill.explore.cards import card_template, made_by, teacher_name
from tracestill.explore.load import Run, load_run
from tracestill.recipe.generate import ImportTeacher, LocalTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import Manifest, Trace, open_table
from tracestill.records.content import model_name
from tracestill.records.figures import ProblemFigures
from tracestill.records.layout import FUNNEL

# Of a recipe, what says where something lies or whom this machine may ask.
_OWN = {"extends", "egress", "base_urls", "api_key_env"}
_UNKNOWN = "other"  # as the hub calls a licence that it does not know
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(slots=True, kw_only=True)
class Contents:
    """What is in the data set: its traces by id, its problems, and its traces by task and language;
    `masked` says whether private texts were replaced by placeholders.
    """

    traces: set[str] = field(default_factory=set)
    problems: set[str] = field(default_factory=set)
    sources: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    masked: bool = False


def dataset_card(
    recipe: Recipe, folder: Path, contents: Contents, licence: str | None, repository: str
) -> str:
    """The data set's README.md, with its head for the hub. Without a `licence` it is that of the
    teacher's own card, where that lies on this machine, else `other`.
    """
    run = load_run(folder)
    filtered, problems = run.manifest("filter"), run.manifest("problems")
    assert filtered is not None
    assert problems is not None
    licence = licence or _licence(recipe) or _UNKNOWN
    teachers, tokens = _written(folder, contents.traces)
    versions = run.provenance.get("versions") or {}
    return card_template("dataset.md.jinja").render(
        metadata=_metadata(recipe, contents, licence),
        name=recipe.name,
        repository=repository,
        description=recipe.description,
        teacher=teacher_name(recipe),
        imported=isinstance(recipe.generate, ImportTeacher),
        traces=len(contents.traces),
        problems=len(contents.problems),
        sources=contents.sources.most_common(),
        languages=contents.languages.most_common(),
        tokens=tokens,
        licence=licence,
        unknown=licence == _UNKNOWN,
        funnel=_funnel(run),
        dropped=filtered.dropped,
        rows_in=filtered.rows_in,
        teachers=teachers,
        held_out=_held_out(recipe, run, problems),
        masked=contents.masked,
        recipe=_shared_recipe(recipe),
        version=versions.get("tracestill") or importlib.metadata.version("tracestill"),
        revision=made_by(run),
    )


def _metadata(recipe: Recipe, contents: Contents, licence: str) -> str:
    """The card's head, as the hub reads it."""
    import yaml

    count = len(contents.traces)
    size = next((name for most, name in _SIZES if count < most), "1M<n<10M")
    values: dict[str, Any] = {
        "license": licence,
        "language": sorted(one for one in contents.languages if re.fullmatch("[a-z]{2,3}", one)),
        "pretty_name": f"{recipe.name}: kept reasoning traces",
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["reasoning", "distillation", "synthetic", "tracestill"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    return yaml.safe_dump(values, sort_keys=False)


def _licence(recipe: Recipe) -> str | None:
    """The licence that the teacher's card names, or that of the data set which was imported. A
    served teacher has none: its provider's terms count.
    """
    from huggingface_hub import RepoCard, try_to_load_from_cache

    teacher = recipe.generate
    found: Any = None
    if isinstance(teacher, ImportTeacher):
        if teacher.dataset:
            found = try_to_load_from_cache(
                teacher.dataset, "README.md", revision=teacher.revision, repo_type="dataset"
            )
    elif isinstance(teacher, LocalTeacher) and teacher.model.startswith("/"):
        found = str(Path(teacher.model) / "README.md")
    elif isinstance(teacher, LocalTeacher):
        found = try_to_load_from_cache(teacher.model, "README.md", revision=teacher.revision)
    if not isinstance(found, str) or not Path(found).is_file():
        return None
    named = RepoCard.load(found, ignore_metadata_errors=True).data.get("license")
    return named if isinstance(named, str) else None


def _written(folder: Path, kept: set[str]) -> tuple[list[dict[str, Any]], int]:
    """Who wrote the kept traces, most first, and the tokens of their completions (0: nobody has
    counted them).
    """
    table = open_table(folder / "generate", "traces", Trace)
    columns = (table.column(name) for name in ("id", "teacher", "completion_tokens"))
    counts: Counter[str] = Counter()
    tokens = 0
    for trace, teacher, completion in zip(*columns, strict=True):
        if trace in kept:
            # Each sample has a seed of its own.
            told = {**teacher, "sampling": {**teacher["sampling"], "seed": None}}
            counts[json.dumps(told, sort_keys=True)] += 1
            tokens += completion
    return [_teacher(json.loads(told), count) for told, count in counts.most_common()], tokens


def _teacher(told: dict[str, Any], count: int) -> dict[str, Any]:
    sampling, version = told["sampling"], told["engine_version"]
    said = "not known"
    if sampling["max_tokens"] > 0:
        limit = f", top-k {sampling['top_k']}" if sampling["top_k"] > 0 else ""
        said = (
            f"temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}{limit}, "
            f"at most {sampling['max_tokens']:,} tokens"
        )
    return {
        "traces": count,
        "model": model_name(told["model"]),
        "revision": told["revision"] or "not named",
        "engine": f"{told['engine']} {version}".strip(),
        "quantisation": told["quantisation"] or "none",
        "sampling": said,
    }


def _funnel(run: Run) -> list[dict[str, Any]]:
    """Traces and drops by step; empty for a run of before this was kept."""
    path = run.path / "filter" / FUNNEL
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return rows


def _held_out(recipe: Recipe, run: Run, made: Manifest) -> Iterator[str]:
    """What was kept apart from the problems that these traces answer, a line each."""
    if isinstance(made.figures, ProblemFigures):
        yield f"The recipe holds {made.figures.heldout:,} problems out, to judge students by."
    step = next((row for row in _funnel(run) if row["step"] == "contamination"), None)
    if step is None:
        yield "Traces were not searched for them: the filter has no step `contamination`."
    else:
        yield (
            f"The filter's step `contamination` dropped {step['dropped']:,} traces that give away "
            f"one of them{' or an item of a benchmark' if recipe.problems.decontaminate else ''}."
        )
    clean = recipe.problems.decontaminate
    if clean is None:
        yield "No benchmark was named to keep apart from."
        return
    items = sum(shard.rows for shard in made.tables["benchmarks"])
    names = ", ".join(one.name for one in clean.benchmarks)
    yield f"Benchmarks: {names} ({items:,} items); {clean.ngram} words in a row make a match."
    if "contaminated" in made.tables:  # imported problems come with their traces
        left_out = sum(shard.rows for shard in made.tables["contaminated"])
        yield f"{left_out:,} problems that hold an item were left out before sampling."


def _shared_recipe(recipe: Recipe) -> str:
    """The resolved recipe without what is this machine's own."""
    import yaml

    values = _without_own(recipe.model_dump(mode="json"))
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text


def _without_own(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _without_own(item) for name, item in value.items() if name not in _OWN}
        if isinstance(kept.get("sandbox"), str):
            kept["sandbox"] = kept["sandbox"].partition("=")[0]  # which, and not where
        return kept
    if isinstance(value, list):
        return [_without_own(item) for item in value]
    is_path = isinstance(value, str) and value.startswith("/") and value.count("/") > 1
    return model_name(value) if is_path and "\n" not in value else value
