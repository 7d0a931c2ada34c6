"""How well traces suit a student before it learns them, from one pass of the student over them.

The rank-surprisal ratio (Yang et al. 2026, arXiv:2601.14249) is the mean rank of a trace's tokens
among all that the student might have written there, ranks above 100 counted as 100, over their mean
surprisal in nats. It is low where a trace tells the student something new in words that come to
its mind, and the lower the better.

Local naturalness (Just et al. 2025, arXiv:2510.03988) is the log-probability of each step of a
trace given no more than a few steps before it: the mean over the steps of the mean over their
tokens. Here a step ends with a line or a sentence, and two steps are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.encoding import decode
from finetune.findings import UnlearnableError
from finetune.loss import CHUNK_BYTES, add_token_loss, logits_divisor
from finetune.packing import AttentionLayout, batch, pack, tensors
from finetune.packing_check import check_packing
from finetune.prepare import prepare
from finetune.sample import IGNORED, Example, Sample
from finetune.sizing import size_up
from finetune.student import load_student
from finetune.tokenizer import pad_id
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records import OnProgress, Progress, Score
from tracestill.records.gguf import model_folder

_MOST = 100  # the rank that higher ones count as
_GIVEN = 2  # steps
_ROW = 8_192  # tokens that go through the student at once, where no sample is longer
_ENDS = (".", "?", "!", "。", "？", "！")


@dataclass(slots=True)
class Scorer:
    """Scores traces for a student, which is loaded when it is first asked. `settings` are those of
    its training, `template` is what it learns.
    """

    settings: FinetuneSection
    template: Path
    _loaded: Any = None
    _layout: AttentionLayout = "rows"

    def score(
        self, examples: Sequence[Example], progress: OnProgress, *, local: bool = False
    ) -> dict[str, Score]:
        """The scores of examples by their trace's id; with `local` their naturalness too. Those
        that the student can't learn, or that are longer than `max_length`, have none.

        Raises:
            ValueError: the student can't be loaded, template and settings do not fit it, or its
                samples see each other in a row.

        """
        student = model_folder(self.settings.student)
        changes = {"unlearnable": "drop", "overlong": "drop"}  # these are nothing to stop for
        settings = self.settings.model_copy(update=changes)
        if not examples:
            return {}
        try:
            prepared = prepare(examples, settings, student, self.template)
        except UnlearnableError:
            return {}
        samples, tokenizer = prepared.rendered.samples, prepared.tokenizer
        if not samples:
            return {}
        if self._loaded is None:
            lengths = [len(sample.input_ids) for sample in samples]
            sized = size_up(settings, prepared.config, lengths).settings
            loaded = load_student(student, sized, settings.max_length)
            self._loaded, self._layout = loaded.model.eval(), loaded.layout
            add_token_loss(self._loaded)
            if settings.packing:
                check_packing(self._loaded, samples, self._layout, pad_id(tokenizer))
        found: dict[str, Score] = {}
        for sample, tokens in self._tokens(samples, tokenizer):
            found[sample.trace_id] = Score(
                trace_id=sample.trace_id,
                tokens=sample.learnt,
                rank=float(tokens.ranks.mean()),
                surprisal=float(tokens.surprisals.mean()),
                local=None,
            )
            progress(Progress(done=len(found), total=len(samples)))
        if local:
            for trace, value in self._naturalness(samples, tokenizer).items():
                found[trace] = replace(found[trace], local=value)
        return found

    def _naturalness(self, samples: Sequence[Sample], tokenizer: Any) -> dict[str, float]:
        pieces = [piece for sample in samples for piece in steps(sample, tokenizer)]
        values: dict[str, list[float]] = {}
        for piece, tokens in self._tokens(pieces, tokenizer):
            values.setdefault(piece.trace_id, []).append(-float(tokens.surprisals.mean()))
        return {trace: float(np.mean(means)) for trace, means in values.items()}

    def _tokens(
        self, samples: Sequence[Sample], tokenizer: Any
    ) -> Iterator[tuple[Sample, LearntTokens]]:
        """Each sample with what its learnt tokens are to the student, in the order of the packed
        rows in which they go through it.
        """
        lengths = [len(sample.input_ids) for sample in samples]
        rows = [[place] for place in range(len(samples))]
        if self.settings.packing:
            rows = pack(lengths, max(_ROW, *lengths))
        for row in rows:
            made = self._row([samples[place] for place in row], pad_id(tokenizer))
            begin = 0
            for place in row:
                end = begin + len(samples[place].input_ids) - max(1, samples[place].prompt)
                yield (
                    samples[place],
                    LearntTokens(
                        ranks=made.ranks[begin:end], surprisals=made.surprisals[begin:end]
                    ),
                )
                begin = end

    def _row(self, samples: Sequence[Sample], pad: int) -> LearntTokens:
        import torch

        model = self._loaded
        device = next(model.parameters()).device
        made, _ = tensors(batch(samples, [list(range(len(samples)))]), self._layout, pad, device)
        goals = made.pop("shift_labels")
        learnt = goals != IGNORED
        with torch.inference_mode():
            states = model.base_model(**made, use_cache=False).last_hidden_state[learnt]
            return learnt_tokens(model, states, goals[learnt])


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntTokens:
    """What tokens are to a student: the rank of each among all of the vocabulary, from 1 to 100,
    and its surprisal in nats. Arrays of shape (tokens,).
    """

    ranks: npt.NDArray[np.int64]
    surprisals: npt.NDArray[np.float64]


def learnt_tokens(model: Any, states: Any, goals: Any) -> LearntTokens:
    """The ranks and surprisals of the tokens `goals` after the model's last hidden `states`, of
    shape (tokens, width), in chunks, so that the logits of a long trace need not fit into memory.
    """
    import torch

    head, divisor = model.get_output_embeddings(), logits_divisor(model)
    step = max(1, CHUNK_BYTES // (4 * head.weight.shape[0]))
    ranks, surprisals = [], []
    for begin in range(0, len(goals), step):
        part = states[begin : begin + step]
        logits = head(part if divisor == 1.0 else part / divisor).float()
        own = logits.gather(1, goals[begin : begin + step].unsqueeze(1))
        ranks.append((logits > own).sum(dim=1).add_(1).clamp_(max=_MOST))
        surprisals.append((logits.logsumexp(dim=1, keepdim=True) - own).squeeze(1))
    return LearntTokens(
        ranks=torch.cat(ranks).cpu().numpy(),
        surprisals=torch.cat(surprisals).double().cpu().numpy(),
    )


def steps(sample: Sample, tokenizer: Any) -> list[Sample]:
    """Each step of a sample's completion as a sample by itself, after the two steps before it."""
    ids = sample.input_ids[sample.prompt :]
    texts = decode(tokenizer, [[int(one)] for one in ids])
    ends = [
        place + 1
        for place, text in enumerate(texts)
        if "\n" in text or text.rstrip().endswith(_ENDS)
    ]
    bounds = [0, *ends] if ends and ends[-1] == len(ids) else [0, *ends, len(ids)]
    made = []
    for number in range(len(bounds) - 1):
        first = bounds[max(0, number - _GIVEN)]
        piece = ids[first : bounds[number + 1]]
        given = bounds[number] - first
        if len(piece) > max(1, given):  # the very first token has nothing before it
            made.append(
                Sample(trace_id=sample.trace_id, input_ids=piece, prompt=given, answer=len(piece))
            )
    return made
