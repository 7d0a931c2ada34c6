"""Check at the start of a training, on the student itself, that packing keeps samples apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.packing import AttentionLayout, PackedRow, batch, tensors
from finetune.sample import Sample

_SAMPLES, _TOKENS = 3, 128


def check_packing(
    model: Any, samples: Sequence[Sample], layout: AttentionLayout, pad: int
) -> float:
    """Compare the losses of packed samples with those of the same samples alone.

    Returns:
        Their mean difference relative to that of samples joined into one: rounding, at most some
        hundredths.

    Raises:
        ValueError: the samples of a row attend to each other.

    """
    some = [_beginning(sample) for sample in samples[:_SAMPLES]]
    if len(some) < 2:
        return 0.0
    _check_layers(model)
    row = list(range(len(some)))
    alone = np.concatenate([_losses(model, some, [index], layout, pad) for index in row])
    packed = _losses(model, some, row, layout, pad)
    # As one sample: what the losses are if nothing keeps them apart.
    ids = np.concatenate([sample.input_ids for sample in some])
    whole = Sample(trace_id="", input_ids=ids, prompt=1, answer=len(ids))
    joined = _losses(model, [whole], [0], layout, pad)
    starts = np.cumsum([len(sample.input_ids) for sample in some[:-1]])
    joined = np.delete(joined, starts - 1)  # the first token of a sample is not learnt
    leak = float(np.abs(joined - alone).mean())
    difference = float(np.abs(packed - alone).mean())
    part = difference / leak if leak > 0 else 0.0
    if part > 0.1 and difference > 1e-4:
        kind = model.config._attn_implementation
        other = "" if kind in ("sdpa", "eager") else "finetune.attention to sdpa, or "
        raise ValueError(
            f"finetune.packing: with {kind} attention, samples of one row see each other in this "
            f"model; set {other}finetune.packing to false"
        )
    return part


def _check_layers(model: Any) -> None:
    """Refuse layers whose state or convolution runs along the row. How much of a sample they carry
    into the next may be too little to measure in a model that is not trained yet.
    """
    config = model.config.get_text_config()
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or ())
    running = [kind for kind in kinds if "attention" not in kind or "linear" in kind]
    if running:
        raise ValueError(
            f"finetune.packing: {config.model_type} has layers ({', '.join(running)}) that carry "
            "what came before along the row, into the next sample, whatever the attention: set "
            "finetune.packing to false"
        )


def _beginning(sample: Sample) -> Sample:
    ids = sample.input_ids[:_TOKENS]
    return Sample(trace_id=sample.trace_id, input_ids=ids, prompt=1, answer=len(ids))


def _losses(
    model: Any, samples: Sequence[Sample], row: PackedRow, layout: AttentionLayout, pad: int
) -> Any:
    import torch

    device = next(model.parameters()).device
    made, _ = tensors(batch(samples, [row]), layout, pad, device)
    was = model.training
    model.eval()
    with torch.no_grad():
        _, each, _ = model(**made)
    model.train(was)
    return each.cpu().double().numpy()
