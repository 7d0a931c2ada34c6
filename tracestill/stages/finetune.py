"""The student, trained on the kept traces and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe.contract_keys import OWN, ContractKeys
from tracestill.recipe.rules import Rules
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    Learnt,
    OnProgress,
    Problem,
    StageResult,
    file_fingerprint,
    read_table,
    write_table,
)
from tracestill.records.content import model_fingerprint
from tracestill.stages.curriculum import stage_traces
from tracestill.stages.examples import kept_examples, kept_rows
from tracestill.stages.replay import replay_examples, replay_settings

if TYPE_CHECKING:
    from finetune.monitor import Grade
    from finetune.sample import Example


# Another number where the tables of `finetune.planner.rates` give other values.
_SWEEPS = 1


def settings(recipe: Recipe) -> Any:
    """The section `finetune` without its neutral keys, and models and template by their content."""
    section = recipe.finetune
    # Keys that came later count only where they say something: what was trained before stays good.
    later: tuple[tuple[str, Any], ...] = (
        ("mixed", False), ("contract", ContractKeys()), ("loss", "nll"), ("keep", "last"),
        ("stages", []), ("replay", None),
    )  # fmt: skip
    silent = {name for name, value in later if getattr(section, name) == value} | section.unused
    left_out: dict[str, Any] = dict.fromkeys(
        section.neutral | {"student", "template"} | silent, True
    )
    # What a stage selects comes as a table of the filter's.
    inner = {"on_policy": {"teacher"}, "stages": {"__all__": {"select"}}}
    said = section.model_dump(exclude=inner | left_out)
    said["schedule"] = section.known_schedule
    if section.unlearnable == "auto":
        # What was trained when it stopped at the first such trace had none: it stays good.
        said["unlearnable"] = "error"
    if section.replay is not None:
        said["replay"] = replay_settings(section.replay)
    if section.is_swept:
        said["sweeps"] = _SWEEPS
    further = section.on_policy
    return [
        said,
        model_fingerprint(section.student, section.revision),
        template_content(recipe),
        further and model_fingerprint(further.teacher, further.revision),
        recipe.seed,
    ]


def template_content(recipe: Recipe) -> list[str]:
    """The student's template and its contract, by their content; its own comes with the student."""
    if recipe.finetune.template == OWN:
        return [OWN]
    path = Path(recipe.finetune.template)
    return [file_fingerprint(one) for one in (path, path.with_suffix(".yaml")) if one.is_file()]


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Train the student and write `merged/`, and `adapter/` where there is one.

    Raises:
        ValueError: as `finetune.train.train`.
        MemoryError: not even one row fits.

    """
    from finetune.train import train

    section, folder = recipe.finetune, run / "finetune"
    examples = kept_examples(recipe, run)
    replayed = replay_examples(section, examples)
    examples += replayed
    trained = train(
        examples,
        section,
        student=section.student,
        template=Path(section.template),
        folder=folder,
        seed=recipe.seed,
        progress=progress,
        name=recipe.name,
        grade=grade_of(recipe, run) if section.monitor is not None else None,
        stages=stage_traces(recipe, run),
    )
    rows = [
        Learnt(trace_id=trace, heldout=heldout)
        for traces, heldout in ((trained.learnt, False), (trained.heldout, True))
        for trace in traces
    ]
    dropped = dict(trained.dropped)
    if trained.heldout:
        dropped["held_out"] = len(trained.heldout)
    return StageResult(
        rows_in=len(examples),
        rows_out=len(trained.learnt),
        dropped=dropped,
        tables={"learnt": write_table(folder, "learnt", Learnt, rows)},
        files=["merged", *(["adapter"] if section.method == "lora" else []), "metrics.jsonl"],
        figures=trained.figures,
        notes=[*_told(replayed), *trained.notes],
    )


def _told(replayed: Sequence[Example]) -> list[str]:
    return [f"{len(replayed):,} rows of general data are learnt beside"] if replayed else []


def grade_of(recipe: Recipe, run: Path) -> Grade:
    """A function that says whether an answer of the student's is right, as the evaluation does. It
    can be pickled.
    """
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    asked = {row.trace_id: problems[row.problem_id] for row in kept_rows(recipe, run)}
    return partial(_grade, asked, recipe.filter.rules)


def _grade(
    asked: Mapping[str, Problem], rules: Rules, trace_id: str, completion: str
) -> bool | None:
    from filter.verify import verify
    from generate.reasoning import split_reasoning

    answer = split_reasoning(completion).answer
    outcome = verify(asked[trace_id], answer, trace_id, rules).outcome
    return None if outcome == "unverifiable" else outcome == "correct"
