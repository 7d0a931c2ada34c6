"""How long the samples will be that a student learns from, as well as it is known before."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import Kept, Problem, Table, Trace, open_table, read_manifest, read_table
from tracestill.records.gguf import model_folder
from tracestill.stages.examples import example_of, example_of_row, kept_rows

if TYPE_CHECKING:
    from finetune.sample import Example

_RENDERED = 512  # samples that are rendered and counted; the others' lengths follow from theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of each sample, none if they are not known; the share of them that is learnt (no
    prompt); and where all that comes from, in words.
    """

    tokens: list[int] = field(default_factory=list)
    learnt: float = 1.0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traces:
    """Traces that are there: their `sizes` (the teacher's tokens of prompt and completion if they
    were `counted`, else characters), the share of that which is learnt, and a function that gives
    the examples in some places.
    """

    sizes: list[int]
    learnt: float
    counted: bool
    examples: Callable[[Sequence[int]], list[Example]]
    told: str


def sample_lengths(recipe: Recipe, run: Path, source: Path) -> Lengths:
    """The lengths of the samples of a run's kept traces, or else of what is sampled in `source`, in
    the student's tokens: some are rendered as training does it, the others' lengths follow from
    them. Where the student's tokenizer is not on this machine, they are as the teacher's engine
    counted them.
    """
    journal = source / "generate" / "journal.jsonl"
    if read_manifest(run / "filter") is not None:
        return _told(recipe, _kept(recipe, run))
    if isinstance(recipe.generate, ImportTeacher) or not journal.exists():
        return Lengths()
    return _expected(recipe, run, source, journal)


def _told(recipe: Recipe, traces: _Traces) -> Lengths:
    """The lengths of traces that are there."""
    if not traces.sizes:
        return Lengths(source=traces.told)
    seen, why = _rendered(recipe, traces)
    if seen:
        total = sum(tokens for tokens, _ in seen.values())
        each = total / sum(traces.sizes[place] for place in seen)
        return Lengths(
            tokens=[
                seen[place][0] if place in seen else max(1, round(size * each))
                for place, size in enumerate(traces.sizes)
            ],
            learnt=sum(learnt for _, learnt in seen.values()) / total,
            source=f"{traces.told}, in the student's tokens",
        )
    if traces.counted:
        told = f"{traces.told}, in the teacher's tokens, since {why}"
        return Lengths(tokens=traces.sizes, learnt=traces.learnt, source=told)
    return Lengths(source=f"nobody has counted the traces' tokens, and {why}")


def _rendered(recipe: Recipe, traces: _Traces) -> tuple[dict[int, tuple[int, int]], str]:
    """Of some traces, by their places, the tokens of the sample and how many are learnt; none, and
    why, if the student's tokenizer is not to be had.
    """
    settings = recipe.finetune
    path = local_file(settings.student, settings.revision, "tokenizer_config.json")
    if path is None:
        return {}, "the student's tokenizer is not on this machine"
    from finetune.prepare import sample_lengths as lengths_of

    count = len(traces.sizes)
    chosen = sorted(random.Random(0).sample(range(count), min(_RENDERED, count)))
    try:
        found = lengths_of(
            traces.examples(chosen), settings, str(path.parent), Path(settings.template)
        )
    except ValueError as error:
        return {}, f"they can't be rendered for the student ({error})"
    pairs = zip(chosen, found, strict=True)
    return {place: counts for place, counts in pairs if counts is not None}, ""


def _kept(recipe: Recipe, run: Path) -> _Traces:
    kept = set(open_table(run / "filter", "kept", Kept).column("trace_id"))
    traces: Table[Trace] = open_table(run / "generate", "traces", Trace)
    names = ("id", "prompt_tokens", "completion_tokens")
    columns = zip(*(traces.column(name) for name in names), strict=True)
    parts = [counts for trace, *counts in columns if trace in kept]
    # A prompt or an answer of no tokens is one that was not counted, as imported ones are.
    counted = all(prompt and completion for prompt, completion in parts)
    if not counted:
        rows = kept_rows(recipe, run)
        parts = [[len(row.prompt), len(row.reasoning) + len(row.answer)] for row in rows]
    sizes = [prompt + completion for prompt, completion in parts]

    def examples(places: Sequence[int]) -> list[Example]:
        chosen = set(places)
        rows = enumerate(kept_rows(recipe, run))
        return [example_of_row(row) for place, row in rows if place in chosen]

    return _Traces(
        sizes=sizes,
        learnt=sum(completion for _, completion in parts) / max(1, sum(sizes)),
        counted=counted,
        examples=examples,
        told="the traces that were kept",
    )


def local_file(model: str, revision: str | None, name: str) -> Path | None:
    """A file of a model, from its folder or from the hub's cache on this machine."""
    model = model_folder(model)
    if model.startswith("/"):
        path = Path(model) / name
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _expected(recipe: Recipe, run: Path, source: Path, journal: Path) -> Lengths:
    """As many lengths as there will be traces, if all that end by themselves are kept: those of
    the journal over and over.
    """
    from generate.ledger import INDEXED
    from generate.rows import as_trace, read_row
    from tracestill.records import journal as journals

    asked: set[str] = set()
    ended: Counter[str] = Counter()
    sizes: list[int] = []
    offsets: list[int] = []
    for (_, problem, _, finish, _, tokens, *_), offset in journals.read_heads(journal, INDEXED):
        asked.add(problem)
        if finish == "stop":
            ended[problem] += 1
            sizes.append(tokens or 0)
            offsets.append(offset)
    if not sizes:
        return Lengths()
    most = recipe.filter.max_per_problem or math.inf
    each = sum(min(count, most) for count in ended.values()) / len(asked)
    made = read_manifest(run / "problems") is not None
    problems = len(open_table(run / "problems", "train", Problem)) if made else len(asked)
    count = max(1, round(each * problems))

    def examples(places: Sequence[int]) -> list[Example]:
        with journal.open("rb") as file:
            solutions = recipe.generate.reasoning == "solution"
            rows = [read_row(file, offsets[place]) for place in places]
        traces = [as_trace(row, solutions) for row in rows]
        wanted = {trace.problem_id for trace in traces}
        table = read_table(source / "problems", "train", Problem)
        known = {problem.id: problem for problem in table if problem.id in wanted}
        make = example_of(recipe)
        return [make(known[trace.problem_id], trace) for trace in traces]

    told = f"about so many like the {len(sizes):,} sampled so far, if all are kept"
    seen = _told(
        recipe, _Traces(sizes=sizes, learnt=1.0, counted=True, examples=examples, told=told)
    )
    again = itertools.islice(itertools.cycle(seen.tokens), count)
    return Lengths(tokens=list(again), learnt=seen.learnt, source=seen.source)
