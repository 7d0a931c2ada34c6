"""Programs run by SandboxFusion: https://bytedance.github.io/SandboxFusion/docs/api/."""

from __future__ import annotations

import contextlib

from filter.verify.code.bubblewrap import Ending
from filter.verify.code.dialogue import Run
from filter.verify.code.service import Execute, Server, Service, said
from tracestill.recipe.sandbox import Sandbox

_FULL = 60_000  # characters; past some 150,000 the server reads no more, and the program waits


def sandboxfusion(sandbox: Sandbox) -> Service:
    """Programs run by the SandboxFusion at the sandbox's address. Each has a machine of its own
    where the server isolates them, which is checked before it is used.
    """
    server = Server(sandbox)

    def execute(program: str, seconds: float) -> Run:
        request = {"code": program, "language": "python", "run_timeout": seconds}
        answer = server.ask("POST", f"{sandbox.url}/run_code", seconds, json=request)
        match answer.found:
            case {"status": "SandboxError", **reply}:
                raise server.failed(f"fails{said(str(reply.get('message')))}: look at its log")
            case {"run_result": {"stdout": str(output)} as run}:
                late = run.get("status") == "TimeLimitExceeded"
                why = ("output" if len(output) > _FULL else "time") if late else ""
                code = run.get("return_code")
                ending = Ending(code=code if isinstance(code, int) else -9 if late else 0, why=why)
                return Run(
                    output=output.encode(errors="replace"),
                    errors=str(run.get("stderr")),
                    ending=ending,
                )
        how = f"answers {answer.status}{answer.words}, as no SandboxFusion does"
        raise server.failed(f"{how}: name its address")

    return Service(
        name="sandboxfusion",
        open=lambda: contextlib.nullcontext[Execute](execute),
        largest=8 * 2**20,
        start="start it privileged, with SANDBOX_CONFIG=ci",
        cut="it gives back some 150 kB; judge such problems with another sandbox",
    )
