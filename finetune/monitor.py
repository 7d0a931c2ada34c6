"""Short generations during the training: does the student close its thinking, end, answer right.

It is asked problems that `finetune.holdout` keeps out of its training: new to it, of the kind that
it learns, with answers that a verifier can judge. The recipe's `problems.heldout` stay unseen until
the evaluation: who tunes or stops a training by them has no honest figure left. So this pass rate
is that of problems which the teacher solved, mostly above the evaluation's, and with 20 of them a
curve to look at, no more: its 95% interval reaches some 20 points to either side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.generation import generate_greedily
from finetune.metrics import append
from finetune.sample import Sample
from finetune.tokenizer import pad_id
from tracestill.recipe.contract import Contract
from tracestill.recipe.finetune import FinetuneSection

Grade = Callable[[str, str], bool | None]
"""Whether a completion of the problem of a trace is right, by the trace's id and the completion's
text from the opening tag on; None if it can't be verified. It must be picklable, as every process
of a training is handed it."""

# The names of figures in trackers, which show them below `eval/`.
_TRACKED = {
    "closed": "eval_think_closed", "ended": "eval_ended", "tokens": "eval_answer_tokens",
    "passed": "eval_pass_rate",
}  # fmt: skip


def choose(heldout: Sequence[Sample], settings: FinetuneSection) -> list[Sample]:
    """A sample of each held-out problem that is asked.

    Raises:
        ValueError: no problem is held out.

    """
    assert settings.monitor is not None
    by_prompt: dict[bytes, Sample] = {}
    for sample in heldout:
        by_prompt.setdefault(sample.input_ids[: sample.prompt].tobytes(), sample)
    if not by_prompt:
        raise ValueError(
            f"finetune.monitor asks held-out problems, but with finetune.holdout at "
            f"{settings.holdout:g} there is none among these: raise holdout, or leave monitor out"
        )
    return list(by_prompt.values())[: settings.monitor.problems]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMonitor:
    """Lets a student answer the prompts of `asked` and writes what came of it to `path`."""

    asked: Sequence[Sample]
    tokenizer: Any
    contract: Contract
    endings: Sequence[int]
    grade: Grade | None
    max_tokens: int
    at_once: int
    """Tokens of prompts and completions in memory, at the most."""
    path: Path

    def look(self, trainer: Any, state: Any) -> float | None:
        """Append a row for the current step, and tell the trackers. Every process generates, since
        each may hold a part of the model; the first one grades.

        Returns:
            In the first process the share that passed; None where none could be judged.

        """
        begin = time.monotonic()
        with trainer.accelerator.autocast():
            made = generate_greedily(
                trainer.model, self.asked, self.endings,
                pad_id(self.tokenizer, self.endings[0]), max_tokens=self.max_tokens,
                at_once=self.at_once,
            )  # fmt: skip
        if not state.is_world_process_zero:
            return None
        seen = self.measure(made)
        seconds = round(time.monotonic() - begin, 3)
        append(self.path, {"step": state.global_step, **seen, "seconds": seconds})
        trainer.log({_TRACKED[k]: v for k, v in seen.items() if k in _TRACKED and v is not None})
        return seen["passed"]

    def measure(self, made: Sequence[Sequence[int]]) -> dict[str, float | None]:
        """The figures of one completion for each problem.

        Returns:
            The number of `problems`; the shares whose thinking is `closed` and that `ended` by
            themselves; the mean `tokens` of a completion; how many could be `judged`, and the share
            of those that `passed`, None without any.

        """
        closes = self.contract.closes.strip()
        closed = ended = 0
        verdicts: list[bool] = []
        for sample, ids in zip(self.asked, made, strict=True):
            stopped = bool(ids) and ids[-1] in self.endings
            ended += stopped
            written = ids[:-1] if stopped else ids
            text = self.tokenizer.decode(written, skip_special_tokens=False)
            thinks = sample.answer > sample.prompt
            closed += closes in text or not thinks
            if self.grade is not None:
                prefill = self.contract.prefill if thinks else ""
                verdict = self.grade(sample.trace_id, prefill + text)
                verdicts += [] if verdict is None else [verdict]
        problems = len(self.asked)
        return {
            "problems": problems,
            "closed": round(closed / problems, 4),
            "ended": round(ended / problems, 4),
            "tokens": round(sum(map(len, made)) / problems, 1),
            "judged": len(verdicts),
            "passed": round(sum(verdicts) / len(verdicts), 4) if verdicts else None,
        }
