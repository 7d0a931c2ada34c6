"""The student before its training, asked by the filter's steps about traces and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    AnyTrace,
    Journal,
    OnProgress,
    Problem,
    Sampling,
    Score,
    digest,
    to_row,
)
from tracestill.records import journal as journals
from tracestill.records.content import model_fingerprint
from tracestill.records.gguf import model_folder
from tracestill.records.progress import ignore_progress
from tracestill.stages.examples import content, example_of
from tracestill.stages.finetune import template_content

if TYPE_CHECKING:
    from finetune.scoring import Scorer

# What decides how a student reads a trace, and what its weights are to it.
_READS = (
    "revision", "think", "mixed", "stop", "contract", "system_prompt", "max_length", "dtype",
    "quantize",
)  # fmt: skip


def student_content(recipe: Recipe) -> list[Any]:
    """What decides how the student takes to a trace."""
    section = recipe.finetune
    said = section.model_dump(include=set(_READS))
    return [said, model_fingerprint(section.student, section.revision), template_content(recipe)]


@dataclass(kw_only=True)
class AskedStudent:
    """The student of a recipe. Scores and answers are kept in `folder`, so that none is made twice;
    its model is loaded when it is first needed. May be pickled before that.
    """

    recipe: Recipe
    problems: Mapping[str, Problem]
    folder: Path
    progress: OnProgress = ignore_progress
    _scorer: Scorer | None = field(default=None, repr=False)
    _tokenizer: Any = None
    _known: dict[str, Score | None] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """For the filter's processes, which count tokens: without problems and what is loaded, and
        without the progress, which belongs to the first process.
        """
        loaded = dict.fromkeys(("_scorer", "_tokenizer", "_known"))
        return {**self.__dict__, **loaded, "problems": {}, "progress": ignore_progress}

    def tokens(self, traces: Sequence[AnyTrace]) -> list[int]:
        """How many tokens reasoning and answer of each trace are in its tokenizer."""
        from finetune.encoding import all_cores, encode

        tokenizer = self._loaded_tokenizer()
        texts = [text or "" for trace in traces for text in (trace.reasoning, trace.answer)]
        with all_cores():
            counts = [len(ids) for ids in encode(tokenizer, texts)]
        return [counts[at] + counts[at + 1] for at in range(0, len(counts), 2)]

    def scores(self, traces: Sequence[AnyTrace], *, local: bool) -> list[Score | None]:
        """How it takes to each trace, None where it can't learn it."""
        made = example_of(self.recipe)
        examples = [made(self.problems[trace.problem_id], trace) for trace in traces]
        student = student_content(self.recipe)
        keys = [digest(content(example), student) for example in examples]
        known = self._journaled()

        def lacks(key: str) -> bool:
            score = known.get(key)
            return key not in known or (local and score is not None and score.local is None)

        lacking = {key: one for key, one in zip(keys, examples, strict=True) if lacks(key)}
        if lacking:
            fresh = self._scored().score([*lacking.values()], self.progress, local=local)
            with Journal(self._path) as journal:
                for key, example in lacking.items():
                    score = known[key] = fresh.get(example.trace_id)
                    journal.append({"key": key, "score": None if score is None else to_row(score)})
        found = [known[key] for key in keys]
        return [  # what is known may be that of a trace with the same text
            None if score is None else replace(score, trace_id=trace.id)
            for trace, score in zip(traces, found, strict=True)
        ]

    def pass_rates(self, problems: Sequence[Problem]) -> list[float | None]:
        """How often it solves each problem before it is trained."""
        from tracestill.evaluate.evaluation import problem_rates
        from tracestill.stages.evaluate import student_before

        settings = self.recipe.filter.student
        rates = problem_rates(
            student_before(self.recipe),
            problems,
            settings.samples,
            Sampling(
                temperature=settings.temperature,
                top_p=settings.top_p,
                top_k=-1,
                max_tokens=settings.max_tokens,
                seed=self.recipe.seed,
            ),
            rules=self.recipe.filter.rules,
            folder=self.folder,
            progress=self.progress,
        )
        return [rates.get(problem.id) for problem in problems]

    @property
    def _path(self) -> Path:
        return self.folder / "scores.journal.jsonl"

    def _journaled(self) -> dict[str, Score | None]:
        """The scores that there are, by what the trace teaches and what the student is; they are
        read once, and the caller adds those that it makes.
        """
        if self._known is None:
            journals.repair(self._path)
            rows = (row for row, _ in journals.read(self._path)) if self._path.exists() else ()
            self._known = {row["key"]: row["score"] and Score(**row["score"]) for row in rows}
        return self._known

    def _scored(self) -> Scorer:
        from finetune.scoring import Scorer

        if self._scorer is None:
            section: FinetuneSection = self.recipe.finetune
            self._scorer = Scorer(section, Path(section.template))
        return self._scorer

    def _loaded_tokenizer(self) -> Any:
        from finetune.tokenizer import load_tokenizer

        if self._tokenizer is None:
            section = self.recipe.finetune
            self._tokenizer = load_tokenizer(
                model_folder(section.student), section.revision, Path(section.template),
                section.trust_remote_code,
            )  # fmt: skip
        return self._tokenizer
