"""What the filter's result depends on: the recipe's settings, and what people decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracestill.recipe.functions import is_function, read_function
from tracestill.recipe.generate import ServedTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import file_fingerprint, folder_fingerprint
from tracestill.records.content import model_fingerprint
from tracestill.records.decisions import decided_settings, decided_verdicts
from tracestill.stages.asked_model import model_settings
from tracestill.stages.student import student_content


def settings(recipe: Recipe) -> Any:
    """The section `filter`, the judge by its content, and the verifiers with their versions."""
    from filter.verify import verifier_names
    from filter.verify.judge import REFUSAL_RUBRIC

    judge = recipe.filter.judge
    asked = judge and [
        model_settings(judge),
        judge.max_tokens,
        judge.temperature,
        file_fingerprint(Path(judge.template)),
        recipe.seed,
    ]
    said = recipe.filter.model_dump(exclude={"judge", "workers", "student", "verifiers"})
    for step in said["steps"]:
        if "semantic" in step:
            step["semantic"]["model"] = _embedder(step["semantic"]["model"])
        if "select" in step:
            step["select"] = _selection(step["select"])
    made = [said, asked, verifier_names(recipe.filter.rules), _redaction(recipe)]
    if (clean := recipe.problems.decontaminate) is not None:
        made.append([clean.ngram, clean.renumbered])
    if recipe.filter.confirms:
        made.append(file_fingerprint(REFUSAL_RUBRIC))
    selections = recipe.finetune.selections
    if selections:
        made.append([_selection(one.model_dump()) for one in selections])
    if recipe.filter.asks_student or any(one.asks_student for one in selections):
        made.append([student_content(recipe), recipe.filter.student.model_dump(), recipe.seed])
    return made if recipe.finetune.needs_reasoning else [*made, "without reasoning too"]


def decisions(run: Path) -> Any:
    """What people decided of a run's traces, as the filter's result depends on it.

    Raises:
        ValueError: a line of `filter/decisions.jsonl` is no decision.

    """
    return decided_settings(decided_verdicts(run))


def _selection(said: dict[str, Any]) -> dict[str, Any]:
    """A selection, a function of the user's by its content."""
    by = said["by"]
    return {**said, "by": read_function(by).label} if is_function(by) else said


def _embedder(model: str) -> str:
    """What a static model is: the content of its folder, or its commit on the hub."""
    if model.startswith("/"):
        return folder_fingerprint(Path(model))
    return model_fingerprint(model, None)


def _redaction(recipe: Recipe) -> Any:
    """What was masked in the prompts, which decides how traces and prompts are read."""
    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None:
        return None
    return [teacher.redact.model_dump(), teacher.system_prompt]
