"""A model whose weights and optimiser states lie in shares, one a process (FSDP)."""

from __future__ import annotations

from typing import Any

from finetune.config import FinetuneSection
from finetune.merge import release
from finetune.model import add_adapter, in_bfloat16, load_student

# The first process reads the student and hands on the shares: else the host's memory would have to
# hold it once for each of them.
ENVIRONMENT = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}


def options(settings: FinetuneSection) -> dict[str, Any]:
    """What transformers' arguments say of how the model is spread over processes."""
    if settings.launch.gpus == 1:
        return {}
    if settings.launch.strategy == "ddp":
        # Each weight that is trained has a part in each loss, be it zero.
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
    """Sum gradients and return losses in float32; left to itself, accelerate rounds both."""
    if arguments.fsdp_plugin_args is None or not in_bfloat16(settings):
        return
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    arguments.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32
    )


def prepare(accelerator: Any, arguments: Any) -> bool:
    """Have accelerate shard the model on CPUs too. It does so on GPUs alone and, without a word,
    would give each process the whole model; torch does it anywhere.

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
    # From here on as accelerate does it on GPUs.
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    if accelerator.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(accelerator.mixed_precision)
    state.distributed_type = DistributedType.FSDP
    # From which every further AcceleratorState copies it.
    PartialState().distributed_type = DistributedType.FSDP
    return True


def gather(trainer: Any, settings: FinetuneSection) -> dict[str, Any]:
    """What was trained, whole and on the CPU, in the first process; elsewhere nothing. Every
    process has to call it. The memory of the model and its optimiser is given back.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    chosen = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=settings.method == "lora"
    )
    weights: dict[str, Any] = get_model_state_dict(trainer.model, options=chosen)
    trainer.optimizer.state.clear()
    release(trainer.model)
    return weights


def whole(weights: dict[str, Any], settings: FinetuneSection, student: str, longest: int) -> Any:
    """The trained model in one process: the student with the weights that were gathered. On the
    GPU if it fits there, else on the CPU.
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
