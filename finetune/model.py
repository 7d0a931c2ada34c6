"""The student as it is trained: its weights, their dtype, its attention, its adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import attention
from finetune.config import FinetuneSection

if TYPE_CHECKING:
    from finetune.packing import Layout

_NAMES = {"flash": "flash_attention_2", "packed": attention.PACKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A model and how rows are laid out for its attention."""

    model: Any
    layout: Layout


def load_student(path: str, settings: FinetuneSection, longest: int) -> Student:
    """The base model, without its adapter, on the device that it is trained on.

    `longest` is the longest sample's length in tokens.

    Raises:
        ValueError: there is no such model, or the settings do not fit it or this machine.

    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations.liger import apply_liger_kernel

    attention.register()
    try:
        config = AutoConfig.from_pretrained(
            path, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"finetune.student: {path} can't be loaded: {error}") from error
    kind = _attention(settings, config, longest)
    options: dict[str, Any] = {}
    if settings.quantize == "nf4":
        options["quantization_config"] = _nf4(_compute_dtype(settings))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
            # Said out loud: transformers and trl differ in what they load where nothing is said.
            dtype=_weights_dtype(settings),
            attn_implementation=_NAMES.get(kind, kind),
            **options,
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"finetune.student: {path} can't be loaded: {error}") from error
    if settings.quantize == "nf4":
        _keep_unpacked(model)
    if _liger(settings):
        # Of its kernels those of the layers; the loss is this package's own.
        apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})
    model.config.use_cache = False
    # One that is to be shared goes to the GPUs share by share: whole, it may fit none of them.
    if torch.cuda.is_available() and settings.quantize != "nf4" and not settings.launch.sharded:
        model = model.to("cuda")
    layout: Layout = "packed" if kind == "packed" else "flash" if kind == "flash" else "rows"
    return Student(model=model, layout=layout)


def add_adapter(model: Any, settings: FinetuneSection) -> Any:
    """The model with an adapter in float32, all else frozen; with `method: full` itself.

    Raises:
        ValueError: the settings name no layer of the model.

    """
    if settings.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    lora = settings.lora
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise ValueError(f"finetune.lora: {error}") from error
    tables = (model.get_output_embeddings(), model.get_input_embeddings())
    if any(hasattr(table, "lora_A") for table in tables):
        # The loss reads the output layer's own weights, and vLLM takes adapters of neither.
        raise ValueError(
            "finetune.lora.targets: embeddings and the output layer can't have adapters here; name "
            "layers in between, such as q_proj and down_proj, or all-linear"
        )
    return adapted


@contextlib.contextmanager
def keeping_float32(model: Any) -> Iterator[None]:
    """What is trained is afterwards as it was. trl's trainers, when they are made, round adapters
    of quantised models to bfloat16, in which three of four of Adam's small steps are lost.
    """
    trained = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.data = trained[name]


def _weights_dtype(settings: FinetuneSection) -> Any:
    """Weights that are trained are float32, as an optimiser's small steps need it."""
    import torch

    return torch.float32 if settings.method == "full" else _compute_dtype(settings)


def _compute_dtype(settings: FinetuneSection) -> Any:
    import torch

    auto = "bfloat16" if torch.cuda.is_available() else "float32"
    return getattr(torch, auto if settings.dtype == "auto" else settings.dtype)


def in_bfloat16(settings: FinetuneSection) -> bool:
    """Whether products are computed in bfloat16."""
    import torch

    return bool(_compute_dtype(settings) == torch.bfloat16)


def _liger(settings: FinetuneSection) -> bool:
    """Whether Liger's kernels are used."""
    import torch
    from transformers.utils import is_liger_kernel_available

    there = torch.cuda.is_available() and is_liger_kernel_available()
    if settings.liger is True and not there:
        raise ValueError(
            "finetune.liger: it needs a CUDA GPU and the package liger-kernel; install it, or "
            "leave the key out"
        )
    return there if settings.liger == "auto" else settings.liger


def _nf4(compute: Any) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            "finetune.quantize: nf4 needs bitsandbytes, which the extras `cpu` and `gpu` install; "
            "or set quantize: none"
        ) from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from laying weights out anew for a CPU's inference: it does so in the first
    evaluation, and from then on no gradient passes those layers.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _attention(settings: FinetuneSection, config: Any, longest: int) -> str:
    """Which attention `auto` is, and whether the one that was asked for can be had."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    asked = settings.attention
    flash = torch.cuda.is_available() and is_flash_attn_2_available() and in_bfloat16(settings)
    packed = attention.allowed(config, longest)
    if asked == "flash" and not flash:
        raise ValueError(
            "finetune.attention: flash needs a CUDA GPU, bfloat16, and the package flash-attn; "
            "with auto, torch's own kernels are used"
        )
    if asked == "packed" and not packed:
        raise ValueError(
            "finetune.attention: packed can't stand in for this student's attention (a sliding "
            "window, or capped scores); choose auto or sdpa"
        )
    if asked == "auto":
        return "flash" if flash else "packed" if packed else "sdpa"
    return asked
