"""No key is left behind: not in files, not in logs, not in the list of processes.

The endpoint here is hostile: whatever it is asked, it sends back the headers that it got.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generate.engine import Request
from generate.openai_engine import OpenaiEngine
from generate.served.secrets import HIDDEN, mask_secrets
from tracestill.recipe.models import ServedModel
from tracestill.records import Sampling, Trace, read_table
from tracestill.records import journal as journals

# Of no provider's shape, so that only who knows it can find it.
SECRET = "Kq7vR2mZp9Lw4tBx8Ndc3Hfj6YsG1u"
VARIABLE = "TRACESTILL_TEST_KEY"


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


def percent(text: str) -> str:
    return "".join(f"%{ord(c):02X}" for c in text)


def entities(text: str) -> str:
    return "".join(f"&#x{ord(c):X};" for c in text)


DISGUISES: list[Callable[[str], str]] = [str, quote, escaped, percent, entities]


def shows(text: str, secret: str = SECRET) -> bool:
    """Whether a text shows a secret or a part of it from which it could be guessed."""
    parts = [secret[:12], secret[9:21], secret[-12:]]
    return any(disguise(part) in text for part in parts for disguise in DISGUISES)


def leaks(folder: Path, secret: str = SECRET) -> list[str]:
    """The files under a folder that show a secret by name or content, tables uncompressed."""
    found = []
    for path in sorted(folder.rglob("*")):
        text = str(path.relative_to(folder))
        if path.is_symlink():
            text += os.readlink(path)
        elif path.is_file():
            text += path.read_bytes().decode("utf-8", errors="replace")
            if path.suffix == ".parquet":
                text += json.dumps(pq.read_table(path).to_pylist(), default=str)  # type: ignore[no-untyped-call]
        if shows(text, secret):
            found.append(str(path))
    return found


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda one: one.__name__)
def test_the_search_finds_what_it_looks_for(tmp_path: Path, disguise: Callable[[str], str]) -> None:
    assert leaks(tmp_path) == []
    text = f"x{disguise(SECRET[3:])}x"
    (tmp_path / "log").write_text(text)
    (tmp_path / "cut").write_text(SECRET[:13])
    (tmp_path / f"name-{SECRET}").write_text("")
    pq.write_table(pa.table({"raw": [text]}), tmp_path / "t.parquet", compression="zstd")  # type: ignore[no-untyped-call]
    (tmp_path / "innocent").write_text("x" * 1000)
    names = [Path(path).name for path in leaks(tmp_path)]
    assert names == ["cut", "log", f"name-{SECRET}", "t.parquet"]


def either(text: str) -> str:
    """Some of its characters escaped, in one way and another."""
    ways = [str, escaped, percent, entities]
    return "".join(ways[index % 4](c) for index, c in enumerate(text))


@pytest.mark.parametrize("disguise", [*DISGUISES, either], ids=lambda one: one.__name__)
def test_a_secret_is_masked_however_it_is_escaped(disguise: Callable[[str], str]) -> None:
    key = "sk+/=" + SECRET
    text = f'{{"error": "Bearer {disguise(key)} is wrong: {disguise(key)}"}}'
    assert mask_secrets(text, [key]) == f'{{"error": "Bearer {HIDDEN} is wrong: {HIDDEN}"}}'


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("EMPTY is no secret", ["EMPTY"]),
        ("", [SECRET]),
        (SECRET[:-1], [SECRET]),
        (r"100\% of $\underline{x}$ &#120; \u0041 %41", [SECRET]),
        ("text", []),
        ("text", [""]),
    ],
)
def test_other_text_is_left_as_it_is(text: str, secrets: list[str]) -> None:
    assert mask_secrets(text, secrets) == text


def test_every_secret_is_masked() -> None:
    other = SECRET[::-1]
    assert mask_secrets(f"{SECRET}{other}", [other, SECRET]) == HIDDEN * 2


Reply = tuple[int, Mapping[str, str], bytes]


def as_json(body: Any, status: int = 200, **headers: str) -> Reply:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()


def completion(text: str, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **fields.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **fields.pop("choice", {})}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage, **fields}


def replies(echo: str, elsewhere: str) -> list[Reply]:
    """What a hostile endpoint answers in turn; `echo` is what it was sent."""
    padding = "x" * (195 - len("Bearer "))  # a reply that is cut at 200 characters cuts the key
    unfinished = json.dumps(completion(echo))[:-20].encode()
    html = f"<html>{entities(echo)}</html>".encode()
    escape = json.dumps(completion("4")).replace('"4"', f'"{escaped(echo)}"').encode()
    return [
        as_json({"error": {"message": echo, "type": echo, "code": echo}}, 500, **{"X-Key": echo}),
        as_json({"error": {"message": echo, "code": "rate"}}, 429, **{"Retry-After": "0"}),
        as_json({"error": {"message": f"{padding}{echo}"}}, 503, **{"Retry-After": echo}),
        as_json({"error": {"message": echo, "code": 500}}),
        as_json({"choices": [], "echo": echo}),
        (200, {"Content-Type": "application/json"}, unfinished),
        (502, {"Content-Type": "text/html"}, html),
        (200, {"Content-Type": "text/plain"}, percent(echo).encode() + b"\xff\xfe"),
        as_json({"error": {"message": f"no: {padding}{echo}"}}, 400),
        as_json({"error": {"message": f"maximum context length is {echo}"}}, 400),
        as_json({"error": echo}, 418),
        (307, {"Location": f"{elsewhere}/{echo}", "Content-Length": "0"}, b""),
        as_json(completion(echo, message={"reasoning_content": f"I was sent {echo}"})),
        as_json(completion(f"\\boxed{{{percent(echo)}}}", id=echo, model=echo)),
        as_json(completion("4", choice={"finish_reason": echo})),
        as_json(completion("4", usage={"prompt_tokens": echo, "cost": echo, "total_tokens": echo})),
        as_json(completion(entities(echo), choice={"finish_reason": "length"})),
        (200, {"Content-Type": "application/json"}, escape),
    ]  # fmt: skip


def batch_reply(asked: str, lines: str, echo: str) -> Reply:
    """What a hostile endpoint answers of a batch, whose requests are `lines`."""
    ids = re.findall(r'"custom_id":"([^"]+)"', lines)
    batch = {
        "id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "created_at": 1,
        "input_file_id": "in", "completion_window": "24h", "status": "completed",
        "output_file_id": "out", "error_file_id": "wrong",
        "errors": {"data": [{"code": echo, "message": echo}]},
    }  # fmt: skip
    good = [{"status_code": 200, "body": completion(one)} for one in (echo, percent(echo))]
    bad = [
        {"status_code": 400, "body": {"error": {"message": f"{'x' * 190}{echo}"}}},
        {"status_code": echo, "body": echo},
    ]
    rows = {
        "out": [{"custom_id": i, "response": r} for i, r in zip(ids[:2], good, strict=True)],
        "wrong": [
            {"custom_id": i, "response": r, "error": echo}
            for i, r in zip(ids[2:], bad, strict=True)
        ],
    }
    match asked.split("/v1/")[-1].split("/"):
        case ["files"]:
            return as_json({"id": "in", "object": "file", "filename": echo, "purpose": "batch",
                            "bytes": 1, "created_at": 1, "status": "processed"})  # fmt: skip
        case ["files", name, "content"]:
            data = "".join(json.dumps(row) + "\n" for row in rows[name])
            return 200, {"Content-Type": "application/jsonl"}, data.encode()
        case ["batches", _]:
            return as_json(batch)
    if asked.startswith("GET"):
        return as_json({"object": "list", "data": [], "has_more": False})
    return as_json(batch)


class Hostile:
    """A server that sends back what it was sent, and what it was asked."""

    def __init__(self, elsewhere: str = "", refuse: bool = False) -> None:
        self.seen: list[str] = []
        self.bodies: list[str] = []
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                echo = self.headers.get("Authorization", "nothing")
                with lock:
                    turn = len(outer.bodies)
                    outer.seen.append(f"{self.path} {echo}")
                    if self.command == "POST":
                        outer.bodies.append(body)
                if "/batches" in self.path or "/files" in self.path:
                    reply = batch_reply(f"{self.command} {self.path}", outer.bodies[0], echo)
                elif refuse:
                    reply = as_json({"error": {"message": f"Incorrect API key: {echo}"}}, 401)
                elif self.command == "GET":
                    reply = as_json({"object": "list", "data": [{"id": "m", "owned_by": echo}]})
                else:
                    ways = replies(echo, elsewhere)
                    reply = ways[turn % len(ways)]
                status, headers, data = reply
                self.send_response(status, message=echo)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def hostile(**options: Any) -> Iterator[Hostile]:
    server = Hostile(**options)
    try:
        yield server
    finally:
        server.close()


RECIPE = """\
name: hostile
problems:
  train: [{{source: reasoning_gym, family: chain_sum, size: 24, seed: 1}}]
  heldout: [{{source: reasoning_gym, family: chain_sum, size: 2, seed: 2}}]
