"""Load the student for training: weights, dtype, attention, adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune import attention, multimodal
from finetune.packing import AttentionLayout
from tracestill.recipe.finetune import FinetuneSection

_NAMES = {"flash": "flash_attention_2", "packed": attention.PACKED}
_LAYOUTS: dict[str, AttentionLayout] = {"flash": "flash", "packed": "packed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStudent:
    """A model, and the layout of rows that its attention needs."""

    model: Any
    layout: AttentionLayout


def load_config(path: str, settings: FinetuneSection) -> Any:
    """The student's own config.

    Raises:
        ValueError: there is none, or it needs code that the recipe does not trust.

    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            path, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"finetune.student: {path} can't be loaded: {error}") from error


def load_student(path: str, settings: FinetuneSection, longest: int) -> LoadedStudent:
    """Load the base model, without an adapter, onto the device that it is trained on.

    `longest` is the longest sample's length in tokens. Sharded models stay on the CPU.

    Raises:
        ValueError: there is no such model, or the settings do not fit it or this machine.

    """
    import torch
    from transformers.integrations.liger import apply_liger_kernel

    attention.register()
    config = load_config(path, settings)
    kind = _attention(settings, config, longest)
    options: dict[str, Any] = {}
    if settings.quantize == "nf4":
        beside = tuple(multimodal.parts_beside(config))
        options["quantization_config"] = _nf4(_compute_dtype(settings), beside)
    try:
        model = multimodal.model_class(config).from_pretrained(
            path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
            # transformers and trl differ in their defaults.
            dtype=_weights_dtype(settings),
            attn_implementation=_NAMES.get(kind, kind),
            **options,
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"finetune.student: {path} can't be loaded: {error}") from error
    if settings.quantize == "nf4":
        _keep_unpacked(model)
    if _liger(settings):
        # The layers' kernels only: the loss is this package's own.
        apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})
    model.config.use_cache = False
    # A sharded model goes to the GPUs shard by shard: whole, it may fit none of them.
    if torch.cuda.is_available() and settings.quantize != "nf4" and not settings.launch.sharded:
        model = model.to("cuda")
    return LoadedStudent(model=model, layout=_LAYOUTS.get(kind, "rows"))


def add_adapter(model: Any, settings: FinetuneSection) -> Any:
    """Add a float32 adapter to the language model and freeze all else; with `method: full` freeze
    what is beside the language model.

    Raises:
        ValueError: `lora.targets` names no layer, or the embeddings or the output layer.

    """
    if settings.method == "full":
        multimodal.freeze_beside(model)
        return model
    from peft import LoraConfig, get_peft_model

    lora = settings.lora
    config = LoraConfig(
        r=int(lora.rank),
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        exclude_modules=multimodal.pattern(multimodal.beside(model)),
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
    """Restore the trained weights after the block. trl's trainers, when they are created, round
    adapters of quantised models to bfloat16, in which three of four of Adam's small steps are lost.
    """
    trained = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.data = trained[name]


def _weights_dtype(settings: FinetuneSection) -> Any:
    """Trained weights are float32, which an optimiser's small steps need."""
    import torch

    return torch.float32 if settings.method == "full" else _compute_dtype(settings)


def _compute_dtype(settings: FinetuneSection) -> Any:
    import torch

    auto = "bfloat16" if torch.cuda.is_available() else "float32"
    return getattr(torch, auto if settings.dtype == "auto" else settings.dtype)


def in_bfloat16(settings: FinetuneSection) -> bool:
    """Whether the student computes in bfloat16."""
    import torch

    return bool(_compute_dtype(settings) == torch.bfloat16)


def _liger(settings: FinetuneSection) -> bool:
    import torch
    from transformers.utils import is_liger_kernel_available

    available = torch.cuda.is_available() and is_liger_kernel_available()
    if settings.liger is True and not available:
        raise ValueError(
            "finetune.liger: it needs a CUDA GPU and the package liger-kernel; install it, or "
            "leave the key out"
        )
    return available if settings.liger == "auto" else settings.liger


def _nf4(compute: Any, beside: Sequence[str] = ()) -> Any:
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
        # Without any, transformers keeps the output layer alone; with some it has to be told.
        llm_int8_skip_modules=[*beside, "lm_head"] if beside else None,
    )


def _keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from repacking weights for inference on a CPU: it does so in the first
    evaluation, after which no gradient passes those layers.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _attention(settings: FinetuneSection, config: Any, longest: int) -> str:
    """The attention to use, with `auto` resolved."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    asked = settings.attention
    flash = torch.cuda.is_available() and is_flash_attn_2_available() and in_bfloat16(settings)
    packed = attention.supports(config, longest)
    if asked == "flash" and not flash:
        raise ValueError(
            "finetune.attention: flash needs a CUDA GPU, bfloat16, and the package flash-attn; "
            "with auto, torch's own kernels are used"
        )
    if asked == "packed" and not packed:
        raise ValueError(
            "finetune.attention: packed can't replace this student's attention (a sliding "
            "window, or capped scores); choose auto or sdpa"
        )
    if asked == "auto":
        return "flash" if flash else "packed" if packed else "sdpa"
    return asked
