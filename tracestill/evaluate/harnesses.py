"""The commands with which other harnesses ask a model the same benchmark: `harnesses.yaml`."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tracestill.recipe.evaluation import Evaluation
from tracestill.recipe.models import LocalModel

_FILE = Path(__file__).with_name("harnesses.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A shell command of a harness, and what its figure will differ in from ours, a line each."""

    harness: str
    install: str
    command: str
    differs: list[str]


@functools.cache
def _harnesses() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return found


def commands(plan: Evaluation) -> list[Command]:
    """The commands of the harnesses that know the benchmark.

    Raises:
        ValueError: the model was asked behind a server, so there is no folder or id to load.

    """
    if not isinstance(plan.model, LocalModel):
        raise ValueError(
            f"{plan.name} was asked behind a server: evaluate its folder or hub id to get commands "
            "that load it"
        )
    made = []
    for name, one in _harnesses().items():
        task = one["tasks"].get(plan.benchmark)
        if task is None:
            continue
        words, differs = _WRITE[name](plan, plan.model, task)
        if plan.limit is not None:
            differs.append(f"its first {plan.limit} problems may be others than ours")
        if plan.template is not None:
            differs.append(f"save the chat template {plan.template} with the model first")
        made.append(
            Command(
                harness=name, install=one["install"],
                command=shlex.join([*words, *task.get("options", "").split()]),
                differs=[task["differs"], *differs],
            )
        )  # fmt: skip
    return made


def _asked_once(plan: Evaluation) -> list[str]:
    if plan.spec.samples == 1:
        return []
    return [f"asks each problem once, not {plan.spec.samples} times: repeat it with other seeds"]


def _limited(plan: Evaluation, option: str) -> list[str]:
    return [] if plan.limit is None else [option, str(plan.limit)]


def _lighteval(plan: Evaluation, model: LocalModel, task: Any) -> tuple[list[str], list[str]]:
    spec = plan.spec
    drawn = {
        "temperature": spec.temperature, "top_p": spec.top_p, "max_new_tokens": spec.max_tokens,
        "seed": plan.seed,
    }  # fmt: skip
    if spec.top_k >= 0:
        drawn["top_k"] = spec.top_k
    said = ",".join(f"{name}:{value}" for name, value in drawn.items())
    arguments = [f"model_name={model.model}", *_loaded(model, "max_model_length")]
    arguments.append(f"generation_parameters={{{said}}}")
    words = ["lighteval", "vllm", ",".join(arguments), f"{task['task']}|0", "--save-details"]
    differs = _asked_once(plan)
    if plan.system_prompt is not None:
        differs.append("has no system prompt: its YAML of model parameters takes system_prompt")
    return [*words, *_limited(plan, "--max-samples")], differs


def _lm_eval(plan: Evaluation, model: LocalModel, task: Any) -> tuple[list[str], list[str]]:
    spec = plan.spec
    drawn = [
        f"do_sample={spec.temperature > 0}", f"temperature={spec.temperature}",
        f"top_p={spec.top_p}", f"max_gen_toks={spec.max_tokens}",
    ]  # fmt: skip
    if spec.top_k >= 0:
        drawn.append(f"top_k={spec.top_k}")
    arguments = [f"pretrained={model.model}", *_loaded(model, "max_model_len")]
    arguments.append("think_end_token=</think>")
    words = [
        "lm_eval", "run", "--model", "vllm", "--model_args", ",".join(arguments),
        "--tasks", task["task"], "--apply_chat_template", "--gen_kwargs", ",".join(drawn),
        "--seed", str(plan.seed), "--log_samples", "--output_path", "lm-eval-results",
    ]  # fmt: skip
    if plan.system_prompt is not None:
        words += ["--system_instruction", plan.system_prompt]
    return [*words, *_limited(plan, "--limit")], _asked_once(plan)


def _inspect(plan: Evaluation, model: LocalModel, task: Any) -> tuple[list[str], list[str]]:
    spec = plan.spec
    words = [
        "inspect", "eval", task["task"], "--model", f"vllm/{model.model}",
        "--temperature", str(spec.temperature), "--top-p", str(spec.top_p),
        "--max-tokens", str(spec.max_tokens), "--epochs", str(spec.samples),
        "--seed", str(plan.seed),
    ]  # fmt: skip
    if spec.top_k >= 0:
        words += ["--top-k", str(spec.top_k)]
    if plan.system_prompt is not None:
        words += ["--system-message", plan.system_prompt]
    for argument in _loaded(model, "max_model_len"):
        words += ["-M", argument]
    return [*words, *_limited(plan, "--limit")], []


def _loaded(model: LocalModel, longest: str) -> list[str]:
    """How the model is loaded, where that was said."""
    said = [] if model.revision is None else [f"revision={model.revision}"]
    if model.max_model_len is not None:
        said.append(f"{longest}={model.max_model_len}")
    parallel = model.engine_args.get("tensor_parallel_size")
    return said if parallel is None else [*said, f"tensor_parallel_size={parallel}"]


_WRITE: dict[str, Callable[[Evaluation, LocalModel, Any], tuple[list[str], list[str]]]] = {
    "lighteval": _lighteval,
    "lm-eval": _lm_eval,
    "inspect_ai": _inspect,
}
