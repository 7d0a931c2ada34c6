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
from typing import Any
from urllib.parse import quote

from filter.verify.code.bubblewrap import Ending, NoSandboxError
from filter.verify.code.service import Execute, Reply, Server, Service, said
from tracestill.recipe.sandbox import E2B_PORT, Sandbox, machine_url

_KEY = "E2B_API_KEY"
_LIVE = 900  # seconds until E2B ends a machine that was not ended
_PATH = "/home/user/main.py"
_COMMAND = f"exec python3 -s -B {_PATH}"
_LAST = 0x02


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
        status, body = server.ask(
            "POST", f"{sandbox.url}/sandboxes", _LIVE / 10, json=wanted, headers=headers
        )
        if status in (401, 403):
            raise server.failed(f"refuses the key in {_KEY}: set it to a valid one")
        made = _object(body)
        name, token = made.get("sandboxID"), made.get("envdAccessToken")
        if status != 201 or not isinstance(name, str):
            raise server.failed(
                f"makes no machine but answers {status}{said(body)}: look at e2b.dev"
            )
        routing = {"E2b-Sandbox-Id": name, "E2b-Sandbox-Port": str(E2B_PORT)}
        if isinstance(token, str):
            routing["X-Access-Token"] = token
        address = machine_url(sandbox, name)

        def execute(program: str, seconds: float) -> Reply:
            return _execute(server, address, routing, program, seconds)

        try:
            yield execute
        finally:
            with contextlib.suppress(NoSandboxError):  # E2B ends it in time
                url = f"{sandbox.url}/sandboxes/{quote(name, safe='')}"
                server.ask("DELETE", url, headers=headers)

    return Service(
        name="e2b",
        open=machine,
        largest=8 * 2**20,
        start="look at e2b.dev",
        cut="judge such problems with another sandbox",
    )


def _execute(
    server: Server, address: str, routing: dict[str, str], program: str, seconds: float
) -> Reply:
    user = {"Authorization": "Basic " + base64.b64encode(b"user:").decode()}
    status, body = server.ask(
        "POST",
        f"{address}/files?path={quote(_PATH, safe='')}&username=user",
        files={"file": (_PATH, program.encode())},
        headers=routing,
    )
    if status != 200:
        raise server.failed(f"takes no program{said(body)}: look at e2b.dev")
    start = {
        "process": {
            "cmd": "/bin/bash",
            "args": ["-l", "-c", _COMMAND],
            "envs": {"PYTHONHASHSEED": "0"},
        },
        "stdin": False,
    }
    message = json.dumps(start).encode()
    headers = {
        **routing,
        **user,
        "Content-Type": "application/connect+json",
        "Connect-Protocol-Version": "1",
        "Connect-Timeout-Ms": str(int(seconds * 1000)),
        "Keepalive-Ping-Interval": "50",
    }
    status, body = server.ask(
        "POST",
        f"{address}/process.Process/Start",
        seconds,
        content=struct.pack(">BI", 0, len(message)) + message,
        headers=headers,
    )
    if status != 200:
        raise server.failed(f"starts no program{said(body)}: look at e2b.dev")
    return _reply(server, body)


def _reply(server: Server, body: bytes) -> Reply:
    """What the events of a process say: each message has a byte of flags and its length before
    it; the last says whether all went well.
    """
    said_by: dict[str, list[str]] = {"stdout": [], "stderr": []}
    ending: Ending | None = None
    for flags, message in _messages(body):
        if flags & _LAST:
            error = message.get("error")
            if isinstance(error, dict) and error.get("code") == "deadline_exceeded":
                ending = Ending(code=-9, why="time")
            elif error:
                raise server.failed(
                    f"breaks off{said(json.dumps(error).encode())}: look at e2b.dev"
                )
            continue
        match message.get("event"):
            case {"data": dict(part)}:
                for stream, texts in said_by.items():
                    with contextlib.suppress(ValueError):
                        texts.append(base64.b64decode(str(part.get(stream, ""))).decode("latin-1"))
            case {"end": dict(end)}:
                code = end.get("exitCode", 0)
                killed = str(end.get("status", "")).startswith("signal")
                code = code if isinstance(code, int) else 1
                ending = Ending(code=-9 if killed else code, why="")
    if ending is None:
        raise server.failed("breaks off in the middle of a reply: look at e2b.dev")
    output, errors = ("".join(texts) for texts in said_by.values())
    return Reply(output=output, errors=errors, ending=ending)


def _messages(body: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    at = 0
    while at + 5 <= len(body):
        flags, size = struct.unpack_from(">BI", body, at)
        if at + 5 + size > len(body):
            return
        yield flags, _object(body[at + 5 : at + 5 + size])
        at += 5 + size


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
