"""One model on one benchmark: what its answers depend on, and how they are made and judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe.evaluate import EvaluateSection
from tracestill.recipe.evaluation import NEUTRAL, Evaluation
from tracestill.recipe.loading import recipe_of_run
from tracestill.recipe.models import LocalModel
from tracestill.records import OnProgress, Problem, StageResult, file_fingerprint, write_table
from tracestill.stages.asked_model import model_settings
from tracestill.stages.evaluate import student_after

if TYPE_CHECKING:
    from tracestill.evaluate.evaluation import EvaluatedModel

MODEL = "model"  # the table of its answers


def settings(evaluation: Evaluation) -> Any:
    """What answers and verdicts depend on: the model by its content, the benchmark (a file by its
    content, too), and how answers are found and judged.

    Raises:
        ValueError: the model's folder or the benchmark's file does not exist, or what judges the
            answers is not installed.

    """
    from filter.verify import verifier_name, verifier_names
    from generate.reasoning import VERSION

    asked = _model(evaluation)
    spec = evaluation.spec
    if spec.path is not None and not Path(spec.path).is_file():
        raise ValueError(f"the problem file {spec.path} does not exist")
    judging = [VERSION, verifier_names(evaluation.rules)]
    if spec.kind == "ifeval":
        judging.append(verifier_name("ifeval"))
    return [
        model_settings(asked.model),
        [asked.system_prompt, asked.chat_template, asked.languages],
        spec.model_dump(exclude={"path"}),
        None if spec.path is None else file_fingerprint(Path(spec.path)),
        evaluation.model_dump(exclude={*NEUTRAL, "model", "run", "template", "spec"}),
        judging,
    ]


def make(evaluation: Evaluation, folder: Path, progress: OnProgress) -> StageResult:
    """Let the model answer the benchmark, and judge its answers.

    Raises:
        ValueError: the benchmark can't be read, the model can't be loaded, or too many requests
            failed.

    """
    from generate.benchmarks import benchmark_problems
    from tracestill.evaluate.evaluation import evaluate

    spec = evaluation.spec
    problems = benchmark_problems(evaluation.benchmark, spec, evaluation.limit)
    result = evaluate(
        [_model(evaluation)],
        problems,
        EvaluateSection(
            samples=spec.samples,
            temperature=spec.temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
            max_failed=evaluation.max_failed,
        ),
        max_tokens=spec.max_tokens,
        seed=evaluation.seed,
        rules=evaluation.rules,
        folder=folder,
        progress=progress,
        allowing="--max-failed",
    )
    tables = {**result.tables, "problems": write_table(folder, "problems", Problem, problems)}
    return replace(result, tables=tables)


def _model(evaluation: Evaluation) -> EvaluatedModel:
    from tracestill.evaluate.evaluation import EvaluatedModel

    template = evaluation.template
    asked = EvaluatedModel(
        name=MODEL,
        model=evaluation.model,
        system_prompt=evaluation.system_prompt,
        chat_template=template and Path(template).read_text(encoding="utf-8"),
    )
    if evaluation.run is None:
        return asked
    student = student_after(recipe_of_run(Path(evaluation.run)), Path(evaluation.run))
    assert isinstance(student.model, LocalModel), "a run's student is a folder"
    assert isinstance(asked.model, LocalModel)
    # The run's own limit is what its teacher was given; a benchmark's questions may take more.
    own = student.model.model_copy(
        update={
            "max_model_len": asked.model.max_model_len,
            "engine_args": student.model.engine_args | asked.model.engine_args,
        }
    )
    return replace(
        student,
        name=MODEL,
        model=own,
        system_prompt=asked.system_prompt or student.system_prompt,
        chat_template=asked.chat_template or student.chat_template,
    )
