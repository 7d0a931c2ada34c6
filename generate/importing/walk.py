"""Read a data set: its problems, and the traces that answer them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from generate.importing import chats, solved
from generate.importing.row_format import ParsedRow, RowFormat, RowResponse
from generate.importing.rows import Line, read_files, read_hub
from generate.importing.table import table
from generate.problems import instructed
from generate.reasoning import split_reasoning
from generate.solutions import with_solution
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.paths import files_at
from tracestill.records import (
    Problem,
    Sampling,
    Teacher,
    Trace,
    digest,
    file_fingerprint,
    problem_id,
    trace_id,
)
from tracestill.records.identity import normalise_prompt

Status = Literal["new", "more", "held_out", "unreadable"]

VERSION = 2  # part of the fingerprint: raise it when rows are read differently

_FORMATS = chats.FORMATS | solved.FORMATS
_PATIENCE = 100  # rows in a row from the beginning that can't be read, until the layout is wrong

# How it was sampled no data set says row by row: -1 is "not known".
_SAMPLING = Sampling(temperature=-1.0, top_p=-1.0, top_k=-1, max_tokens=-1, seed=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRow:
    """A row at its place in the data: `new` begins a problem, `more` has further responses to one,
    the others are not imported. `wrong` is why an `unreadable` one can't be read.
    """

    place: str
    status: Status
    problem: Problem | None = None
    responses: tuple[RowResponse, ...] = ()
    wrong: str = ""


def format_of(section: ImportTeacher) -> RowFormat:
    """The format of a section's rows.

    Raises:
        ValueError: a table's columns are mapped wrongly.

    """
    if section.layout == "table":
        return table(section.columns)
    return _FORMATS[section.layout]


def fingerprint(section: ImportTeacher) -> str:
    """A fingerprint of a section's data: of the files' content, or the data set's id and revision.

    Raises:
        ValueError: there is no file.

    """
    if section.path is not None:
        return digest("files", VERSION, [file_fingerprint(file) for file in files_at(section.path)])
    return digest("hub", VERSION, _hub_name(section, format_of(section)), section.revision)


def _hub_name(section: ImportTeacher, row_format: RowFormat) -> str:
    assert section.dataset or row_format.dataset, "a table without a place"
    return section.dataset or row_format.dataset or ""


def _lines(section: ImportTeacher, row_format: RowFormat) -> Iterator[Line]:
    if section.path is not None:
        return read_files(files_at(section.path), row_format)
    dataset = _hub_name(section, row_format)
    config, split = section.config or row_format.config, section.split or row_format.split
    return read_hub(dataset, config, split, section.revision, row_format)


def walk(
    section: ImportTeacher, heldout: Iterable[Problem], instruction: str | None = None
) -> Iterator[ImportedRow]:
    """Read every row of a section's data, in order; each time the same rows.

    Problems whose prompt is that of one of `heldout` are not imported. Memory holds the ids of the
    problems, but no texts.

    Raises:
        ValueError: the data can't be read, lack columns that the format needs, or no row of the
            first hundred can be understood.

    """
    row_format = format_of(section)
    excluded = {normalise_prompt(problem.prompt) for problem in heldout}
    seen: set[str] = set()
    unreadable, understood = 0, False
    for line in _lines(section, row_format):
        wrong, parsed = line.wrong, None
        if wrong is None:
            try:
                parsed = row_format.read(line.row)
            except ValueError as error:
                wrong = str(error)
        if parsed is None:
            unreadable += 1
            if unreadable == _PATIENCE and not understood:
                raise ValueError(
                    f"none of the first {_PATIENCE} rows can be read as {section.layout}: "
                    f"{line.place}: {wrong}; is it the right generate.layout?"
                )
            yield ImportedRow(place=line.place, status="unreadable", wrong=wrong or "")
            continue
        understood = True
        problem = instructed(_problem(parsed, section), instruction)
        status: Status = "new"
        if problem.id in seen:
            status = "more"
        elif normalise_prompt(problem.prompt) in excluded:
            status = "held_out"
        elif len(seen) == section.size:
            return
        if status == "new":
            seen.add(problem.id)
        yield ImportedRow(
            place=line.place, status=status, problem=problem, responses=parsed.responses
        )


def _problem(parsed: ParsedRow, section: ImportTeacher) -> Problem:
    return Problem(
        id=problem_id(parsed.prompt, parsed.reference),
        prompt=parsed.prompt,
        reference=parsed.reference,
        kind=section.kind or parsed.kind,
        source="/".join(filter(None, (_source(section), parsed.source))),
        language=parsed.language,
        meta=parsed.facts,
    )


def _source(section: ImportTeacher) -> str:
    if section.layout != "table":
        return section.layout
    return section.dataset or Path(section.path or "").stem


def import_traces(
    section: ImportTeacher, rows: Iterable[ImportedRow], dropped: Counter[str]
) -> Iterator[Trace]:
    """The traces in the rows of `walk`, in their order. What is left out is counted in `dropped`:
    those of `held_out` problems, `duplicate` ones (the same response to the same problem), and
    rows that are `unreadable`.

    A trace's identity is that of its problem, its teacher, the data set's revision and its text:
    neither the order of rows nor other rows change it. `sample` numbers a problem's traces in the
    order in which they come.
    """
    row_format = format_of(section)
    samples: Counter[str] = Counter()
    seen: set[str] = set()
    authors: dict[str, Teacher] = {}
    for row in rows:
        if row.problem is None or row.status not in ("new", "more"):
            dropped[row.status] += max(1, len(row.responses))
            continue
        for response in row.responses:
            model = section.teacher or response.teacher or row_format.teacher
            said = [response.raw, response.raw_reasoning, response.error]
            # The text is in place of the sample's index, which would follow the order of rows.
            id_ = trace_id(row.problem.id, digest("import", model, section.revision, said), 0)
            if id_ in seen:
                dropped["duplicate"] += 1
                continue
            seen.add(id_)
            if model not in authors:
                authors[model] = _by(model, section)
            yield _trace(
                id_, row.problem, samples[row.problem.id], response, authors[model],
                solutions=section.reasoning == "solution",
            )  # fmt: skip
            samples[row.problem.id] += 1


def _by(model: str, section: ImportTeacher) -> Teacher:
    return Teacher(
        model=model,
        revision=section.revision,
        content=digest("import", model, section.revision),
        engine="import",
        engine_version=str(VERSION),
        quantisation=None,
        provider=_source(section),
        sampling=_SAMPLING,
    )


def _trace(
    id_: str,
    problem: Problem,
    sample: int,
    response: RowResponse,
    teacher: Teacher,
    *,
    solutions: bool,
) -> Trace:
    read = split_reasoning(response.raw, raw_reasoning=response.raw_reasoning)
    if solutions:
        read = with_solution(read)
    return Trace(
        id=id_,
        problem_id=problem.id,
        sample=sample,
        raw=response.raw,
        raw_reasoning=response.raw_reasoning,
        raw_token_ids=None,
        reasoning=read.reasoning,
        answer=read.answer,
        finish=response.finish,
        error=response.error,
        prompt_tokens=0,
        completion_tokens=response.tokens,
        teacher=teacher,
        seconds=0.0,
        cost=0.0,
    )
