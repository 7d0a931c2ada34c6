"""Problems from reasoning-gym's generators and from files."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracestill.recipe.problems import Buckets, FileSource, GymSource, ProblemSource
from tracestill.records import Kind, Problem, bucket, problem_id
from tracestill.records.identity import normalise_prompt

_COLUMNS = ("prompt", "reference", "language")
_TRIES = 200  # candidates to a wanted problem, after which a generator is called exhausted


def load_problems(
    sources: Iterable[ProblemSource],
    *,
    exclude: Iterable[Problem] = (),
    instruction: str | None = None,
) -> tuple[list[Problem], Counter[str]]:
    """All problems of `stream_problems`, and how many candidates were dropped for which reason.

    Raises:
        ValueError: a source can't be read, or has fewer problems than asked for.

    """
    dropped: Counter[str] = Counter()
    streamed = stream_problems(sources, dropped, exclude=exclude, instruction=instruction)
    return list(streamed), dropped


def stream_problems(
    sources: Iterable[ProblemSource],
    dropped: Counter[str],
    *,
    exclude: Iterable[Problem] = (),
    instruction: str | None = None,
) -> Iterator[Problem]:
    """The sources' problems in order, none of them held in memory but its id; in `dropped` is
    counted how many candidates were dropped for which reason.

    Problems whose prompt is that of one in `exclude` are dropped before a token is paid for them.
    `instruction` becomes the last paragraph of every prompt.

    Raises:
        ValueError: a source can't be read, or has fewer problems than asked for.

    """
    excluded = {normalise_prompt(problem.prompt) for problem in exclude}
    seen: set[str] = set()
    for source in sources:
        candidates = _gym(source) if isinstance(source, GymSource) else _file(source)
        wanted, taken, tried = source.size, 0, 0
        for candidate in candidates:
            if taken == wanted:
                break
            tried += 1
            if source.buckets and not _in_buckets(candidate, source.buckets):
                dropped["other_bucket"] += 1
                continue
            problem = instructed(candidate, instruction)
            if problem.id in seen:
                dropped["duplicate"] += 1
            elif normalise_prompt(problem.prompt) in excluded:
                dropped["held_out"] += 1
            else:
                seen.add(problem.id)
                taken += 1
                yield problem
        if wanted is not None and taken < wanted:
            name = source.family if isinstance(source, GymSource) else source.path
            raise ValueError(
                f"{name} gave {taken} of {wanted} problems among {tried} candidates; "
                "ask for fewer (size) or widen its config"
            )


def _in_buckets(problem: Problem, buckets: Buckets) -> bool:
    return bucket(problem.prompt, buckets.of) in buckets.keep


def instructed(problem: Problem, instruction: str | None) -> Problem:
    """A problem with the instruction as its last paragraph."""
    if instruction is None:
        return problem
    prompt = f"{problem.prompt.rstrip()}\n\n{instruction.strip()}"
    return dataclasses.replace(problem, prompt=prompt, id=problem_id(prompt, problem.reference))


def _gym(source: GymSource) -> Iterator[Problem]:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if source.family not in DATASETS:
        raise ValueError(
            f"reasoning-gym has no family {source.family!r}; it has {', '.join(sorted(DATASETS))}"
        )
    size = source.size * _TRIES
    try:
        dataset = reasoning_gym.create_dataset(
            source.family, **{**_gym_config(source), "seed": source.seed, "size": size}
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"reasoning-gym refuses the config of {source.family}: {error}") from error
    for index in range(size):
        entry: dict[str, Any] = json.loads(json.dumps(dataset[index], default=_plain))
        yield Problem(
            id=problem_id(entry["question"], str(entry["answer"])),
            prompt=entry["question"],
            reference=str(entry["answer"]),
            kind="reasoning_gym",
            source=f"reasoning_gym/{source.family}",
            meta={"family": source.family, "config": source.config, "entry": entry},
        )


def _gym_config(source: GymSource) -> dict[str, Any]:
    """The generator's options: a composite takes its parts as objects, which no recipe can hold."""
    if source.family != "composite":
        return source.config
    from reasoning_gym.composite import DatasetSpec

    parts = source.config.get("datasets", [])
    return {**source.config, "datasets": [DatasetSpec(**part) for part in parts]}


def _plain(value: Any) -> Any:
    """A NumPy scalar or array as Python's own; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _file(source: FileSource) -> Iterator[Problem]:
    import datasets

    path = Path(source.path)
    formats = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
    if not path.is_file():
        raise ValueError(f"the problem file {path} does not exist")
    if path.suffix not in formats:
        raise ValueError(f"{path}: a problem file ends in {', '.join(sorted(formats))}")
    unknown = set(source.columns) - set(_COLUMNS)
    if unknown:
        raise ValueError(f"columns: unknown {sorted(unknown)}; it maps {', '.join(_COLUMNS)}")
    try:
        table = datasets.load_dataset(formats[path.suffix], data_files=str(path), split="train")
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error.__cause__ or error}") from error
    names = {column: source.columns.get(column, column) for column in _COLUMNS}
    for column in ("prompt", "reference"):
        if names[column] not in table.column_names:
            raise ValueError(
                f"{path} has no column {names[column]!r}, only {', '.join(table.column_names)}; "
                f"map it with columns: {{{column}: …}}"
            )
    has_language = names["language"] in table.column_names
    for row in table:
        yield _problem(
            str(row[names["prompt"]]),
            str(row[names["reference"]]),
            source.kind,
            path.stem,
            str(row[names["language"]]) if has_language else "en",
        )


def _problem(prompt: str, reference: str, kind: Kind, source: str, language: str) -> Problem:
    return Problem(
        id=problem_id(prompt, reference),
        prompt=prompt,
        reference=reference,
        kind=kind,
        source=source,
        language=language,
    )
