"""What a student's GGUF files lose of its pass@1, answered by llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracestill.evaluate.evaluation import verdicts_of
from tracestill.evaluate.figures import figures_of
from tracestill.evaluate.statistics import by_problem, paired_difference
from tracestill.recipe.rules import Rules
from tracestill.records import OnProgress, Problem, Sampling, Teacher
from tracestill.records.content import file_fingerprint
from tracestill.records.figures import QuantisedFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class AsEvaluated:
    """How the merged student was asked in the run's evaluation, which a file of it is asked like:
    `sampling` and `samples` of it, its prompts, and the longest context in tokens (None: what the
    model was trained for).
    """

    merged: Path
    sampling: Sampling
    samples: int
    seed: int
    system_prompt: str | None
    chat_template: str | None
    languages: bool
    max_model_len: int | None
    trust_remote_code: bool
    rules: Rules


def spread(problems: Sequence[Problem], count: int) -> list[Problem]:
    """`count` of the problems, evenly from all of them: they lie by source."""
    count = min(count, len(problems))
    return [problems[at * len(problems) // count] for at in range(count)]


def loss_of(
    file: Path,
    problems: Sequence[Problem],
    merged: dict[str, list[bool]],
    asked: AsEvaluated,
    *,
    folder: Path,
    progress: OnProgress,
) -> QuantisedFigures:
    """Let llama.cpp answer the problems with a GGUF file, and compare with the merged student's
    answers to them. Answers are kept in `folder`, by the file's name: what was answered with the
    same file is not asked again.

    Raises:
        ValueError: llama.cpp can't load the file, or no problem was answered by both.

    """
    from generate.job import SamplingJob
    from generate.llama_cpp_engine import LlamaCppEngine
    from generate.sampling import sample
    from generate.stopping import fixed

    job = SamplingJob(
        teacher=Teacher(
            model=file.name, revision=None, content=file_fingerprint(file),
            engine=LlamaCppEngine.name, engine_version="", quantisation=None, provider="local",
            sampling=asked.sampling,
        ),
        open_engine=lambda: LlamaCppEngine(
            file, asked.merged, asked.sampling, max_model_len=asked.max_model_len,
            chat_template=asked.chat_template, trust_remote_code=asked.trust_remote_code,
        ),
        rule=fixed(asked.samples),
        journal=folder / f"{file.stem}.journal.jsonl",
        seed=asked.seed,
        system_prompt=asked.system_prompt,
        languages=asked.languages,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    traces = list(sample(problems, job, progress))
    verdicts = verdicts_of(traces, problems, asked.rules)
    outcomes = {one.trace_id: one.outcome == "correct" for one in verdicts}
    ours = by_problem((t.problem_id, outcomes[t.id]) for t in traces if t.id in outcomes)
    both = [one.id for one in problems if one.id in ours and one.id in merged]
    if not both:
        raise ValueError(f"{file.name}: no problem was answered both by it and by the student")
    found = paired_difference([(_mean(ours[one]), _mean(merged[one])) for one in both])
    return QuantisedFigures(
        answers=figures_of(traces, verdicts, problems),
        merged=sum(_mean(merged[one]) for one in both) / len(both),
        difference=found.difference,
        ci95=found.ci95,
    )


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values)
