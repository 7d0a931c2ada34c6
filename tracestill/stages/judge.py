"""A model as judge, behind the same journal as the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from generate.teacher import as_teacher, open_engine, to_restore
from tracestill.recipe.filter import Judge
from tracestill.records import OnProgress, Problem, Sampling, Verifier, problem_id
from tracestill.records.content import model_name

if TYPE_CHECKING:
    from filter.verify.judge import Confirm


JOURNAL = "judge.journal.jsonl"


def open_judge(settings: Judge, seed: int, folder: Path, progress: OnProgress) -> Verifier:
    """The judge of a recipe. Its replies go to `folder/judge.journal.jsonl` before anything reads
    them, so that none is paid for twice.

    Raises:
        ValueError: the model can't be loaded, or the template is not as it should be.

    """
    from filter.verify.judge import judge

    template = Path(settings.template).read_text(encoding="utf-8")
    ask = partial(_replies, settings, seed, folder / JOURNAL, progress)
    return judge(model_name(settings.model), template, ask)


def open_confirm(settings: Judge, seed: int, folder: Path, progress: OnProgress) -> Confirm:
    """The same judge, asked whether what a pattern takes for a refusal is one."""
    from filter.verify.judge import confirm

    return confirm(partial(_replies, settings, seed, folder / JOURNAL, progress))


def _replies(
    settings: Judge, seed: int, journal: Path, progress: OnProgress, prompts: Mapping[str, str]
) -> dict[str, str | None]:
    from generate.job import SamplingJob
    from generate.sampling import sample
    from generate.stopping import fixed

    sampling = Sampling(
        temperature=settings.temperature,
        top_p=1.0,
        top_k=-1,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    questions = {
        trace: Problem(
            id=problem_id(prompt, ""), prompt=prompt, reference="", kind="open", source="judge"
        )
        for trace, prompt in prompts.items()
    }
    unique = {question.id: question for question in questions.values()}
    job = SamplingJob(
        teacher=as_teacher(settings, sampling),
        open_engine=lambda: open_engine(settings, sampling),
        redact=to_restore(settings),
        rule=fixed(1),
        journal=journal,
        seed=seed,
    )
    replies = sample(list(unique.values()), job, progress)
    answers = {reply.problem_id: reply.answer for reply in replies}
    return {trace: answers[question.id] for trace, question in questions.items()}
