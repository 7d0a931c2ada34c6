"""Programs run by SandboxFusion: https://bytedance.github.io/SandboxFusion/docs/api/."""

from __future__ import annotations

import contextlib
import json

from filter.verify.code.bubblewrap import Ending
from filter.verify.code.service import Execute, Reply, Server, Service, said
from tracestill.recipe.sandbox import Sandbox

_FULL = 60_000  # characters; past some 150,000 the server reads no more, and the program waits


def sandboxfusion(sandbox: Sandbox) -> Service:
    """Programs run by the SandboxFusion at the sandbox's address. Each has a machine of its own
    where the server isolates them, which is checked before it is used.
    """
    server = Server(sandbox)

    def execute(program: str, seconds: float) -> Reply:
        request = {"code": program, "language": "python", "run_timeout": seconds}
        status, body = server.ask("POST", f"{sandbox.url}/run_code", seconds, json=request)
        try:
            reply = json.loads(body) if status == 200 else {}
        except (ValueError, RecursionError):
            reply = {}
        run = reply.get("run_result") if isinstance(reply, dict) else None
        if isinstance(reply, dict) and reply.get("status") == "SandboxError":
            raise server.failed(f"fails{said(str(reply.get('message')).encode())}: look at its log")
        if not isinstance(run, dict) or not isinstance(run.get("stdout"), str):
            raise server.failed(
                f"answers {status}{said(body)}, as no SandboxFusion does: name its address"
            )
        late = run.get("status") == "TimeLimitExceeded"
        code = run.get("return_code")
        why = ("output" if len(run["stdout"]) > _FULL else "time") if late else ""
        ending = Ending(code=code if isinstance(code, int) else -9 if late else 0, why=why)
        return Reply(output=run["stdout"], errors=str(run.get("stderr")), ending=ending)

    return Service(
        name="sandboxfusion",
        open=lambda: contextlib.nullcontext[Execute](execute),
        largest=8 * 2**20,
        start="start it privileged, with SANDBOX_CONFIG=ci",
        cut="it gives back some 150 kB; judge such problems with another sandbox",
    )
