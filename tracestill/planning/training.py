"""What training a recipe's student will take: the planner, told what the run knows."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.planner import TrainingPlan, plan, read_shape
from finetune.planner import devices as known
from finetune.planner.calibration import read_calibration
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import Kept, Problem, Trace, open_table, read_manifest
from tracestill.records.content import model_name
from tracestill.records.gguf import model_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPlan:
    """The plan of `student`, and where the lengths of its samples come from, in words."""

    student: str
    plan: TrainingPlan
    samples: int
    source: str


def plan_student(recipe: Recipe, run: Path, source: Path, gpu: str | None) -> StudentPlan:
    """Plan the stage finetune for the GPU that `gpu` names, or for this machine.

    The samples' lengths are those of the run's kept traces, or else of what is sampled in `source`,
    counted by the teacher's tokenizer.

    Raises:
        ValueError: the student's config.json is not on this machine, its architecture or the GPU
            is not known, or no sample would fit a row; one line with the fix.

    """
    settings = recipe.finetune
    shape = read_shape(student_config(settings.student, settings.revision))
    device = known.named(gpu) if gpu else known.here()
    lengths, told = _lengths(recipe, run, source)
    calibration = read_calibration(run / "finetune", device.name)
    return StudentPlan(
        student=model_name(settings.student),
        plan=plan(settings, shape, device, lengths, calibration),
        samples=len(lengths),
        source=told,
    )


def student_config(model: str, revision: str | None) -> dict[str, Any]:
    """A model's config.json, from its folder or from the hub's cache on this machine.

    Raises:
        ValueError: it is in neither.

    """
    model = model_folder(model)
    if model.startswith("/"):
        path = Path(model) / "config.json"
        if not path.is_file():
            raise ValueError(f"finetune.student: {model} has no config.json")
    else:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, "config.json", revision=revision)
        if not isinstance(found, str):
            raise ValueError(
                f"finetune.student: the config.json of {model} is not on this machine; "
                f"`hf download {model} config.json` fetches it"
            )
        path = Path(found)
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _lengths(recipe: Recipe, run: Path, source: Path) -> tuple[list[int], str]:
    """The samples' lengths in tokens, as well as they are known, and how they are."""
    if read_manifest(run / "filter") is not None:
        kept = set(open_table(run / "filter", "kept", Kept).column("trace_id"))
        traces = open_table(run / "generate", "traces", Trace)
        columns = [traces.column(name) for name in ("id", "prompt_tokens", "completion_tokens")]
        lengths = [
            prompt + completion
            for trace, prompt, completion in zip(*columns, strict=True)
            if trace in kept
        ]
        return lengths, "the traces that were kept"
    journal = source / "generate" / "journal.jsonl"
    if isinstance(recipe.generate, ImportTeacher) or not journal.exists():
        return [], ""
    return _expected(recipe, run, journal)


def _expected(recipe: Recipe, run: Path, journal: Path) -> tuple[list[int], str]:
    """As many lengths as there will be traces, if all that end by themselves are kept: those of
    the journal over and over.
    """
    from generate.ledger import INDEXED
    from tracestill.records import journal as journals

    asked: set[str] = set()
    ended: Counter[str] = Counter()
    seen: list[int] = []
    for (_, problem, _, finish, _, tokens, *_), _ in journals.read_heads(journal, INDEXED):
        asked.add(problem)
        if finish == "stop":
            ended[problem] += 1
            seen.append(tokens or 0)
    if not seen:
        return [], ""
    most = recipe.filter.max_per_problem or math.inf
    each = sum(min(count, most) for count in ended.values()) / len(asked)
    made = read_manifest(run / "problems") is not None
    problems = len(open_table(run / "problems", "train", Problem)) if made else len(asked)
    count = round(each * problems)
    lengths = list(itertools.islice(itertools.cycle(seen), max(1, count)))
    return lengths, f"about so many like the {len(seen):,} sampled so far, if all are kept"
