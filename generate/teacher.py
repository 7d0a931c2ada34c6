"""What a section of a recipe says of a model: its identity, and the engine that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.models import LocalModel, Redact, ServedModel
from tracestill.records import Sampling, Teacher, digest
from tracestill.records.content import model_fingerprint, model_name
from tracestill.records.gguf import model_folder

if TYPE_CHECKING:
    from generate.engine import Engine
    from generate.vllm_engine import Model

# Arguments of vLLM's engine that say where and how fast it runs, not what it samples: changing one
# keeps the traces that are there. Any other is part of the teacher's identity.
NEUTRAL_ENGINE_ARGS = frozenset(
    {
        "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size",
        "data_parallel_size_local", "data_parallel_address", "data_parallel_rpc_port",
        "data_parallel_backend", "decode_context_parallel_size", "enable_expert_parallel",
        "enable_eplb", "eplb_config", "expert_placement_strategy", "distributed_executor_backend",
        "nnodes", "node_rank", "master_addr", "master_port", "disable_custom_all_reduce",
        "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "block_size",
        "cpu_offload_gb", "kv_offloading_size", "kv_offloading_backend", "enable_prefix_caching",
        "max_model_len", "max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill",
        "long_prefill_token_threshold", "scheduling_policy", "async_scheduling", "enforce_eager",
        "compilation_config", "cudagraph_capture_sizes", "max_cudagraph_capture_size",
        "download_dir", "max_parallel_loading_workers", "use_tqdm_on_load", "hf_token",
        "trust_remote_code", "max_logprobs", "disable_log_stats",
    }
)  # fmt: skip


def section_content(section: LocalModel | ServedModel | ImportTeacher) -> str:
    """A fingerprint of a section's model by its content; of a served one, by name and revision,
    since no more is known. For imported traces it is that of the data.

    Raises:
        ValueError: the model's folder, or what to import, does not exist.

    """
    if isinstance(section, ImportTeacher):
        from generate.importing import fingerprint

        return fingerprint(section)
    if isinstance(section, ServedModel):
        return digest("served", section.model, section.revision)
    return model_fingerprint(section.model, section.revision)


def as_teacher(section: LocalModel | ServedModel, sampling: Sampling) -> Teacher:
    """The teacher of a section, its engine's version left empty. Options that change what is
    sampled (`extra_body`, and `engine_args` that are not neutral) are part of its `content`.

    Raises:
        ValueError: the model's folder does not exist.

    """
    hosts: list[str] = []
    content = section_content(section)
    if isinstance(section, ServedModel):
        hosts = [urlsplit(url).hostname or url for url in section.base_urls]
        options = section.extra_body
    else:
        options = {
            name: value
            for name, value in section.engine_args.items()
            if name not in NEUTRAL_ENGINE_ARGS
        }
    if options:  # without any, ids are those of earlier versions
        content = digest("options", content, options)
    return Teacher(
        model=model_name(section.model),
        revision=section.revision,
        content=content,
        engine=section.engine,
        engine_version="",
        quantisation=section.quantization if isinstance(section, LocalModel) else None,
        provider=", ".join(dict.fromkeys(hosts)) or "local",
        sampling=sampling,
    )


def to_restore(section: LocalModel | ServedModel) -> Redact | None:
    """The masking of a section whose answers are read, not trained on: always restored in them."""
    if not isinstance(section, ServedModel) or section.redact is None:
        return None
    return section.redact.model_copy(update={"restore": True})


def open_engine(
    section: LocalModel | ServedModel,
    sampling: Sampling,
    state: Path | None = None,
    chat_template: str | None = None,
) -> Engine:
    """The engine that runs a section's model. `state` is a folder for what the batch API must
    remember between runs, `chat_template` replaces a local model's own.

    Raises:
        ValueError: the model can't be loaded, or no endpoint answers; the message says why.

    """
    if isinstance(section, ServedModel):
        from generate.openai_engine import OpenaiEngine

        return OpenaiEngine(section, sampling, state)
    from generate.vllm_engine import VllmEngine

    return VllmEngine(loaded_by_vllm(section, chat_template), sampling)


def loaded_by_vllm(section: LocalModel, chat_template: str | None = None) -> Model:
    """What vLLM loads for a section.

    Raises:
        ValueError: its GGUF file can't be unpacked.

    """
    from generate.vllm_engine import Model

    return Model(
        path=model_folder(section.model),
        revision=section.revision,
        quantization=section.quantization,
        dtype=section.dtype,
        max_model_len=section.max_model_len,
        engine_args=section.engine_args,
        chat_template=chat_template,
    )