generate:
  engine: openai
  model: m
  base_urls: ['{url}/v1']
  api_key_env: {variable}
  concurrency: 4
  retries: 2
  max_tokens: 64
filter: {{decontaminate: null}}
finetune: {{student: some/student, template: t.jinja, stop: "x"}}
"""


def run_watched(folder: Path, url: str, proxy: str = "") -> tuple[int, str, list[str]]:
    """A run to the end of the filter stage, with the secret and a proxy in its environment and all
    that it writes under `folder`: its status, what it printed, and command lines that showed the
    secret.
    """
    (folder / "t.jinja").write_text("{#- a template -#}")
    recipe = folder / "r.yaml"
    recipe.write_text(RECIPE.format(url=url, variable=VARIABLE))
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    environment = os.environ | {
        VARIABLE: SECRET,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "OPENAI_LOG": "debug",
        "PYTHONASYNCIODEBUG": "1",
        "NO_PROXY": "",
        "no_proxy": "",
    }
    environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), proxy)
    command = [sys.executable, "-m", "tracestill", "--debug", "run", recipe, "--to", "filter"]
    shown: set[str] = set()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            [*command, "--out", folder / "run"], env=environment, stdout=output, stderr=output
        )
        try:
            while child.poll() is None:
                shown |= {line for line in command_lines() if shows(line)}
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.05)
        finally:
            child.kill()
        output.seek(0)
        return child.wait(), output.read(), sorted(shown)


def command_lines() -> Iterator[str]:
    """Those of all processes, as anybody on the machine can read them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue


