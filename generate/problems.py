"""Problems from reasoning-gym's generators, from files and from the hub's data sets."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from generate.hub import hub_rows
from tracestill.recipe.problems import Buckets, FileSource, GymSource, HubSource, ProblemSource
from tracestill.records import Problem, bucket, problem_id
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
        candidates = _candidates(source)
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
            raise ValueError(
                f"{_name(source)} gave {taken} of {wanted} problems among {tried} candidates; "
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


def _candidates(source: ProblemSource) -> Iterator[Problem]:
    if isinstance(source, GymSource):
        return _gym(source)
    return _file(source) if isinstance(source, FileSource) else _hub(source)


def _name(source: ProblemSource) -> str:
    if isinstance(source, GymSource):
        return source.family
    return source.path if isinstance(source, FileSource) else source.dataset


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
    path = Path(source.path)
    yield from _rows(file_rows(path), source, path.stem)


def file_rows(path: Path) -> Iterable[dict[str, Any]]:
    """The rows of a JSONL, JSON, CSV or Parquet file, which gzip may have packed.

    Raises:
        ValueError: there is none, or it can't be read.

    """
    import datasets

    formats = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
    if not path.is_file():
        raise ValueError(f"the problem file {path} does not exist")
    ending = Path(path.name.removesuffix(".gz")).suffix
    if ending not in formats:
        raise ValueError(
            f"{path}: a problem file ends in {', '.join(sorted(formats))}, with or without .gz"
        )
    try:
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(
            formats[ending], data_files=str(path), split="train"
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error.__cause__ or error}") from error
    return rows


def _hub(source: HubSource) -> Iterator[Problem]:
    rows = hub_rows(source.dataset, source.config, source.split, source.revision)
    yield from _rows(rows, source, source.dataset)


def _rows(
    rows: Iterable[dict[str, Any]], source: FileSource | HubSource, said: str
) -> Iterator[Problem]:
    """The problems of a table's rows; `said` is what they name as their source."""
    unknown = set(source.columns) - set(_COLUMNS)
    if unknown:
        raise ValueError(f"columns: unknown {sorted(unknown)}; it maps {', '.join(_COLUMNS)}")
    names = {column: source.columns.get(column, column) for column in _COLUMNS}
    for number, row in enumerate(rows):
        for column in ("prompt", "reference"):
            if number == 0 and names[column] not in row:
                raise ValueError(
                    f"{_name(source)} has no column {names[column]!r}, only {', '.join(row)}; "
                    f"map it with columns: {{{column}: …}}"
                )
        language = row.get(names["language"])
        yield _problem(
            _text(row[names["prompt"]]),
            _text(row[names["reference"]]),
            source.kind,
            said,
            source.language if language is None else str(language),
        )


def _text(value: Any) -> str:
    """A column's value as text: tests and other values of several parts as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _problem(prompt: str, reference: str, kind: str, source: str, language: str) -> Problem:
    return Problem(
        id=problem_id(prompt, reference),
        prompt=prompt,
        reference=reference,
        kind=kind,
        source=source,
        language=language,
    )
