"""Sharded training (FSDP2): weights and optimiser states spread over the processes."""

from __future__ import annotations

from typing import Any

from finetune.merge import release
from finetune.student import add_adapter, in_bfloat16, load_student
from tracestill.recipe.finetune import FinetuneSection

# The first process reads the student and sends the shards: else the host's memory would hold it
# once per process.
ENVIRONMENT = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}


def options(settings: FinetuneSection) -> dict[str, Any]:
    """The training arguments that choose DDP or FSDP; none for a single process."""
    if settings.launch.gpus == 1:
        return {}
    if settings.launch.strategy == "ddp":
        # Every trained weight takes part in every loss.
        return {"ddp_find_unused_parameters": False}
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "state_dict_type": "FULL_STATE_DICT",
            "cpu_ram_efficient_loading": True,
        },
    }


def keep_precision(arguments: Any, settings: FinetuneSection) -> None:
    """Reduce gradients and return losses in float32; accelerate's defaults round both."""
    if arguments.fsdp_plugin_args is None or not in_bfloat16(settings):
        return
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    arguments.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32
    )


def prepare(accelerator: Any, arguments: Any) -> bool:
    """Make accelerate shard the model on CPUs too: there it would silently leave the whole model in
    each process, although torch can shard anywhere.

    Returns:
        Whether the model is sharded.

    """
    from accelerate import DistributedType, PartialState
    from accelerate.utils import FullyShardedDataParallelPlugin

    state = accelerator.state
    if arguments.fsdp_plugin_args is None:
        return False
    if state.distributed_type == DistributedType.FSDP:
        return True
    assert accelerator.device.type == "cpu"
    # As accelerate does it on GPUs.
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    if accelerator.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(accelerator.mixed_precision)
    state.distributed_type = DistributedType.FSDP
    # Every further AcceleratorState copies it from there.
    PartialState().distributed_type = DistributedType.FSDP
    return True


def gather(trainer: Any, settings: FinetuneSection) -> dict[str, Any]:
    """The trained weights, unsharded and on the CPU, in the first process; empty in the others.
    Every process must call it. It frees the memory of the model and its optimiser.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    chosen = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=settings.method == "lora"
    )
    weights: dict[str, Any] = get_model_state_dict(trainer.model, options=chosen)
    trainer.optimizer.state.clear()
    release(trainer.model)
    return weights


def unsharded(
    weights: dict[str, Any], settings: FinetuneSection, student: str, longest: int
) -> Any:
    """The student with gathered weights, in one process: on the GPU if it fits there, else on the
    CPU.
    """
    import torch

    model = add_adapter(load_student(student, settings, longest).model, settings)
    found = model.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys, "the model is the one that was trained"
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if torch.cuda.is_available() and size * 1.2 < torch.cuda.mem_get_info()[0]:
        return model.to("cuda")
    model.set_attn_implementation("sdpa")
    return model
