"""Look, on the user's own model and attention, whether packing keeps samples apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.packing import Layout, batch, tensors
from finetune.render import Sample

if TYPE_CHECKING:
    from finetune.packing import Row

_SAMPLES, _TOKENS = 3, 128


def check_packing(model: Any, samples: Sequence[Sample], layout: Layout, pad: int) -> float:
    """Compare the losses of tokens in a packed row with those of the same samples alone.

    Returns:
        The mean difference, as a part of what joining the samples changes: rounding only, some
        hundredths at the most.

    Raises:
        ValueError: samples of one row see each other.

    """
    some = [_beginning(sample) for sample in samples[:_SAMPLES]]
    if len(some) < 2:
        return 0.0
    row: Row = list(range(len(some)))
    alone = np.concatenate([_losses(model, some, [index], layout, pad) for index in row])
    packed = _losses(model, some, row, layout, pad)
    # All of it as one sample: what the losses would be without any care.
    ids = np.concatenate([sample.input_ids for sample in some])
    whole = Sample(trace_id="", input_ids=ids, prompt=1, answer=len(ids))
    joined = _losses(model, [whole], [0], layout, pad)
    begins = np.cumsum([0, *(len(sample.input_ids) for sample in some)])
    kept = np.ones(len(joined), dtype=bool)
    kept[begins[1:-1] - 1] = False  # the first token of a sample is not learnt
    if len(joined) != len(alone):
        joined = joined[kept]
    leak = float(np.abs(joined - alone).mean())
    difference = float(np.abs(packed - alone).mean())
    part = difference / leak if leak > 0 else 0.0
    if part > 0.1 and difference > 1e-4:
        raise ValueError(
            f"finetune.packing: with {model.config._attn_implementation} attention, samples of one "
            "row see each other in this model; set finetune.attention to sdpa, or packing to false"
        )
    return part


def at_start(check: Callable[[], object]) -> Any:
    """A callback that checks the model as it is trained: on its device, spread over processes."""
    from transformers import TrainerCallback

    class AtStart(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            check()

    return AtStart()


def _beginning(sample: Sample) -> Sample:
    ids = sample.input_ids[:_TOKENS]
    return Sample(trace_id=sample.trace_id, input_ids=ids, prompt=1, answer=len(ids))


def _losses(model: Any, samples: Sequence[Sample], row: Row, layout: Layout, pad: int) -> Any:
    import torch

    device = next(model.parameters()).device
    made, _ = tensors(batch(samples, [row]), layout, pad, device)
    was = model.training
    model.eval()
    with torch.no_grad():
        _, each = model(**made)
    model.train(was)
    return each.cpu().double().numpy()
