"""`epochs: auto`: train until what is learnt is saturated, then let the learning rate fall.

At equal numbers of updates many epochs of few samples teach more than one epoch of many, and the
training token accuracy says when there is no more to gain (arXiv 2602.11149). As the end is not
known beforehand, the rate is constant after its warm-up and falls to zero over one last epoch:
warm-up, stable, decay (Hägele et al., 2024, arXiv 2405.18392).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune import group
from finetune.loss import ACCURACY
from tracestill.recipe.finetune import FinetuneSection

# An epoch is flat if accuracy rose above its best by less than this, and near 100%, where a small
# rise is still learning, by less than this share of the tokens that were still wrong. On 50 traces
# of the miniature the wrong ones became fewer by 31 to 43% an epoch up to 97%, then by 5% at most,
# with dips in between: so not above the epoch before, which would take each dip's end for a rise.
_RISE, _SHARE = 0.005, 0.05
# ... and if the held-out loss did not fall below its best by more than this share of it.
_FALL = 0.005
# So many flat epochs in a row end the stable part: accuracy can dip in the middle of a training and
# rise again (arXiv 2510.06101).
PATIENCE = 2
_STATE = "epochs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The mean token accuracy of an epoch's samples, each before it was learnt from, and the
    held-out loss at its end in nats per token, None without held-out samples.
    """

    accuracy: float
    heldout_loss: float | None


@dataclass(slots=True, kw_only=True)
class AutoEpochs:
    """The epochs that a training has made, and what follows from them.

    It takes at most `most` epochs of `each` steps, the first `warmup` steps of the first with a
    rising rate. It is written to each checkpoint, so that a resumed training decides the same.
    """

    each: int
    most: int
    warmup: int
    made: list[Epoch] = field(default_factory=list)
    right: float = 0.0
    learnt: float = 0.0
    """Of the epoch so far: learnt tokens, and those of them that were the most probable ones."""

    def count(self, accuracy: float, learnt: float) -> None:
        """Count a step, from which `learnt` tokens were learnt."""
        self.right += accuracy * learnt
        self.learnt += learnt

    def end_epoch(self, heldout_loss: float | None) -> None:
        """Close an epoch."""
        self.made.append(Epoch(accuracy=self.right / self.learnt, heldout_loss=heldout_loss))
        self.right = self.learnt = 0.0

    @property
    def saturated(self) -> int | None:
        """The number of epochs after which there is no more to gain; None as long as there is."""
        flat = 0
        for number in range(2, len(self.made) + 1):
            flat = flat + 1 if self._is_flat(number) else 0
            if flat == PATIENCE:
                return number
        return None

    def _is_flat(self, number: int) -> bool:
        """Whether epoch `number` (from 1) brought next to nothing."""
        *before, last = self.made[:number]
        best = max(one.accuracy for one in before)
        if best < 1 and last.accuracy - best >= min(_RISE, _SHARE * (1 - best)):
            return False
        losses = [one.heldout_loss for one in before if one.heldout_loss is not None]
        if last.heldout_loss is None or not losses:
            return True
        return last.heldout_loss >= min(losses) * (1 - _FALL)

    @property
    def stable(self) -> int:
        """The steps before the rate begins to fall, so far as it is known: at most."""
        return self.each * min(self.saturated or self.most, self.most - 1)

    @property
    def total(self) -> int:
        """The steps of the training, so far as it is known: at most."""
        return self.stable + self.each

    @property
    def is_settled(self) -> bool:
        """Whether the end is known."""
        return self.saturated is not None or len(self.made) >= self.most - 1

    def factor(self, done: int) -> float:
        """What the learning rate is multiplied by after `done` steps."""
        rising = min(1.0, (done + 1) / (self.warmup + 1))
        return min(rising, max(0.0, (self.total - done) / self.each))

    def why(self) -> str:
        """Why a finished training ended where it did, for the user."""
        made, last = len(self.made), self.made[-1].accuracy
        if self.saturated is not None and self.saturated < self.most:
            return (
                f"the token accuracy of training was saturated at "
                f"{self.made[self.saturated - 1].accuracy:.1%} after {self.saturated} epochs; "
                f"with the last, in which the rate fell to zero, {made} were made"
            )
        return (
            f"the most epochs, {self.most}, were made, and the token accuracy of training, "
            f"{last:.1%}, was not saturated yet: raise finetune.most_epochs"
        )

    def write(self, checkpoint: Path) -> None:
        """Write to a checkpoint, before it is declared complete."""
        (checkpoint / _STATE).write_text(json.dumps(asdict(self)))


def auto_epochs(settings: FinetuneSection, each: int, checkpoint: Path | None) -> AutoEpochs | None:
    """What decides the number of epochs of `each` steps, as it was at a checkpoint; None where the
    recipe says the number.
    """
    if settings.epochs != "auto":
        return None
    made = AutoEpochs(
        each=each, most=settings.most_epochs, warmup=math.ceil(each * settings.warmup)
    )
    if checkpoint is not None:
        said = json.loads((checkpoint / _STATE).read_text())
        made.made = [Epoch(**one) for one in said["made"]]
        made.right, made.learnt = said["right"], said["learnt"]
    return made


def least_epochs(most: int) -> int:
    """The fewest epochs that a training with `epochs: auto` and at most `most` makes."""
    return min(most, 1 + PATIENCE + 1)


def follow(epochs: AutoEpochs, heldout: Mapping[int, float]) -> Any:
    """A callback that counts steps and epochs, and ends the training when they say so. `heldout`
    has the held-out losses by step, of this process.
    """
    from transformers import TrainerCallback

    class Follow(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in (logs or {}):
                return
            epochs.count(logs[ACCURACY], logs["learnt_tokens"])
            if state.global_step % epochs.each == 0:
                epochs.end_epoch(group.agreed(heldout.get(state.global_step)))
                state.max_steps = epochs.total

    return Follow()