def test_no_key_is_left(tmp_path: Path) -> None:
    with hostile() as elsewhere, hostile(elsewhere=elsewhere.url) as server:
        status, said, shown = run_watched(tmp_path, server.url, proxy=elsewhere.url)
        # The filter keeps nothing of what such a server sends, which ends the run.
        assert (status, "none of 24 traces is kept" in said) == (1, True), said
        assert any(SECRET in line for line in server.seen), "the key was never sent"
        assert elsewhere.seen == [], "a redirect was followed, or this machine asked past a proxy"
    assert not any(SECRET in body for body in server.bodies)
    assert not shows(said)
    assert shown == []
    assert leaks(tmp_path) == []
    # All of the server's tricks went into rows, and nothing but the key is missing in them.
    traces = list(read_table(tmp_path / "run" / "generate", "traces", Trace))
    assert len(traces) == 24
    assert {"stop", "length", "error", "skipped"} == {trace.finish for trace in traces}
    stored = json.dumps([row for row, _ in journals.read(tmp_path / "run/generate/journal.jsonl")])
    assert "I was sent Bearer " in stored
    assert HIDDEN in stored


def test_a_refused_key_is_not_told(tmp_path: Path) -> None:
    with hostile(refuse=True) as server:
        status, said, shown = run_watched(tmp_path, server.url)
    assert status != 0
    assert any(SECRET in line for line in server.seen)
    assert VARIABLE in said, "the line for the user names the variable"
    assert not shows(said)
    assert shown == []
    assert leaks(tmp_path) == []


def test_no_key_is_left_by_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=9, seed=None)
    with hostile() as server:
        model = ServedModel(
            engine="openai", model="m", base_urls=[f"{server.url}/v1"], api_key_env=VARIABLE,
            batch=True, retries=0,
        )  # fmt: skip
        engine = OpenaiEngine(model, sampling, state=tmp_path)
        messages = [{"role": "user", "content": "2+2"}]
        requests = [Request(id=f"r{n}", messages=messages, seed=None) for n in range(4)]
        responses = [one for one in engine.stream(requests) if one is not None]
        engine.close()
    assert any(SECRET in line for line in server.seen)
    assert {one.id: one.finish for one in responses} == {
        "r0": "stop", "r1": "stop", "r2": "error", "r3": "error",
    }  # fmt: skip
    assert not shows(repr(responses) + repr(engine) + repr(vars(engine)))
    assert HIDDEN in repr(responses)
    assert leaks(tmp_path) == []
