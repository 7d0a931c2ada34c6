"""Who may ask `tracestill view`, and that no request leads anywhere but to its runs."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from conftest import ROOT, run_tracestill
from kept_run import make_run, row
from viewing import Viewer, viewing

from tracestill.records import Trace, read_table
from tracestill.records.decisions import DECISIONS

PAGE = ROOT / "tracestill" / "view" / "page"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("guarded"), [row(n) for n in range(3)])[1]


@pytest.fixture(scope="module")
def viewer(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewing(tmp_path_factory.mktemp("guard"), run) as found:
        yield found.ready()


def test_it_listens_on_loopback_only(viewer: Viewer) -> None:
    listening = [
        one.laddr
        for one in psutil.Process(viewer.process.pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert [(one.ip, one.port) for one in listening] == [("127.0.0.1", viewer.port)]


def test_the_token_is_exchanged_for_a_cookie(viewer: Viewer) -> None:
    query = urlsplit(viewer.url).query
    said = viewer.send(f"/?{query}").headers["set-cookie"]
    value, *flags = said.split("; ")
    assert set(flags) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert query.removeprefix("token=") not in value
    assert len(query) > 40
    assert viewer.send("/api/runs", [("Cookie", value)]).status == 200
    assert viewer.send("/", [("Cookie", f"a=b; {value}; c=d")]).status == 200


@pytest.mark.parametrize(
    ("path", "cookie"),
    [
        ("/", ""), ("/?token=", ""), ("/?token=wrong", ""), ("/?token=wrong", "{own}"),
        ("/api/runs", ""), ("/api/runs?{token}", ""), ("/static/main.js", ""),
        ("/api/runs/0/live", "{name}=wrong"), ("/api/runs", "{name}="),
        ("/api/runs", "{name}=wrong; {name}=wrong"), ("/api/runs", "tracestill-view-1={value}"),
        ("/nothing", ""),
    ],
)  # fmt: skip
def test_without_the_token_nothing_is_told(viewer: Viewer, path: str, cookie: str) -> None:
    name, _, value = viewer.cookie.partition("=")
    given = cookie.format(own=viewer.cookie, name=name, value=value)
    token = urlsplit(viewer.url).query
    reply = viewer.send(path.format(token=token), [("Cookie", given)] if given else [])
    assert reply.status == 403
    assert "set-cookie" not in reply.headers
    assert "token" in reply.values["detail"]


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = pytest.importorskip("tracestill.view.guard")
    compared = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return given == wanted

    monkeypatch.setattr(guard.hmac, "compare_digest", compare)
    app = guard.Guard(None, 1, "the-token")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    def ask(query: bytes, cookie: bytes) -> None:
        headers = [(b"host", b"127.0.0.1:1"), (b"cookie", cookie)]
        scope = {
            "type": "http", "path": "/", "method": "GET", "query_string": query, "headers": headers,
        }  # fmt: skip
        asyncio.run(app(scope, None, send))

    ask(b"token=wrong", b"")
    ask(b"", b"tracestill-view-1=wrong")
    assert [one for one, _ in compared] == [b"wrong", b"wrong"]
    assert [one["status"] for one in sent if "status" in one] == [403, 403]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]:{port}",
     "127.0.0.1:{port}.evil.example", "0.0.0.0:{port}", "127.1:{port}", ""],
)  # fmt: skip
def test_another_host_is_refused(viewer: Viewer, host: str) -> None:
    headers = [("Host", host.format(port=viewer.port)), ("Cookie", viewer.cookie)]
    assert viewer.send("/api/runs", headers).status in (400, 403)


def test_loopback_has_two_names(viewer: Viewer) -> None:
    headers = [("Host", f"localhost:{viewer.port}"), ("Cookie", viewer.cookie)]
    assert viewer.send("/api/runs", headers).status == 200
    own = ("Host", f"127.0.0.1:{viewer.port}")
    assert viewer.send("/api/runs", [own, own, ("Cookie", viewer.cookie)]).status in (400, 403)


@pytest.mark.parametrize(
    ("origin", "kind", "status"),
    [
        ("", "application/json", 403), ("null", "application/json", 403),
        ("http://evil.example", "application/json", 403),
        ("https://127.0.0.1:{port}", "application/json", 403),
        ("http://127.0.0.1:1", "application/json", 403),
        ("http://localhost:{port}", "application/json", 403),
        ("http://127.0.0.1:{port}", "text/plain", 415),
        ("http://127.0.0.1:{port}", "application/x-www-form-urlencoded", 415),
        ("http://127.0.0.1:{port}", "", 415),
    ],
)  # fmt: skip
def test_only_the_page_itself_may_change_something(
    viewer: Viewer, run: Path, origin: str, kind: str, status: int
) -> None:
    trace = next(iter(read_table(run / "generate", "traces", Trace))).id
    body = json.dumps({"trace_id": trace, "verdict": "correct"}).encode()
    headers = [("Cookie", viewer.cookie)]
    headers += [("Origin", origin.format(port=viewer.port))] if origin else []
    headers += [("Content-Type", kind)] if kind else []
    assert viewer.send("/api/runs/0/decisions", headers, body).status == status
    assert not (run / DECISIONS).exists()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_other_methods_need_the_origin_too(viewer: Viewer, method: str) -> None:
    reply = viewer.send("/api/runs", [("Cookie", viewer.cookie)], method=method)
    assert reply.status == 403


def test_a_body_is_short_and_says_how_long_it_is(viewer: Viewer) -> None:
    headers = [
        ("Cookie", viewer.cookie), ("Origin", viewer.origin), ("Content-Type", "application/json"),
    ]  # fmt: skip
    path = "/api/runs/0/decisions"
    assert viewer.send(path, headers, b"[" * 20_000).status == 413
    chunked = [*headers, ("Transfer-Encoding", "chunked")]
    assert viewer.send(path, chunked, b"2\r\n{}\r\n0\r\n\r\n").status == 413
    assert viewer.send(path, headers, b"[[[").status == 422
    long = {"trace_id": "a", "verdict": "correct", "note": "n" * 3_000}
    assert viewer.post(path, long).status == 422
    assert viewer.post(path, {"trace_id": "a", "verdict": "right"}).status == 422
    assert viewer.post(path, {"trace_id": "a", "verdict": "correct", "x": 1}).status == 422
    assert viewer.post(path, {"trace_id": "../../x", "verdict": "correct"}).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/index.html",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/main.js%00.css", "/etc/passwd",
        "/api/runs/1/live", "/api/runs/-1/live", "/api/runs/0/traces/..%2f..%2frecipe.yaml",
        "/api/runs/0/traces/%27%20OR%201=1", "/docs", "/openapi.json", "/redoc",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(viewer: Viewer, path: str) -> None:
    assert viewer.send(path, [("Cookie", viewer.cookie)]).status == 404


def test_quotes_in_filters_are_values(viewer: Viewer) -> None:
    for text in ("' OR 1=1 --", '" OR ""="', "kept'; DROP TABLE traces; --", "\u0000", "%"):
        for name in ("reason", "task", "step", "outcome", "finish"):
            assert viewer.get("/api/runs/0/traces", **{name: text})["total"] == 0
        viewer.get("/api/runs/0/traces", q=text)
        viewer.get("/api/runs/0/traces", q=f"one AND ({text}* NEAR/2 two) OR -three : four ^five")
    assert viewer.get("/api/runs/0/traces")["total"] == 3


@pytest.mark.parametrize(
    ("path", "cookie"),
    [("/", True), ("/", False), ("/static/main.js", True), ("/api/runs", True), ("/none", True),
     ("/api/runs/x/live", True), ("/api/runs/0/traces?limit=0", True)],
)  # fmt: skip
def test_every_answer_has_the_strict_headers(viewer: Viewer, path: str, cookie: bool) -> None:
    headers = viewer.send(path, [("Cookie", viewer.cookie)] if cookie else []).headers
    policy = dict(one.split(" ", 1) for one in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_scripts_never_read_markup_and_the_page_has_none_of_its_own() -> None:
    scripts = sorted(PAGE.glob("*.js"))
    assert len(scripts) >= 6
    for script in scripts:
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|srcdoc|"
            r"DOMParser|createContextualFragment|https?://(?!www\.w3\.org/2000/svg)",
            script.read_text(),
        )
        assert found is None, f"{script.name}: {found}"
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\son\w+=|\sstyle=|https?://", page)
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="/static/main.js">']


def test_the_token_is_written_nowhere_else(viewer: Viewer) -> None:
    viewer.send(f"/?{urlsplit(viewer.url).query}")
    assert "token" not in viewer.errors.read_text()
    assert "token" not in " ".join(psutil.Process(viewer.process.pid).cmdline())


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, run: Path) -> None:
    done = run_tracestill("view", run, tmp_path, "--no-browser")
    assert done.returncode == 1
    assert done.stderr.startswith(f"tracestill: {tmp_path} is no run")
    assert done.stdout == ""


def test_a_port_in_use_is_one_line(run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_tracestill("view", run, "--no-browser", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"tracestill: port {port} can't be had (Address already in use)")
    assert len(done.stderr.splitlines()) == 1


def test_two_views_may_run_at_once(run: Path, tmp_path: Path) -> None:
    """Without `--port` the second takes another one; they share the indexes."""
    with viewing(tmp_path, run) as one, viewing(tmp_path, run) as two:
        assert one.port != two.port
        for viewer in (one, two):
            assert viewer.ready().get("/api/runs/0/traces")["total"] == 3
            assert viewer.send("/api/runs", [("Cookie", one.cookie)]).status == (
                200 if viewer is one else 403
            )


@pytest.mark.parametrize("module", ["duckdb", "uvicorn", "fastapi"])
def test_a_missing_extra_is_one_line(run: Path, tmp_path: Path, module: str) -> None:
    said = f"raise ModuleNotFoundError('no such module', name={module!r})\n"
    (tmp_path / f"{module}.py").write_text(said)
    done = run_tracestill(
        "view", run, "--no-browser", PYTHONPATH=f"{tmp_path}:{ROOT}", XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"tracestill: {module} is not installed: `pip install 'tracestill[view]'` installs what "
        "the view needs\n"
    )
