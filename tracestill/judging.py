"""A judge for the filter stage: a model behind the same journal as the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.models import as_teacher, model_name, open_engine, to_restore
from tracestill.records import Problem, Sampling, problem_id

if TYPE_CHECKING:
    from filter.config import Judge as JudgeSection
    from filter.verify.judge import Judge

Progress = Callable[[dict[str, Any]], None]


def open_judge(settings: JudgeSection, seed: int, folder: Path, progress: Progress) -> Judge:
    """The judge of a recipe. Its replies go to `folder/judge.journal.jsonl` before anything reads
    them, so that none is paid for twice.

    Raises:
        ValueError: the model can't be loaded, or the template is not as it should be.

    """
    from filter.verify.judge import judge

    def ask(prompts: Mapping[str, str]) -> Mapping[str, str | None]:
        return _replies(settings, prompts, seed, folder / "judge.journal.jsonl", progress)

    template = Path(settings.template).read_text(encoding="utf-8")
    return judge(model_name(settings.model), template, ask)


def _replies(
    settings: JudgeSection,
    prompts: Mapping[str, str],
    seed: int,
    journal: Path,
    progress: Progress,
) -> dict[str, str | None]:
    from generate.asking import Asking
    from generate.run import sample
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
    asking = Asking(
        teacher=as_teacher(settings, sampling),
        open_engine=lambda: open_engine(settings, sampling),
        redact=to_restore(settings),
        rule=fixed(1),
        journal=journal,
        seed=seed,
    )
    replies = sample(list(unique.values()), asking, progress)
    answers = {reply.problem_id: reply.answer for reply in replies}
    return {trace: answers[question.id] for trace, question in questions.items()}
