"""What is written of each step, and the loss of what is not trained on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import group
from finetune.checkpoints import Identity, declare_complete
from finetune.loss import means_by_part, sums_by_part
from finetune.packing import Layout, batch, tensors
from finetune.render import IGNORED
from tracestill.records import write_atomic

if TYPE_CHECKING:
    from finetune.render import Sample

Progress = Callable[[dict[str, Any]], None]
METRICS = "metrics.jsonl"
HELDOUT = "heldout.jsonl"
# What a row of metrics.jsonl holds of what the trainer logs, beside step, epoch and seconds.
_LOGGED = (
    "loss", "loss_reasoning", "loss_answer", "learning_rate", "grad_norm", "tokens",
    "learnt_tokens", "tokens_per_second", "learnt_tokens_per_second", "mfu", "memory_gb",
)  # fmt: skip


def heldout_loss(
    model: Any, samples: Sequence[Sample], layout: Layout, pad: int, device: Any
) -> dict[str, float]:
    """The mean negative log-likelihood of a token, in nats, over all learnt tokens of `samples`,
    and over those of reasoning and answer apart. Each sample is a batch of its own, so it is the
    same whatever the packing and the size of batches.
    """
    import torch

    sums = torch.zeros(4, dtype=torch.float64)
    was = model.training
    model.eval()
    with torch.no_grad():
        for index in range(len(samples)):
            made, kinds = tensors(batch(samples, [[index]]), layout, pad, device)
            _, each = model(**made)
            sums += sums_by_part(each, kinds[made["shift_labels"] != IGNORED]).cpu()
    model.train(was)
    whole = float(sums[:2].sum() / sums[2:].sum())
    return {"heldout_loss": whole, **means_by_part(sums, "heldout_loss")}


def make_reporter(
    folder: Path,
    identity: Identity,
    progress: Progress,
    per_epoch: int,
    look: Callable[[], dict[str, Any]] | None,
    look_every: int,
    track: Callable[[dict[str, float]], None],
) -> Any:
    """A callback that writes each step's figures into `folder`, and says when a checkpoint is
    whole. `look` measures the student: before the first step, every `look_every` steps, at the end;
    `track` is told what it saw, by the names that trackers show below `eval/`.
    """
    from transformers import TrainerCallback

    begin = time.monotonic()

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def _looked(self, state: Any) -> None:
            if look is None:
                return
            seen = look()  # in every process: parts of the model may lie in each
            if state.is_world_process_zero:
                append(folder / HELDOUT, {"step": state.global_step, **seen})
                track({name.replace("heldout", "eval"): value for name, value in seen.items()})

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                self._looked(state)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if state.is_world_process_zero:
                row = {
                    "step": state.global_step,
                    "epoch": round(state.global_step / per_epoch, 4),
                    **{name: logs[name] for name in _LOGGED if name in logs},
                    "seconds": round(time.monotonic() - begin, 3),
                }
                append(folder / METRICS, row)
                progress({"done": state.global_step, "total": state.max_steps, "loss": row["loss"]})
            if state.global_step % look_every == 0 or state.global_step == state.max_steps:
                self._looked(state)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # transformers tells of a save once all its files are written: one that a kill cut
            # short has no such mark. That holds of its own: others may still write theirs.
            group.wait()
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                declare_complete(checkpoint, identity)

    return Reporter()


def append(path: Path, row: dict[str, Any]) -> None:
    """Write a row behind the others."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def trim(path: Path, step: int) -> None:
    """Forget what was written of the steps after `step`, which will be made again; of none of it
    when `step` is 0.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        if step and line.endswith(b"\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    write_atomic(path, b"".join(kept))


def tokens_per_second(rows: Sequence[Mapping[str, Any]]) -> float:
    """Over all steps of a metrics.jsonl but the first, in which kernels are still loaded."""
    rows = rows[1:] or rows
    tokens = sum(row["tokens"] for row in rows)
    seconds = sum(row["tokens"] / row["tokens_per_second"] for row in rows)
    return float(tokens / seconds) if seconds else 0.0


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that were written."""
    return [json.loads(line) for line in path.read_text().splitlines()]
