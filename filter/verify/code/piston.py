"""Programs run by Piston: https://piston.readthedocs.io/en/latest/api-v2/."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from typing import Any

from filter.verify.code.bubblewrap import MEMORY, Ending
from filter.verify.code.service import Execute, Reply, Server, Service, said
from tracestill.recipe.sandbox import Sandbox

_LIMITS = "PISTON_OUTPUT_MAX_SIZE=16777216, PISTON_RUN_TIMEOUT and PISTON_RUN_CPU_TIME=20000"
_NAME = "name its address, http://HOST:2000"
_LARGEST = 95_000  # the server reads bodies of up to 100 kB
_NUMBERS = {"SIGKILL": 9, "SIGSEGV": 11, "SIGABRT": 6, "SIGTERM": 15, "SIGSYS": 31, "SIGXCPU": 24}


def piston(sandbox: Sandbox) -> Service:
    """Programs run by the Piston at the sandbox's address. Each has a machine of its own."""
    server = Server(sandbox)
    versions: list[str] = []
    lock = threading.Lock()

    def version() -> str:
        with lock:
            if not versions:
                versions.append(_python(server))
            return versions[0]

    def execute(program: str, seconds: float) -> Reply:
        milliseconds = int(seconds * 1000)
        request = {
            "language": "python",
            "version": version(),
            "files": [{"name": "main.py", "content": program}],
            "run_timeout": milliseconds,
            "run_cpu_time": milliseconds,
            "run_memory_limit": 2 * MEMORY,  # the host of the program too; its own is lower
        }
        status, body = server.ask("POST", f"{sandbox.url}/api/v2/execute", seconds, json=request)
        if status == 400 and b"cannot exceed" in body:
            raise server.failed(f"allows less than this{said(body)}: start it with {_LIMITS}")
        run = _object(body).get("run") if status == 200 else None
        if not isinstance(run, dict) or not isinstance(run.get("stdout"), str):
            raise server.failed(f"answers {status}{said(body)}, as no Piston does: {_NAME}")
        return Reply(output=run["stdout"], errors=str(run.get("stderr")), ending=_ending(run))

    return Service(
        name="piston",
        open=lambda: contextlib.nullcontext[Execute](execute),
        largest=_LARGEST,
        start=f"start it with {_LIMITS}",
        cut=f"start it with {_LIMITS}",
    )


def _python(server: Server) -> str:
    """The newest Python that the server has."""
    status, body = server.ask("GET", f"{server.url}/api/v2/runtimes")
    try:
        found = json.loads(body) if status == 200 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise server.failed(f"answers {status}{said(body)}, as no Piston does: {_NAME}")
    versions: list[str] = [
        entry["version"]
        for entry in found
        if isinstance(entry, dict)
        and entry.get("language") == "python"
        and isinstance(entry.get("version"), str)
        and _number(entry["version"]) >= (3, 10)
    ]
    if not versions:
        raise server.failed("has no Python from 3.10 on: install one (docs/sandbox.md)")
    return max(versions, key=_number)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _ending(run: dict[str, Any]) -> Ending:
    """Newer servers say in `status` what ended a program; older ones killed it, whatever it was."""
    code, signal = run.get("code"), run.get("signal")
    if not isinstance(code, int):
        code = -_NUMBERS.get(str(signal), 9) if signal else 0
    match run.get("status"):
        case "TO":
            why = "time"
        case "OL" | "EL":
            why = "output"
        case _:
            memory = run.get("memory")
            why = "memory" if code and isinstance(memory, int) and memory >= 1.9 * MEMORY else ""
    return Ending(code=code, why=why)
