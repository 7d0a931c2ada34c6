"""The server of `tracestill view` as a user starts it, and a client that may send what it likes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest


@dataclass(slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def values(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Viewer:
    """A server that runs, and the address that it printed."""

    url: str
    process: subprocess.Popen[str]
    errors: Path
    cookie: str = ""
    further: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(
        self, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None,
        method: str = "",
    ) -> Reply:  # fmt: skip
        """Send exactly these headers; Host is the server's own unless it is among them."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        line.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True)
        names = {name.lower() for name, _ in headers}
        if "host" not in names:
            line.putheader("Host", f"127.0.0.1:{self.port}")
        for name, value in headers:
            if value or name.lower() != "host":
                line.putheader(name, value)
        if body is not None and not {"content-length", "transfer-encoding"} & names:
            line.putheader("Content-Length", str(len(body)))
        line.endheaders(body)
        reply = line.getresponse()
        found = Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        line.close()
        return found

    def get(self, path: str, **values: object) -> Any:
        """The answer that the page gets."""
        query = f"?{urlencode(values)}" if values else ""
        reply = self.send(quote(path) + query, [("Cookie", self.cookie)])
        assert reply.status == 200, reply.body
        return reply.values

    def post(self, path: str, values: Any) -> Reply:
        """Send as the page does."""
        headers = [
            ("Cookie", self.cookie), ("Origin", self.origin), ("Content-Type", "application/json"),
        ]  # fmt: skip
        return self.send(path, headers, json.dumps(values).encode())

    def ready(self, number: int = 0) -> Viewer:
        """Wait until a run's indexes are whole."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.get(f"/api/runs/{number}/traces", q="the")
            if found["state"] == "ready" and found["searched"] == found["traces"]:
                return self
            assert not found["failed"], found["failed"]
            time.sleep(0.05)
        raise AssertionError("the index is not made")


@contextmanager
def viewing(folder: Path, *runs: Path, options: Sequence[str] = ()) -> Iterator[Viewer]:
    """A server of some runs, with its cache in a folder."""
    pytest.importorskip("duckdb", reason="needs the extra view")
    errors = folder / "view.stderr"
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "tracestill", "view", *map(str, runs), "--no-browser"]
    with errors.open("w") as file:
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=file, text=True, env=env
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("Open ").strip()
        assert url.startswith("http://127.0.0.1:"), errors.read_text()
        viewer = Viewer(url, process, errors)
        split = urlsplit(url)
        reply = viewer.send(f"/?{split.query}")
        assert reply.status == 200
        viewer.cookie = reply.headers["set-cookie"].partition(";")[0]
        yield viewer
    finally:
        process.send_signal(signal.SIGINT)
        ended = process.wait(30)
    assert ended in (0, -signal.SIGTERM), errors.read_text()
