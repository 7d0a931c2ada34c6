"""pass@1 of a run's GGUF files, beside that of the student that they were made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.schema import Recipe
from tracestill.records import Problem, Progress, Sampling, read_table
from tracestill.records.figures import GgufFigures, GgufFile
from tracestill.stages.evaluate import longest_answer, longest_context, student_after

if TYPE_CHECKING:
    from tracestill.evaluate.quantised import AsEvaluated

FOLDER = "gguf"  # of the answers, in the folder of the evaluation


def measured(
    recipe: Recipe,
    run: Path,
    figures: GgufFigures,
    count: int,
    on_progress: Callable[[GgufFile, Progress], None],
) -> Iterator[GgufFigures]:
    """Let each file of `figures` answer `count` of the problems of the run's evaluation, as the
    evaluation asked the student; yields the figures with one more file's each time.

    The student's own answers are not greedy where the evaluation's are not, so neither are these:
    else the difference were that between two ways of sampling too.

    Raises:
        ValueError: llama.cpp can't load a file, or it answered no problem.

    """
    from tracestill.evaluate.evaluated import answers
    from tracestill.evaluate.quantised import loss_of, spread

    heldout = spread(list(read_table(run / "problems", "heldout", Problem)), count)
    wanted = {problem.id for problem in heldout}
    merged = answers(run / "evaluate", "student_after", wanted)
    asked = _asked(recipe, run)
    files = list(figures.files)
    for at, one in enumerate(files):

        def shown(progress: Progress, one: GgufFile = one) -> None:
            on_progress(one, progress)

        file = run / "finetune" / "gguf" / one.file
        loss = loss_of(
            file, heldout, merged, asked, folder=run / "evaluate" / FOLDER, progress=shown
        )
        files[at] = replace(one, pass_at_1=loss)
        yield replace(figures, files=list(files))


def _asked(recipe: Recipe, run: Path) -> AsEvaluated:
    from tracestill.evaluate.quantised import AsEvaluated

    section, student = recipe.evaluate, student_after(recipe, run)
    return AsEvaluated(
        merged=run / "finetune" / "merged",
        sampling=Sampling(
            temperature=section.temperature, top_p=section.top_p, top_k=section.top_k,
            max_tokens=longest_answer(recipe), seed=recipe.seed,
        ),
        samples=section.samples,
        seed=recipe.seed,
        system_prompt=student.system_prompt,
        chat_template=student.chat_template,
        languages=student.languages,
        max_model_len=longest_context(recipe),
        trust_remote_code=recipe.finetune.trust_remote_code,
        rules=recipe.filter.rules,
    )  # fmt: skip
