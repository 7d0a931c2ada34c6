"""Student and teacher on the held-out problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe.contract import languages as known_languages
from tracestill.recipe.contract_keys import OWN
from tracestill.recipe.evaluate import NEUTRAL, Subject
from tracestill.recipe.forgetting import named
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.models import LocalModel
from tracestill.recipe.schema import Recipe
from tracestill.records import OnProgress, Problem, StageResult, file_fingerprint, read_table
from tracestill.records.content import model_fingerprint
from tracestill.records.gguf import model_folder
from tracestill.stages.asked_model import model_settings
from tracestill.stages.finetune import template_content

if TYPE_CHECKING:
    from tracestill.evaluate.evaluation import EvaluatedModel

# Of a benchmark: its problems are asked as the held-out ones are.
_UNUSED = ("path", "samples", "max_tokens", "temperature", "top_p", "top_k")


def settings(recipe: Recipe) -> Any:
    """The section `evaluate`, the models, their prompts, and how answers are found and judged."""
    from filter.verify import verifier_names
    from generate.reasoning import VERSION

    teacher, student = recipe.generate, recipe.finetune
    asked: list[Any] = [
        longest_answer(recipe),
        student.system_prompt,
        student.trust_remote_code,
        template_content(recipe),
        longest_context(recipe),
    ]
    if student.contract.languages is not None:
        asked.append(student.contract.languages)
    if "student_before" in recipe.evaluate.models:
        asked += [model_fingerprint(student.student, student.revision), student.revision]
    if "teacher" in recipe.evaluate.models and not isinstance(teacher, ImportTeacher):
        asked += [model_settings(teacher), teacher.system_prompt]
    judging = [VERSION, verifier_names(recipe.filter.rules)]
    said = recipe.evaluate.model_dump(exclude={*NEUTRAL, "forgetting"})
    # A recipe that says nothing of forgetting is what it was before there was such a key.
    more = [_forgetting_settings(recipe)] if recipe.evaluate.forgetting else []
    return [said, asked, judging, recipe.seed, *more]


def _forgetting_settings(recipe: Recipe) -> list[Any]:
    from filter.verify import verifier_name

    found: list[Any] = []
    for name, spec, count in named(recipe.evaluate):
        place = None if spec.path is None else file_fingerprint(Path(spec.path))
        found.append([name, spec.model_dump(exclude=set(_UNUSED)), place, count])
        if spec.kind == "ifeval":
            found.append(verifier_name("ifeval"))
    return found


def longest_answer(recipe: Recipe) -> int:
    """The tokens that an answer may take."""
    if recipe.evaluate.max_tokens is not None:
        return recipe.evaluate.max_tokens
    assert not isinstance(recipe.generate, ImportTeacher), "the recipe fills it in"
    return recipe.generate.max_tokens


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Let each model answer the held-out problems and judge its answers.

    Raises:
        ValueError: a model or a benchmark can't be loaded, or too many requests failed.

    """
    from generate.benchmarks import benchmark_problems
    from tracestill.evaluate.evaluation import evaluate
    from tracestill.evaluate.forgetting import drawn

    models = _models(recipe, run)
    return evaluate(
        [models[name] for name in recipe.evaluate.models],
        list(read_table(run / "problems", "heldout", Problem)),
        recipe.evaluate,
        max_tokens=longest_answer(recipe),
        seed=recipe.seed,
        rules=recipe.filter.rules,
        folder=run / "evaluate",
        progress=progress,
        beside={
            name: drawn(benchmark_problems(name, spec), count)
            for name, spec, count in named(recipe.evaluate)
        },
    )


def longest_context(recipe: Recipe) -> int | None:
    """The tokens that prompt and answer may take; None: what the model was trained for."""
    teacher = recipe.generate
    return teacher.max_model_len if isinstance(teacher, LocalModel) else None


def student_after(recipe: Recipe, run: Path) -> EvaluatedModel:
    """The trained student, and how it is asked."""
    from tracestill.evaluate.evaluation import EvaluatedModel

    student = recipe.finetune
    merged = str((run / "finetune" / "merged").resolve())
    return EvaluatedModel(
        name="student_after",
        model=LocalModel(
            model=merged,
            max_model_len=longest_context(recipe),
            engine_args=_remote(recipe),
            dtype=dtype_for_vllm(Path(merged)),
        ),
        system_prompt=student.system_prompt,
        # It is saved with its template; but a tokenizer that comes as Python can set its own.
        chat_template=_taught(recipe),
        languages=bool(known_languages(Path(student.template), student)),
    )


def _remote(recipe: Recipe) -> dict[str, Any]:
    return {"trust_remote_code": True} if recipe.finetune.trust_remote_code else {}


def _taught(recipe: Recipe) -> str | None:
    template = recipe.finetune.template
    return None if template == OWN else Path(template).read_text(encoding="utf-8")


def student_before(recipe: Recipe) -> EvaluatedModel:
    """The student before its training, and how it is asked."""
    from tracestill.evaluate.evaluation import EvaluatedModel

    student = recipe.finetune
    own = student.template == OWN
    return EvaluatedModel(
        name="student_before",
        model=LocalModel(
            model=student.student,
            revision=student.revision,
            max_model_len=longest_context(recipe),
            engine_args=_remote(recipe),
        ),
        system_prompt=student.system_prompt,
        chat_template=None if own or _has_template(recipe) else _taught(recipe),
        languages=bool(known_languages(Path(student.template), student)),
    )


def _models(recipe: Recipe, run: Path) -> dict[Subject, EvaluatedModel]:
    from tracestill.evaluate.evaluation import EvaluatedModel

    teacher = recipe.generate
    models: dict[Subject, EvaluatedModel] = {
        "student_before": student_before(recipe),
        "student_after": student_after(recipe, run),
    }
    if not isinstance(teacher, ImportTeacher):
        models["teacher"] = EvaluatedModel(
            name="teacher", model=teacher, system_prompt=teacher.system_prompt
        )
    return models


def dtype_for_vllm(merged: Path) -> str:
    """The dtype in which vLLM loads a student as it was exported. Unasked it would round float32
    weights, which are there where rounding loses what was learnt.
    """
    dtype = json.loads((merged / "config.json").read_text(encoding="utf-8"))["dtype"]
    return "float32" if dtype == "float32" else "auto"


def _has_template(recipe: Recipe) -> bool:
    """Whether a student can be asked before it is trained: many base models have no template."""
    from transformers import AutoTokenizer

    student = recipe.finetune
    path = model_folder(student.student)
    tokenizer = AutoTokenizer.from_pretrained(
        path,
        revision=student.revision,
        trust_remote_code=student.trust_remote_code,
        local_files_only=Path(path).is_dir(),
    )
    return tokenizer.chat_template is not None
