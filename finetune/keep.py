"""Which of a training's weights are exported: its last, its best, or the mean of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune import checkpoints, group
from finetune.checkpoints import step_of
from tracestill.recipe.finetune import FinetuneSection

# Transformers deletes older checkpoints before the newest counts: one more than is needed stays.
_TO_RESUME = 2


def checkpoints_kept(settings: FinetuneSection) -> int:
    """How many checkpoints stay on the disk while a student is trained."""
    if settings.keep == "average":
        return max(_TO_RESUME, settings.average_of)
    return _TO_RESUME + (settings.keep == "best")


def remember_best(scores: Mapping[int, float]) -> Any:
    """A callback that makes a checkpoint wherever the student was measured, and holds on to the one
    with the highest score; of equal ones to the later.

    `scores` has the scores by step, of the first process. The best step is a part of transformers'
    `TrainerState`, which each checkpoint has.
    """
    from transformers import TrainerCallback

    class RememberBest(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in (logs or {}):
                return
            score = group.agreed(scores.get(state.global_step))
            if score is None:
                return
            control.should_save = True
            if state.best_metric is None or score >= state.best_metric:
                # Transformers does not delete this step's checkpoint.
                state.best_metric, state.best_global_step = score, state.global_step

    return RememberBest()


def take_weights(trainer: Any, settings: FinetuneSection, folder: Path) -> str | None:
    """Give a trained model the weights that `finetune.keep` says, from the checkpoints in `folder`.
    Every process must call it.

    Returns:
        Which ones they are, for the user; None for the last.

    """
    if settings.keep == "best":
        return _take_best(trainer, settings, folder)
    if settings.keep == "average":
        return _take_average(trainer, settings.average_of, folder)
    return None


def _take_best(trainer: Any, settings: FinetuneSection, folder: Path) -> str:
    state = trainer.state
    best, last = state.best_global_step, state.global_step
    if not best:
        return (
            "no answer of the monitor could be judged, so the last weights are kept: leave "
            "finetune.monitor out to go by the held-out loss"
        )
    if best != last:
        _load(trainer, folder / f"checkpoint-{best}")
    what = (
        f"highest pass rate of the monitor, {state.best_metric:.1%}"
        if settings.monitor is not None
        else f"lowest held-out loss, {-state.best_metric:.4f} nats a token"
    )
    return f"kept are the weights of step {best:,} of {last:,}: the {what}"


def _take_average(trainer: Any, most: int, folder: Path) -> str:
    """Average the trained weights of the last checkpoints, as Izmailov et al. (2018, arXiv
    1803.05407) do.

    Of an adapter the factors A and B are averaged, each by itself. The mean of products would have
    a rank of up to `most` times the adapter's, and no longer be the adapter that was asked for. It
    differs from the product of means by mean((B - mean B)(A - mean A)): of second order in how far
    the checkpoints are apart, which are neighbours in one training and have the same scale and
    order of ranks. On the miniature it is under 1% of the product where the rate has fallen, and 7%
    in the first steps at a high constant rate.
    """
    import torch

    found = checkpoints.whole(folder)[-most:]
    means: dict[str, Any] = {}
    with torch.no_grad():
        for path in found:
            _load(trainer, path)
            for name, values in _trained(trainer.model):
                part = values.float().cpu() / len(found)
                means[name] = means[name] + part if name in means else part
        for name, values in _trained(trainer.model):
            values.copy_(means[name])
    steps = ", ".join(f"{step_of(path):,}" for path in found)
    fewer = f"; there were no {most}: lower finetune.checkpoint_every" if len(found) < most else ""
    return f"kept is the mean of the weights of steps {steps}{fewer}"


def _trained(model: Any) -> Iterator[tuple[str, Any]]:
    """The values of each trained parameter; of a sharded one those in this process."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            values = parameter.detach()
            yield name, values.to_local() if hasattr(values, "to_local") else values


def _load(trainer: Any, checkpoint: Path) -> None:
    """Load a checkpoint's weights as transformers does to resume: an adapter's, a model's, or
    shards.
    """
    trainer._load_from_checkpoint(str(checkpoint), trainer.model)
