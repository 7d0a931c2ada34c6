"""Servers on this machine that speak as Piston, SandboxFusion and E2B do and run what they are
sent for real, in bubblewrap.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from filter.verify.code.bubblewrap_pool import BubblewrapPool
from filter.verify.code.dialogue import Run, program, run_job

POOL = BubblewrapPool()
KEY = "e2b_0123456789abcdef"

Answer = tuple[int, bytes, dict[str, str]]
"""A status, a body and headers."""


@dataclass
class Fake:
    """A server: where it is, what it was sent (method, path), and what it answers before it does
    as it should.
    """

    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    first: list[Answer] = field(default_factory=list)
    always: Answer | None = None
    programs: list[str] = field(default_factory=list)
    machines: dict[str, bytes] = field(default_factory=dict)
    together: int = 0
    most_together: int = 0
    limits: dict[str, Any] = field(default_factory=dict)


def run_in_sandbox(fake: Fake, source: str, text: str, seconds: float) -> Run:
    """Run a program that came from outside."""
    with _LOCK:
        fake.programs.append(source)
        fake.together += 1
        fake.most_together = max(fake.most_together, fake.together)
    try:
        with POOL.borrow(1) as [sandbox]:
            return run_job(sandbox, program(source), text, seconds)
    finally:
        with _LOCK:
            fake.together -= 1


_LOCK = threading.Lock()


def piston(fake: Fake, method: str, path: str, headers: Any, body: bytes) -> Answer:
    """As Piston 3 and 4 do, with the limits that it has unless it is told otherwise."""
    if (method, path) == ("GET", "/api/v2/runtimes"):
        versions = fake.limits.get("versions", ["3.9.4", "3.12.0", "3.10.0"])
        found = [{"language": "bash", "version": "5.2.0", "aliases": ["sh"]}]
        found += [{"language": "python", "version": v, "aliases": ["py"]} for v in versions]
        return _json(200, found)
    if (method, path) != ("POST", "/api/v2/execute"):
        return _json(404, {"message": "Not Found"})
    if len(body) > 100 * 1024:
        return _json(400, {"stack": "PayloadTooLargeError: request entity too large"})
    job = json.loads(body)
    if (job["language"], job["version"]) != ("python", "3.12.0"):
        return _json(400, {"message": f"{job['language']}-{job['version']} runtime is unknown"})
    most = fake.limits.get("timeout", 20_000)
    for name in ("run_timeout", "run_cpu_time"):
        if job[name] > most:
            message = f"{name} cannot exceed the configured limit of {most}"
            return _json(400, {"message": message})
    source = job["files"][0]["content"]
    run = run_in_sandbox(fake, source, job.get("stdin", "") + "\n", job["run_timeout"] / 1000)
    text = run.output.decode(errors="replace")
    killed = run.ending.code < 0
    status = {"time": "TO", "output": "OL"}.get(run.ending.why, "SG" if killed else None)
    size = fake.limits.get("output", 16_777_216)
    if len(text) > size:
        text, killed, status = text[:size], True, "OL"
    said = {
        "stdout": text, "stderr": run.errors, "output": text + run.errors,
        "code": None if killed else run.ending.code, "signal": "SIGKILL" if killed else None,
        "memory": 1_000_000, "message": None, "status": status, "cpu_time": 9, "wall_time": 30,
    }  # fmt: skip
    if fake.limits.get("old"):
        said = {key: said[key] for key in ("stdout", "stderr", "output", "code", "signal")}
    return _json(200, {"run": said, "language": "python", "version": "3.12.0"})


def sandboxfusion(fake: Fake, method: str, path: str, headers: Any, body: bytes) -> Answer:
    """As SandboxFusion does when it isolates programs."""
    if (method, path) != ("POST", "/run_code"):
        return _json(404, {"detail": "Not Found"})
    job = json.loads(body)
    run = run_in_sandbox(fake, job["code"], job.get("stdin") or "", job["run_timeout"])
    late = run.ending.why == "time" or len(run.output) > 150_000
    result = {
        "status": "TimeLimitExceeded" if late else "Finished", "execution_time": 0.03,
        "return_code": None if late else run.ending.code,
        "stdout": run.output[:150_000].decode(), "stderr": run.errors,
    }  # fmt: skip
    good = not late and run.ending.code == 0
    return _json(200, {
        "status": "Success" if good else "Failed", "message": "", "compile_result": None,
        "run_result": result, "executor_pod_name": None, "files": {},
    })  # fmt: skip


def e2b(fake: Fake, method: str, path: str, headers: Any, body: bytes) -> Answer:
    """As E2B's API and the daemon in its machines do, both behind one address."""
    parts = urlsplit(path)
    if parts.path.removeprefix("/v2").startswith("/sandboxes"):
        if headers.get("X-API-Key") != KEY:
            return _json(401, {"code": 401, "message": f"Invalid key {headers.get('X-API-Key')}"})
        if method == "POST":
            assert json.loads(body)["allow_internet_access"] is False
            with _LOCK:
                name = f"i{len(fake.machines)}"
                fake.machines[name] = b""
                fake.together += 1
                fake.most_together = max(fake.most_together, fake.together)
            return _json(201, {
                "sandboxID": name, "templateID": "base", "clientID": "c", "envdVersion": "0.5.8",
                "envdAccessToken": f"token-{name}", "domain": None, "alias": "base",
            })  # fmt: skip
        assert method == "DELETE"
        with _LOCK:
            fake.together -= 1
        return 204, b"", {}
    name = headers.get("E2b-Sandbox-Id")
    if name not in fake.machines or headers.get("X-Access-Token") != f"token-{name}":
        return _json(401, {"code": "unauthenticated", "message": "wrong token"})
    if parts.path == "/files":
        assert parse_qs(parts.query)["path"] == ["/home/user/main.py"]
        boundary = re.search(r"boundary=(\S+)", headers["Content-Type"])[1].encode()
        content = body.split(b"--" + boundary)[1].split(b"\r\n\r\n", 1)[1][:-2]
        fake.machines[name] = content
        return _json(200, [{"name": "main.py", "path": "/home/user/main.py", "type": "file"}])
    if parts.path != "/process.Process/Start":
        return _json(404, {"message": "Not Found"})
    size = struct.unpack_from(">BI", body)[1]
    job = json.loads(body[5 : 5 + size])
    assert job["process"]["args"][-1].endswith("/home/user/main.py")
    seconds = int(headers["Connect-Timeout-Ms"]) / 1000
    source = fake.machines[name].decode()
    run = run_in_sandbox(fake, source, "", seconds)
    events: list[dict[str, Any]] = [{"start": {"pid": 7}}]
    for at in range(0, len(run.output), 30_000):
        part = base64.b64encode(run.output[at : at + 30_000]).decode()
        events.append({"data": {"stdout": part}})
    last: dict[str, Any] = {}
    if run.ending.why == "time":
        last = {"error": {"code": "deadline_exceeded", "message": "context deadline exceeded"}}
    elif run.ending.code < 0:
        end = {"exitCode": -1, "exited": False, "status": f"signal: {-run.ending.code}"}
        events.append({"end": end})
    else:
        status = f"exit status {run.ending.code}"
        # Zeros are left out, as in all of protobuf's JSON.
        code = {"exitCode": run.ending.code} if run.ending.code else {}
        events.append({"end": {**code, "exited": True, "status": status}})
    stream = b"".join(_message(0, {"event": event}) for event in events) + _message(2, last)
    return 200, stream, {"Content-Type": "application/connect+json"}


def _message(flags: int, content: dict[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack(">BI", flags, len(text)) + text


def _json(status: int, content: Any) -> Answer:
    return status, json.dumps(content).encode(), {"Content-Type": "application/json"}


@contextlib.contextmanager
def serving(answer: Callable[[Fake, str, str, Any, bytes], Answer]) -> Iterator[Fake]:
    """A server for as long as the block runs."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self._body()
            with _LOCK:
                fake.seen.append((self.command, self.path))
                given = fake.first.pop(0) if fake.first else fake.always
            status, content, headers = given or answer(
                fake, self.command, self.path, self.headers, body
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
