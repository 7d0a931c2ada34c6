"""The metrics that a training writes, a JSON row a line, and the loss of held-out samples."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune import group
from finetune.checkpoints import Identity, declare_complete
from finetune.loss import ACCURACY, accuracy, means_by_part, sums_by_part
from finetune.packing import AttentionLayout, batch, tensors
from finetune.sample import IGNORED, Sample
from tracestill.records import OnProgress, Progress, write_atomic

METRICS = "metrics.jsonl"
HELDOUT = "heldout.jsonl"
MONITOR = "monitor.jsonl"
ON_POLICY = "on_policy_metrics.jsonl"

# What a row holds of what a trainer logs.
_LOGGED = (
    "loss", "loss_reasoning", "loss_answer", "learning_rate", "grad_norm", "entropy", "tokens",
    "learnt_tokens", "tokens_per_second", "learnt_tokens_per_second", "mfu", "memory_gb",
    "mean_tokens", "ended_share", "sampled_per_second",
)  # fmt: skip


def heldout_loss(
    model: Any, samples: Sequence[Sample], layout: AttentionLayout, pad: int, device: Any
) -> dict[str, float]:
    """The mean negative log-likelihood in nats per learnt token of `samples`: `heldout_loss`, and
    with `_reasoning` and `_answer` those of the parts; and `heldout_accuracy`, the share of learnt
    tokens that are the most probable ones. Each sample goes through the model alone, so neither
    packing nor batch size changes them.
    """
    import torch

    sums = torch.zeros(5, dtype=torch.float64)
    was = model.training
    model.eval()
    with torch.no_grad():
        for index in range(len(samples)):
            made, kinds = tensors(batch(samples, [[index]]), layout, pad, device)
            _, each, right = model(**made)
            sums += sums_by_part(each, right, kinds[made["shift_labels"] != IGNORED]).cpu()
    model.train(was)
    whole = float(sums[:2].sum() / sums[2:4].sum())
    parts = means_by_part(sums, "heldout_loss")
    return {"heldout_loss": whole, **parts, "heldout_accuracy": accuracy(sums)}


def tracked(heldout: Mapping[str, float]) -> dict[str, float]:
    """The figures of `heldout_loss` by the names that trackers show below `eval/`."""
    names = {"heldout_accuracy": f"eval_{ACCURACY}"}
    return {names.get(k, k.replace("heldout", "eval")): value for k, value in heldout.items()}


def make_reporter(
    path: Path,
    identity: Identity,
    progress: OnProgress,
    place: Callable[[int], Mapping[str, float]] | None = None,
    add_to: Callable[[Path], None] | None = None,
) -> Any:
    """A callback that appends each step's figures to `path`, reports progress, and declares
    checkpoints complete, to which `add_to` may add files. Rows have what `place` says of
    their step.
    """
    from transformers import TrainerCallback

    begin = time.monotonic()

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in (logs or {}) or not state.is_world_process_zero:
                return
            step = state.global_step
            where = place(step) if place is not None else {}
            logged = {name: logs[name] for name in _LOGGED if name in logs}
            if ACCURACY in logs:
                logged["accuracy"] = logs[ACCURACY]
            seconds = round(time.monotonic() - begin, 3)
            append(path, {"step": step, **where, **logged, "seconds": seconds})
            progress(
                Progress(
                    done=step, total=state.max_steps, loss=logs["loss"],
                    accuracy=logs.get(ACCURACY),
                )
            )  # fmt: skip

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # transformers calls this once this process has written its files; others may not yet.
            group.wait()
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                if add_to is not None:
                    add_to(checkpoint)
                declare_complete(checkpoint, identity)

    return Reporter()


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def trim(path: Path, step: int) -> None:
    """Remove the rows of steps after `step`, which will be made again, and torn ones; with `step` 0
    all rows.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        if step and line.endswith(b"\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    write_atomic(path, b"".join(kept))


def sync(folder: Path) -> None:
    """Make the metrics in a folder survive a loss of power."""
    for name in (METRICS, HELDOUT, MONITOR, ON_POLICY):
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())


def tokens_per_second(rows: Sequence[Mapping[str, Any]]) -> float:
    """The speed over all rows but the first, in which kernels are loaded; 0 without rows."""
    rows = rows[1:] or rows
    tokens = sum(row["tokens"] for row in rows)
    seconds = sum(row["tokens"] / row["tokens_per_second"] for row in rows)
    return float(tokens / seconds) if seconds else 0.0


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
