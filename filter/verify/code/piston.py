"""Programs run by Piston: https://piston.readthedocs.io/en/latest/api-v2/."""

from __future__ import annotations

import contextlib
import re
from functools import cache
from typing import Any

from filter.verify.code.bubblewrap import MEMORY, Ending, NoSandboxError
from filter.verify.code.dialogue import Run
from filter.verify.code.service import Answer, Execute, Server, Service
from tracestill.recipe.sandbox import Sandbox

_LIMITS = "PISTON_OUTPUT_MAX_SIZE=16777216, PISTON_RUN_TIMEOUT and PISTON_RUN_CPU_TIME=20000"
_LARGEST = 95_000  # the server reads bodies of up to 100 kB
_NUMBERS = {"SIGKILL": 9, "SIGSEGV": 11, "SIGABRT": 6, "SIGTERM": 15, "SIGSYS": 31, "SIGXCPU": 24}
_WHY = {"TO": "time", "OL": "output", "EL": "output"}


def piston(sandbox: Sandbox) -> Service:
    """Programs run by the Piston at the sandbox's address. Each has a machine of its own."""
    server = Server(sandbox)
    version = cache(lambda: _python(server))

    def execute(program: str, seconds: float) -> Run:
        milliseconds = int(seconds * 1000)
        request = {
            "language": "python",
            "version": version(),
            "files": [{"name": "main.py", "content": program}],
            "run_timeout": milliseconds,
            "run_cpu_time": milliseconds,
            "run_memory_limit": 2 * MEMORY,  # the host of the program too; its own is lower
        }
        answer = server.ask("POST", f"{sandbox.url}/api/v2/execute", seconds, json=request)
        if answer.status == 400 and b"cannot exceed" in answer.body:
            how = f"allows less than this{answer.words}"
            raise server.failed(f"{how}: start it with {_LIMITS}")
        match answer.found:
            case {"run": {"stdout": str(output)} as run}:
                return Run(
                    output=output.encode(errors="replace"),
                    errors=str(run.get("stderr")),
                    ending=_ending(run),
                )
        raise _other(server, answer)

    return Service(
        name="piston",
        open=lambda: contextlib.nullcontext[Execute](execute),
        largest=_LARGEST,
        start=f"start it with {_LIMITS}",
        cut=f"start it with {_LIMITS}",
    )


def _python(server: Server) -> str:
    """The newest Python that the server has."""
    answer = server.ask("GET", f"{server.url}/api/v2/runtimes")
    if not isinstance(answer.found, list):
        raise _other(server, answer)
    versions: list[str] = []
    for runtime in answer.found:
        match runtime:
            case {"language": "python", "version": str(version)} if _number(version) >= (3, 10):
                versions.append(version)
    if not versions:
        raise server.failed("has no Python from 3.10 on: install one (docs/sandbox.md)")
    return max(versions, key=_number)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _other(server: Server, answer: Answer) -> NoSandboxError:
    how = f"answers {answer.status}{answer.words}, as no Piston does"
    return server.failed(f"{how}: name its address, http://HOST:2000")


def _ending(run: dict[str, Any]) -> Ending:
    """Newer servers say in `status` what ended a program; older ones killed it, whatever it was."""
    code, memory, signal = run.get("code"), run.get("memory"), run.get("signal")
    if not isinstance(code, int):
        code = -_NUMBERS.get(str(signal), 9) if signal else 0
    too_much = code and isinstance(memory, int) and memory >= 1.9 * MEMORY
    return Ending(code=code, why=_WHY.get(str(run.get("status")), "memory" if too_much else ""))
