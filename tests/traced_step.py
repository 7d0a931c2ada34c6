"""The memory that a real training step takes, without its device and data.

The step is this repository's own: model, adapter, packed attention, chunked loss, checkpointing,
AdamW. It runs on fake tensors, which have shapes but no content, while every storage is counted as
CUDA's caching allocator counts it, in blocks of 512 bytes. What a kernel allocates internally is
invisible from Python, and added where it is large: flash attention, log-sum-exp, and dequantised
4-bit weights. Not counted: the CUDA context, the allocator's slack, cuBLAS's workspaces. The tests
of the planner and `benchmarks/finetune_memory.py` compare it with the planner's formulas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fake_gpu
from storages import storage_counter

from tracestill.recipe.finetune import FinetuneSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """Bytes: the `peak` of a step, reached `at` an operation; those `resting` between steps
    (weights, adapter, optimiser); those kept after a `forward` pass.
    """

    peak: int
    at: str
    resting: int
    forward: int


def trace_step(
    config: Mapping[str, Any],
    settings: FinetuneSection,
    rows: Sequence[Sequence[int]],
    *,
    prompt: int = 0,
    bfloat16: bool = True,
    micro_batches: int = 2,
) -> Traced:
    """The peak of an optimiser step of `micro_batches` equal micro-batches.

    Args:
        config: of the student, as in its config.json.
        settings: no `auto` that memory depends on.
        rows: of one micro-batch, each as the lengths of its samples in tokens.
        prompt: masked tokens of each sample.
        bfloat16: whether the student computes in bfloat16, as on a GPU.
        micro_batches: of a step; from the second on there are gradients.

    Raises:
        ValueError: transformers does not know the architecture, or bitsandbytes is missing.

    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from finetune.loss import add_token_loss

    model = _model(config, settings, bfloat16)
    lengths = [length for row in rows for length in row]
    learnt = sum(max(0, length - max(1, prompt)) for length in lengths)
    with FakeTensorMode(), storage_counter()(learnt) as storages, fake_gpu.kernels():
        _fill(model)
        if settings.gradient_checkpointing is True:
            model.gradient_checkpointing_enable()
            if settings.method == "lora":
                model.enable_input_require_grads()  # as trl does
        add_token_loss(model.get_base_model() if settings.method == "lora" else model)
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        _begin(optimizer, trained)
        resting = storages.live
        offload = fake_gpu.offloading if settings.activation_offload else contextlib.nullcontext
        forward = 0
        for _ in range(micro_batches):
            ids = torch.zeros(1, sum(lengths), dtype=torch.long)
            positions, labels = torch.zeros_like(ids), torch.zeros_like(ids)
            with offload():
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    loss, each = model(
                        input_ids=ids,
                        position_ids=positions,
                        shift_labels=labels,
                        segments=lengths,
                    )
                forward = max(forward, storages.live)
                loss.backward()
            del loss, each, ids, positions, labels
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return Traced(peak=storages.peak, at=storages.at, resting=resting, forward=forward)


def _model(config: Mapping[str, Any], settings: FinetuneSection, bfloat16: bool) -> Any:
    """The student on the meta device, with its adapter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from finetune import attention
    from finetune.student import add_adapter

    attention.register()
    values = dict(config)
    try:
        known = AutoConfig.for_model(values.pop("model_type"), **values)
    except (KeyError, ValueError) as error:
        raise ValueError(f"finetune.student: transformers knows no such model: {error}") from error
    known.use_cache = False
    frozen = torch.bfloat16 if bfloat16 else torch.float32
    with torch.device("meta"), no_init_weights():
        model = AutoModelForCausalLM.from_config(
            known,
            dtype=torch.float32 if settings.method == "full" else frozen,
            attn_implementation=attention.PACKED,
        )
        model.tie_weights()  # left out without initialisation
        if settings.quantize == "nf4":
            fake_gpu.quantise(model, frozen)
        return add_adapter(model, settings)


def _fill(model: Any) -> None:
    """Give each parameter and buffer a counted storage; tied ones share it."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for place in (module._parameters, module._buffers):
            for name, old in list(place.items()):
                if old is None:
                    continue
                if id(old) not in made:
                    made[id(old)] = _counted(old)
                place[name] = made[id(old)]
        if state := getattr(module, "quant_state", None):
            for owner, name in ((state, "absmax"), (state, "code"), (state, "offset"),
                                (state.state2, "absmax"), (state.state2, "code")):  # fmt: skip
                setattr(owner, name, _counted(getattr(owner, name)))


def _counted(old: Any) -> Any:
    import torch

    new = torch.empty(old.shape, dtype=old.dtype)
    if not isinstance(old, torch.nn.Parameter):
        return new
    if type(old) is torch.nn.Parameter:
        return torch.nn.Parameter(new, requires_grad=old.requires_grad)
    made = torch.nn.Parameter(new, requires_grad=False)
    made.quant_state = old.quant_state
    made.bnb_quantized = True
    return made


def _begin(optimizer: Any, trained: Sequence[Any]) -> None:
    """Adam's two moments, as from the second step on."""
    import torch

    for parameter in trained:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
