"""What a student learns from a trace: the prompt, reasoning and answer as training sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.generate import ServedTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    AnyTrace,
    Kept,
    Problem,
    TraceText,
    digest,
    has_columns,
    open_table,
    read_table,
)

if TYPE_CHECKING:
    from finetune.sample import Example


def example_of(recipe: Recipe | None) -> Callable[[Problem, AnyTrace], Example]:
    """A function that makes a problem and its trace an example. Prompts have placeholders where
    the traces have them.
    """
    from finetune.sample import Example

    prompt = _prompt(recipe)

    def made(problem: Problem, trace: AnyTrace) -> Example:
        return Example(
            trace_id=trace.id,
            prompt=prompt(problem.prompt),
            reasoning=trace.reasoning or "",
            answer=trace.answer or "",
            source=problem.task,
            language=problem.language,
        )

    return made


def content(example: Example) -> str:
    """A hash of all that an example teaches; its identity is no part of it."""
    values = asdict(example)
    del values["trace_id"]
    return digest(values)


def kept_row(recipe: Recipe | None = None) -> Callable[[Problem, AnyTrace], Kept]:
    """A function that makes a problem and its trace a row of the table `kept`; without a recipe
    prompts are as they are.
    """
    made = example_of(recipe)

    def row(problem: Problem, trace: AnyTrace) -> Kept:
        example = made(problem, trace)
        return Kept(
            **asdict(example),
            content=content(example),
            problem_id=problem.id,
            reference=problem.reference,
        )

    return row


def kept_rows(recipe: Recipe, run: Path) -> Iterator[Kept]:
    """The traces that no filter dropped, in the order of the table of traces.

    Raises:
        ValueError: the stage filter is not complete, or a shard is damaged.

    """
    if has_columns(run / "filter", "kept", Kept):
        yield from read_table(run / "filter", "kept", Kept)
        return
    # An older version wrote which traces were kept, and not what they say.
    kept = set(open_table(run / "filter", "kept", Kept).column("trace_id"))
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    row = kept_row(recipe)
    for trace in read_table(run / "generate", "traces", TraceText):
        if trace.id in kept:
            yield row(problems[trace.problem_id], trace)


def kept_examples(recipe: Recipe, run: Path) -> list[Example]:
    """The traces that no filter dropped, as examples, in the order of the table of traces.

    Raises:
        ValueError: as `kept_rows`.

    """
    return [example_of_row(row) for row in kept_rows(recipe, run)]


def example_of_row(row: Kept) -> Example:
    """The example that a row of the table `kept` was made of."""
    from finetune.sample import Example

    return Example(
        trace_id=row.trace_id,
        prompt=row.prompt,
        reasoning=row.reasoning,
        answer=row.answer,
        source=row.source,
        language=row.language,
    )


def _prompt(recipe: Recipe | None) -> Callable[[str], str]:
    from generate.redact import redactor

    teacher = recipe.generate if recipe is not None else None
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None or teacher.redact.restore:
        return lambda prompt: prompt
    mask, system = redactor(teacher.redact), teacher.system_prompt or ""
    return lambda prompt: mask(system, prompt).texts[1]
