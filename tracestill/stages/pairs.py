"""A run's traces as preference pairs, in a file that trl's DPOTrainer reads."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.schema import Recipe
from tracestill.records import (
    Drop,
    Problem,
    TraceText,
    Verdict,
    open_table,
    read_manifest,
    read_table,
    table_files,
)
from tracestill.records.gguf import model_folder
from tracestill.records.row_file import check_ending, write_rows
from tracestill.stages.examples import example_of

if TYPE_CHECKING:
    from filter.pairs import Candidate, Chosen, Pair, Rule
    from finetune.preference import StudentText

_BATCH = 500  # pairs whose texts are in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A pair as trl reads it: texts in its standard preference format, and what they are of."""

    prompt: str
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    problem_id: str
    rule: str


@dataclass(kw_only=True)
class PairFigures:
    """What became of the problems, counted while the pairs are written.

    `lacking` counts those without a pair by why; `unlearnable` is how many chosen pairs were left
    out since the student can't learn one of their texts, `changed` how many texts trl reads as
    other tokens than training does. Lengths are completion tokens, as the teacher counts; `longest`
    is a text with its prompt, in the student's tokens.
    """

    problems: int
    lacking: dict[str, int]
    rules: Counter[str] = field(default_factory=Counter)
    with_pairs: set[str] = field(default_factory=set)
    chosen_tokens: int = 0
    rejected_tokens: int = 0
    longest: int = 0
    unlearnable: int = 0
    changed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """How many pairs were written."""
        return self.rules.total()


def write_pairs(
    recipe: Recipe,
    run: Path,
    target: Path,
    rules: Sequence[Rule],
    per_problem: int,
    max_ratio: float | None,
) -> PairFigures:
    """Choose pairs of a run's traces and write them to a file, in the order of the table of
    traces. Only the texts of the chosen traces are read, some at a time.

    Raises:
        ValueError: the run has no finished filter, there is no pair, the ending is unknown, or
            student and template do not fit together.

    """
    check_ending("--out", target)
    if read_manifest(run / "filter") is None:
        raise ValueError(
            f"{run} has no finished filter, which says which traces are correct: "
            "`tracestill filter RECIPE` makes it"
        )
    from filter.pairs import choose_pairs

    candidates, places = _candidates(run)
    chosen = choose_pairs(candidates, rules, per_problem, max_ratio)
    if not chosen.pairs:
        raise ValueError(_none(run, chosen))
    figures = PairFigures(problems=chosen.problems, lacking=chosen.lacking)
    write_rows(target, PairRow, _rows(recipe, run, chosen.pairs, places, figures))
    return figures


def _candidates(run: Path) -> tuple[Iterator[Candidate], dict[str, int]]:
    """The traces without their texts, and the place of each in the table."""
    from filter.pairs import Candidate

    traces = open_table(run / "generate", "traces", TraceText)
    verdicts = open_table(run / "filter", "verdicts", Verdict)
    drops = open_table(run / "filter", "drops", Drop)
    outcomes = dict(zip(verdicts.column("trace_id"), verdicts.column("outcome"), strict=True))
    reasons = dict(zip(drops.column("trace_id"), drops.column("reason"), strict=True))
    ids = list(traces.column("id"))
    made = (
        Candidate(
            id=id_, problem_id=problem, finish=finish, tokens=tokens,
            outcome=outcomes.get(id_), dropped=reasons.get(id_),
        )
        for id_, problem, finish, tokens in zip(
            ids, traces.column("problem_id"), traces.column("finish"),
            traces.column("completion_tokens"), strict=True,
        )
    )  # fmt: skip
    return made, {id_: place for place, id_ in enumerate(ids)}


def _none(run: Path, chosen: Chosen) -> str:
    if not chosen.lacking:
        return f"{run} has no traces, of which pairs could be made"
    why = ", ".join(f"{count:,} have {said}" for said, count in chosen.lacking.items())
    return (
        f"no pair in {chosen.problems:,} problems: {why}. Sample more of each (generate.samples), "
        "or choose by another --rule or with a larger --max-ratio"
    )


def _rows(
    recipe: Recipe,
    run: Path,
    pairs: Sequence[Pair],
    places: dict[str, int],
    figures: PairFigures,
) -> Iterator[PairRow]:
    """The file's rows, counted in the figures."""
    if Path(recipe.finetune.student).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from finetune.preference import open_reader, student_texts

    settings = recipe.finetune
    reader = open_reader(settings, model_folder(settings.student), Path(settings.template))
    figures.notes += reader.notes
    wanted = {pair.problem_id for pair in pairs}
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem) if p.id in wanted}
    example, texts_of = example_of(recipe), _texts_of(run)
    # In the order of the table, so that neighbours are read together.
    ordered = sorted(pairs, key=lambda pair: places[pair.chosen.id])
    for begin in range(0, len(ordered), _BATCH):
        part = ordered[begin : begin + _BATCH]
        traces = [one for pair in part for one in (pair.chosen, pair.rejected)]
        found = texts_of([places[one.id] for one in traces])
        made = student_texts(
            reader,
            [example(problems[one.problem_id], found[places[one.id]]) for one in traces],
            [one.finish != "length" for one in traces],
        )
        for pair, chosen, rejected in zip(part, made[::2], made[1::2], strict=True):
            # The prompts of a student that thinks only when asked differ where one trace thinks.
            if chosen is None or rejected is None or chosen.prompt != rejected.prompt:
                figures.unlearnable += 1
                continue
            _count(figures, pair, chosen, rejected)
            yield PairRow(
                prompt=chosen.prompt,
                chosen=chosen.completion,
                rejected=rejected.completion,
                chosen_id=pair.chosen.id,
                rejected_id=pair.rejected.id,
                problem_id=pair.problem_id,
                rule=pair.rule,
            )
    if not figures.pairs:
        raise ValueError(
            f"of {len(pairs):,} pairs the student could learn none: `tracestill preview RECIPE` "
            "says what is wrong with the kept traces"
        )


def _texts_of(run: Path) -> Callable[[Sequence[int]], dict[int, TraceText]]:
    """A function that reads the traces at these places of the table."""
    import numpy as np

    from filter.table import texts_at, trace_files

    traces = trace_files(table_files(run / "generate", "traces"))

    def texts(places: Sequence[int]) -> dict[int, TraceText]:
        ordered = np.array(sorted(places), np.int64)
        return {
            int(place): text
            for some, found in texts_at(traces, ordered)
            for place, text in zip(some, found, strict=True)
        }

    return texts


def _count(figures: PairFigures, pair: Pair, chosen: StudentText, rejected: StudentText) -> None:
    figures.rules[pair.rule] += 1
    figures.with_pairs.add(pair.problem_id)
    figures.chosen_tokens += pair.chosen.tokens
    figures.rejected_tokens += pair.rejected.tokens
    figures.longest = max(figures.longest, chosen.tokens, rejected.tokens)
    figures.changed += (not chosen.same) + (not rejected.same)
