"""What a student learns from a trace: the prompt, reasoning and answer as training sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.generate import ServedTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import AnyTrace, Kept, Problem, TraceText, digest, open_table, read_table

if TYPE_CHECKING:
    from finetune.sample import Example


def example_of(recipe: Recipe) -> Callable[[Problem, AnyTrace], Example]:
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


def kept_examples(recipe: Recipe, run: Path) -> list[Example]:
    """The traces that no filter dropped, as examples, in the order of the table of traces."""
    kept = set(open_table(run / "filter", "kept", Kept).column("trace_id"))
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    made = example_of(recipe)
    traces = read_table(run / "generate", "traces", TraceText)
    return [made(problems[trace.problem_id], trace) for trace in traces if trace.id in kept]


def _prompt(recipe: Recipe) -> Callable[[str], str]:
    from generate.redact import redactor

    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None or teacher.redact.restore:
        return lambda prompt: prompt
    mask, system = redactor(teacher.redact), teacher.system_prompt or ""
    return lambda prompt: mask(system, prompt).texts[1]
