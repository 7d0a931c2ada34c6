"""The training arguments of trl's trainers, from the recipe's section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune import sharding, tracking
from finetune.keep import checkpoints_kept
from finetune.student import in_bfloat16
from tracestill.recipe.finetune import FinetuneSection


def rate_of(settings: FinetuneSection) -> float:
    """The learning rate at its highest; `auto` is the default of the method."""
    if settings.learning_rate == "auto":
        return 2e-4 if settings.method == "lora" else 2e-5
    return settings.learning_rate


def training_arguments(
    settings: FinetuneSection, folder: Path, steps: int, seed: int, name: str,
    rate: float | None = None,
) -> Any:  # fmt: skip
    """An `SFTConfig` for `steps` optimiser steps with checkpoints in `folder`, without trl's own
    preparation of data. Trackers show the training as `name`. `rate` stands in the place of the
    learning rate of the settings.
    """
    from trl import SFTConfig

    made = SFTConfig(
        learning_rate=rate or rate_of(settings),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing=settings.gradient_checkpointing is True,
        activation_offloading=settings.activation_offload,
        use_liger_kernel=False,
        # The loss is this package's own; trl would ask a dense Granite for its router.
        router_aux_loss_coef=0.0,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_total_limit=checkpoints_kept(settings),
        **common(settings, folder, steps, seed),
        **tracking.options(settings.report_to, name, name),
        **sharding.options(settings),
    )
    on_one_device(made)
    sharding.keep_precision(made, settings)
    return made


def common(settings: FinetuneSection, folder: Path, steps: int, seed: int) -> dict[str, Any]:
    """The arguments that training on traces and on-policy distillation share."""
    import torch

    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "lr_scheduler_type": settings.known_schedule,
        "warmup_steps": round(steps * settings.warmup),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": in_bfloat16(settings),
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": settings.checkpoint_every,
        "seed": seed,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def on_one_device(arguments: Any) -> None:
    """Use one device per process: transformers would split each batch over all GPUs."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
