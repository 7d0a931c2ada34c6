"""Samples as the student will learn them, before anything is trained."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tracestill.recipe.generate import ImportTeacher
from tracestill.records import Problem, read_manifest, read_table
from tracestill.records.gguf import model_folder

if TYPE_CHECKING:
    from finetune.render import Rendered
    from finetune.sample import Example, Sample
    from tracestill.recipe.schema import Recipe

Part = Literal["prompt", "reasoning", "answer", "stop"]

_REASONING = "Here stands how the teacher reasons.\n\nIt can take thousands of tokens."
_ANSWER = "Here stands what it answers."


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Rendered samples and where they come from, in words; `real`: from traces that are there.
    `shown` are those to look at, `notes` what to know of the template.
    """

    rendered: Rendered
    shown: list[Sample]
    origin: str
    real: bool
    examples: dict[str, Example]
    tokenizer: Any
    control: Any
    notes: list[str]


def preview(recipe: Recipe, run: Path, count: int, trace: str | None) -> Preview:
    """Render and check a run's kept traces, or before there are any the recipe's first problems
    with a made-up trace; `trace` alone if one is named.

    Raises:
        ValueError: there is no such trace, none at all, or the samples would teach something else
            than they say, as in the training's own checks.

    """
    from tracestill.stages.examples import kept_examples

    settings = recipe.finetune
    real = read_manifest(run / "filter") is not None
    if real:
        examples = kept_examples(recipe, run)
        origin = f"the {len(examples):,} kept traces of {run}"
    else:
        examples = _made_up(recipe, run, count)
        origin = f"made-up traces of the recipe's first problems, since {run} has none yet"
    if trace is not None:
        examples = [one for one in examples if one.trace_id.startswith(trace)]
        if not examples:
            raise ValueError(f"--trace {trace}: there is none with such an id in {origin}")
    student = model_folder(settings.student)
    if Path(student).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from finetune.prepare import prepare
    from finetune.tokenizer import prompt_text
    from finetune.unlearnable import read_control

    checked = prepare(examples, settings, student, Path(settings.template))
    rendered, tokenizer = checked.rendered, checked.tokenizer
    control = read_control(
        tokenizer, rendered.contract, prompt_text(tokenizer, ""), rendered.endings
    )
    return Preview(
        rendered=rendered,
        shown=rendered.samples if trace else _spread(rendered.samples, count),
        origin=origin,
        real=real,
        examples={example.trace_id: example for example in examples},
        tokenizer=tokenizer,
        control=control,
        notes=checked.notes,
    )


def _made_up(recipe: Recipe, run: Path, count: int) -> list[Example]:
    """The first problems, each with a trace that shows where one stands."""
    if isinstance(recipe.generate, ImportTeacher):
        raise ValueError(
            f"{run} has no kept traces yet, and the recipe's problems come with them: "
            "`tracestill filter RECIPE` imports and filters them"
        )
    from finetune.sample import Example

    problems = itertools.islice(_problems(recipe, run), count)
    return [
        Example(
            trace_id=f"made-up-{index}",
            prompt=problem.prompt,
            reasoning="" if recipe.finetune.think == "none" else _REASONING,
            answer=_ANSWER,
            source=problem.task,
            language=problem.language,
        )
        for index, problem in enumerate(problems, 1)
    ]


def _problems(recipe: Recipe, run: Path) -> Iterator[Problem]:
    if read_manifest(run / "problems") is not None:
        return iter(read_table(run / "problems", "train", Problem))
    from generate.problems import stream_problems

    said = recipe.problems.instruction
    return stream_problems(recipe.problems.train, Counter(), instruction=said)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` of the samples from the shorter to the longer ones, in even steps."""
    by_length = sorted(samples, key=lambda sample: len(sample.input_ids))
    count = min(count, len(samples))
    return [by_length[int((step + 0.5) * len(samples) / count)] for step in range(count)]


def parts(sample: Sample, stop: int) -> Iterator[tuple[Part, Any]]:
    """A sample's parts in order, with their ids; those that it has not are left out."""
    ids = sample.input_ids
    end = len(ids) - int(ids[-1] == stop)
    bounds: list[tuple[Part, int, int]] = [
        ("prompt", 0, sample.prompt),
        ("reasoning", sample.prompt, min(sample.answer, end)),
        ("answer", min(sample.answer, end), end),
        ("stop", end, len(ids)),
    ]
    for part, begin, until in bounds:
        if until > begin:
            yield part, ids[begin:until]
