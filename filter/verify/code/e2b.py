"""Programs run by E2B, in virtual machines of its cloud or of one's own installation.

Its API is spoken here rather than through its client, which could be tested against E2B alone: a
machine is made and ended at `/sandboxes`, and has a daemon that takes files and, by Connect's
protocol (https://connectrpc.com/docs/protocol/), starts processes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import struct
from collections.abc import Iterator
from urllib.parse import quote

from filter.verify.code.bubblewrap import Ending, NoSandboxError
from filter.verify.code.dialogue import Run
from filter.verify.code.service import Answer, Execute, Server, Service, said
from tracestill.recipe.sandbox import E2B_PORT, Sandbox, machine_url

_KEY = "E2B_API_KEY"
_LIVE = 900  # seconds until E2B ends a machine that was not ended
_PATH = "/home/user/main.py"
_START = json.dumps({
    "process": {
        "cmd": "/bin/bash", "args": ["-l", "-c", f"exec python3 -s -B {_PATH}"],
        "envs": {"PYTHONHASHSEED": "0"},
    },
    "stdin": False,
}).encode()  # fmt: skip
_STREAM = {
    "Authorization": "Basic " + base64.b64encode(b"user:").decode(),
    "Content-Type": "application/connect+json",
    "Connect-Protocol-Version": "1",
    "Keepalive-Ping-Interval": "50",
}


def e2b(sandbox: Sandbox) -> Service:
    """Programs run by E2B, with the key in the environment's `E2B_API_KEY`. Each opening is a
    machine without a network, made for it and then ended.
    """
    server = Server(sandbox)

    @contextlib.contextmanager
    def machine() -> Iterator[Execute]:
        key = os.environ.get(_KEY, "").strip()
        if not re.fullmatch("[!-~]+", key):
            wrong = "no key" if key else "not set"
            raise NoSandboxError(f"{_KEY} is {wrong}: set it to your key, from e2b.dev")
        headers = {"X-API-Key": key}
        wanted = {
            "templateID": "base", "timeout": _LIVE, "secure": True, "allow_internet_access": False,
        }  # fmt: skip
        url = f"{sandbox.url}/sandboxes"
        answer = server.ask("POST", url, _LIVE / 10, json=wanted, headers=headers)
        if answer.status in (401, 403):
            raise server.failed(f"refuses the key in {_KEY}: set it to a valid one")
        match answer.found:
            case {"sandboxID": str(name), **made} if answer.status == 201:
                routing = {"E2b-Sandbox-Id": name, "E2b-Sandbox-Port": str(E2B_PORT)}
            case _:
                how = f"makes no machine but answers {answer.status}{answer.words}"
                raise server.failed(f"{how}: look at e2b.dev")
        if token := made.get("envdAccessToken"):
            routing["X-Access-Token"] = str(token)
        address = machine_url(sandbox, name)

        def execute(program: str, seconds: float) -> Run:
            files = f"{address}/files?path={quote(_PATH, safe='')}&username=user"
            content = {"file": (_PATH, program.encode())}
            answer = server.ask("POST", files, files=content, headers=routing)
            if answer.status != 200:
                raise server.failed(f"takes no program{answer.words}: look at e2b.dev")
            answer = server.ask(
                "POST",
                f"{address}/process.Process/Start",
                seconds,
                content=struct.pack(">BI", 0, len(_START)) + _START,
                headers={**routing, **_STREAM, "Connect-Timeout-Ms": str(int(seconds * 1000))},
            )
            if answer.status != 200:
                raise server.failed(f"starts no program{answer.words}: look at e2b.dev")
            return _run(server, answer.body)

        try:
            yield execute
        finally:
            with contextlib.suppress(NoSandboxError):  # E2B ends it in time
                server.ask("DELETE", f"{url}/{quote(name, safe='')}", headers=headers)

    return Service(
        name="e2b",
        open=machine,
        largest=8 * 2**20,
        start="look at e2b.dev",
        cut="judge such problems with another sandbox",
    )


def _run(server: Server, body: bytes) -> Run:
    """What the events of a process say: each message has a byte of flags and its length before
    it; the last says whether all went well.
    """
    output, errors = bytearray(), bytearray()
    ending: Ending | None = None
    at = 0
    while at + 5 <= len(body):
        size = struct.unpack_from(">BI", body, at)[1]
        at += 5 + size
        match Answer(200, body[at - size : at]).found:
            case {"error": {"code": "deadline_exceeded"}}:
                ending = Ending(code=-9, why="time")
            case {"error": dict(error)} if error:
                raise server.failed(f"breaks off{said(json.dumps(error))}: look at e2b.dev")
            case {"event": {"data": dict(part)}}:
                with contextlib.suppress(ValueError):
                    output += base64.b64decode(str(part.get("stdout", "")))
                    errors += base64.b64decode(str(part.get("stderr", "")))
            case {"event": {"end": dict(end)}}:
                code = end.get("exitCode", 0)
                code = code if isinstance(code, int) else 1
                killed = str(end.get("status", "")).startswith("signal")
                ending = Ending(code=-9 if killed else code, why="")
    if ending is None:
        raise server.failed("breaks off in the middle of a reply: look at e2b.dev")
    return Run(output=bytes(output), errors=errors.decode("latin-1"), ending=ending)
