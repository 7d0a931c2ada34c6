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
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.planner import fake_gpu
from finetune.planner.storages import storage_counter
from tracestill.recipe.finetune import FinetuneSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """Bytes: the `peak` of a step, reached `at` an operation; those `resting` between steps
    (weights, adapter, optimiser); the gradients; the peaks of the last micro-batch's `forward`
    pass, loss included, and of its `backward` pass.
    """

    peak: int
    at: str
    resting: int
    gradients: int
    forward: int
    backward: int


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

    lengths = [length for row in rows for length in row]
    model, packed = _model(config, settings, bfloat16, max(lengths))
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
        forward = backward = 0
        for _ in range(micro_batches):
            with offload():
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    made = _batch(rows, packed)
                    with storages.phase() as passing:
                        loss, each, right = model(**made)
                    forward = passing.peak
                with storages.phase() as passing:
                    loss.backward()
                backward = passing.peak
            del loss, each, right, made
        gradients = storages.live - resting
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return Traced(
        peak=storages.peak,
        at=storages.at,
        resting=resting,
        gradients=gradients,
        forward=forward,
        backward=backward,
    )


def _batch(rows: Sequence[Sequence[int]], packed: bool) -> dict[str, Any]:
    """The model's arguments for a micro-batch, as `finetune.packing.tensors` lays it out."""
    import torch

    lengths = [length for row in rows for length in row]
    shape = (1, sum(lengths)) if packed else (len(rows), max(sum(row) for row in rows))
    ids = torch.zeros(shape, dtype=torch.long)
    made: dict[str, Any] = {"input_ids": ids, "shift_labels": torch.zeros_like(ids)}
    if packed:
        return {**made, "position_ids": torch.zeros_like(ids), "segments": lengths}
    return made


def _model(
    config: Mapping[str, Any], settings: FinetuneSection, bfloat16: bool, longest: int
) -> tuple[Any, bool]:
    """The student on the meta device, with its adapter, and whether its attention can be replaced
    by the packed one.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from finetune import attention
    from finetune.student import add_adapter

    attention.register()
    known = as_config(config)
    packed = attention.supports(known, longest)
    frozen = torch.bfloat16 if bfloat16 else torch.float32
    with torch.device("meta"), no_init_weights():
        model = AutoModelForCausalLM.from_config(
            known,
            dtype=torch.float32 if settings.method == "full" else frozen,
            attn_implementation=attention.PACKED if packed else "sdpa",
        )
        model.tie_weights()  # left out without initialisation
        if settings.quantize == "nf4":
            fake_gpu.quantise(model, frozen)
        return add_adapter(model, settings), packed


def as_config(config: Mapping[str, Any]) -> Any:
    """A config.json as transformers' own config.

    Raises:
        ValueError: transformers does not know the architecture.

    """
    from transformers import AutoConfig

    values = dict(config)
    try:
        known = AutoConfig.for_model(values.pop("model_type"), **values)
    except (KeyError, ValueError) as error:
        raise ValueError(f"finetune.student: transformers knows no such model: {error}") from error
    known.use_cache = False
    return known


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


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what libraries log: that kernels are missing is no news where nothing is trained."""
    loggers = [logging.getLogger(name) for name in ("transformers", "torch", "bitsandbytes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def few_layers(config: Mapping[str, Any]) -> tuple[int, int]:
    """Two small numbers of layers, of which each kind has its share: a model's memory and time are
    linear in its layers. Twice the same number for a model of few layers.
    """
    period = _period(config)
    layers = int(config["num_hidden_layers"])
    return (period, 2 * period) if layers > 2 * period else (layers, layers)


def _period(config: Mapping[str, Any]) -> int:
    """After how many layers their kinds repeat."""
    text = as_config(config).get_text_config()
    layers = int(text.num_hidden_layers)
    kinds = list(getattr(text, "layer_types", None) or ["one"] * layers)
    for period in range(1, layers + 1):
        if all(kinds[place] == kinds[place % period] for place in range(layers)):
            return period
    return layers


def shortened(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The config of the same model with its first layers only."""
    whole = config["num_hidden_layers"]
    cut = {
        key: value[:layers] if isinstance(value, list) and len(value) == whole else value
        for key, value in config.items()
    }
    return {**cut, "num_hidden_layers": layers}
