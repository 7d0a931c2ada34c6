"""Walk through a data set: its problems, and the traces that answer them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from generate.config import ImportTeacher
from generate.importing import chats, solved
from generate.importing.layout import Content, Found, Layout
from generate.importing.rows import Line, files_at, read_files, read_hub
from generate.importing.table import table
from generate.problems import instructed
from generate.reasoning import split_reasoning
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

VERSION = 1  # part of the fingerprint: raise it when rows are read differently

_LAYOUTS = chats.LAYOUTS | solved.LAYOUTS
_PATIENCE = 100  # rows in a row from the beginning that can't be read, until the layout is wrong

# How it was sampled no data set says row by row: -1 is "not known".
_SAMPLING = Sampling(temperature=-1.0, top_p=-1.0, top_k=-1, max_tokens=-1, seed=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row: `new` begins a problem, `more` has further traces of one, the others have none
    to take. `wrong` is why an `unreadable` one is.
    """

    place: str
    status: Literal["new", "more", "held_out", "unreadable"]
    problem: Problem | None = None
    found: tuple[Found, ...] = ()
    wrong: str = ""


def layout_of(section: ImportTeacher) -> Layout:
    """The section's layout.

    Raises:
        ValueError: a table's columns are mapped wrongly.

    """
    if section.layout == "table":
        return table(section.columns)
    return _LAYOUTS[section.layout]


def fingerprint(section: ImportTeacher) -> str:
    """What the section's data are: the files' content, or the data set's id and revision.

    Raises:
        ValueError: there is no file.

    """
    if section.path is not None:
        return digest("files", VERSION, [file_fingerprint(file) for file in files_at(section.path)])
    return digest("hub", VERSION, _hub_name(section, layout_of(section)), section.revision)


def _hub_name(section: ImportTeacher, layout: Layout) -> str:
    assert section.dataset or layout.dataset, "a table without a place"
    return section.dataset or layout.dataset or ""


def _lines(section: ImportTeacher, layout: Layout) -> Iterator[Line]:
    if section.path is not None:
        return read_files(files_at(section.path), layout)
    dataset = _hub_name(section, layout)
    config, split = section.config or layout.config, section.split or layout.split
    return read_hub(dataset, config, split, section.revision, layout)


def walk(
    section: ImportTeacher, heldout: Iterable[Problem], instruction: str | None = None
) -> Iterator[Step]:
    """Every row of the section's data in order, read; the same rows in every walk.

    Problems whose prompt is that of one of `heldout` are not taken. In memory lie the ids of the
    problems, but no texts.

    Raises:
        ValueError: the data can't be read, have other columns than the layout, or no row of the
            first hundred can be understood.

    """
    layout = layout_of(section)
    excluded = {normalise_prompt(problem.prompt) for problem in heldout}
    seen: set[str] = set()
    unreadable, understood = 0, False
    for line in _lines(section, layout):
        wrong, content = line.wrong, None
        if wrong is None:
            try:
                content = layout.read(line.row)
            except ValueError as error:
                wrong = str(error)
        if content is None:
            unreadable += 1
            if unreadable == _PATIENCE and not understood:
                raise ValueError(
                    f"none of the first {_PATIENCE} rows can be read as {section.layout}: "
                    f"{line.place}: {wrong}; is it the right generate.layout?"
                )
            yield Step(place=line.place, status="unreadable", wrong=wrong or "")
            continue
        understood = True
        problem = instructed(_problem(content, section), instruction)
        if problem.id in seen:
            yield Step(place=line.place, status="more", problem=problem, found=content.found)
        elif normalise_prompt(problem.prompt) in excluded:
            yield Step(place=line.place, status="held_out", problem=problem, found=content.found)
        elif len(seen) == section.size:
            return
        else:
            seen.add(problem.id)
            yield Step(place=line.place, status="new", problem=problem, found=content.found)


def _problem(content: Content, section: ImportTeacher) -> Problem:
    return Problem(
        id=problem_id(content.prompt, content.reference),
        prompt=content.prompt,
        reference=content.reference,
        kind=section.kind or content.kind,
        source="/".join(filter(None, (_source(section), content.source))),
        language=content.language,
        meta=content.facts,
    )


def _source(section: ImportTeacher) -> str:
    if section.layout != "table":
        return section.layout
    return section.dataset or Path(section.path or "").stem


def import_traces(
    section: ImportTeacher, steps: Iterable[Step], dropped: Counter[str]
) -> Iterator[Trace]:
    """The traces of a walk, in its order; what is left out is counted in `dropped`: those of
    `held_out` problems, `duplicate` ones (the same response to the same problem), and rows that
    are `unreadable`.

    A trace's identity is that of its problem, its teacher, the data set's revision and its text:
    no order of rows and no other row changes it. `sample` numbers a problem's traces in the
    order in which they come.
    """
    layout = layout_of(section)
    samples: Counter[str] = Counter()
    seen: set[str] = set()
    authors: dict[str, Teacher] = {}
    for step in steps:
        if step.problem is None or step.status not in ("new", "more"):
            dropped[step.status] += max(1, len(step.found))
            continue
        for found in step.found:
            model = section.teacher or found.teacher or layout.teacher
            said = [found.raw, found.raw_reasoning, found.error]
            # The text is in place of the sample's index, which would follow the order of rows.
            id_ = trace_id(step.problem.id, digest("import", model, section.revision, said), 0)
            if id_ in seen:
                dropped["duplicate"] += 1
                continue
            seen.add(id_)
            if model not in authors:
                authors[model] = _by(model, section)
            yield _trace(id_, step.problem, samples[step.problem.id], found, authors[model])
            samples[step.problem.id] += 1


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


def _trace(id_: str, problem: Problem, sample: int, found: Found, teacher: Teacher) -> Trace:
    read = split_reasoning(found.raw, raw_reasoning=found.raw_reasoning)
    return Trace(
        id=id_,
        problem_id=problem.id,
        sample=sample,
        raw=found.raw,
        raw_reasoning=found.raw_reasoning,
        raw_token_ids=None,
        reasoning=read.reasoning,
        answer=read.answer,
        finish=found.finish,
        error=found.error,
        prompt_tokens=0,
        completion_tokens=found.tokens,
        teacher=teacher,
        seconds=0.0,
        cost=0.0,
    )
