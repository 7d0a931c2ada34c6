"""Programs judged at servers: each fake speaks its service's protocol and runs what it is sent."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import servers
from conftest import run_tracestill
from escapes import problem as secret_problem
from escapes import programs
from servers import KEY, Fake, serving

from filter.verify import Answer, verifier_name, verifier_names, verify, verify_many
from filter.verify.code import code
from filter.verify.code.bundle import bundle
from filter.verify.code.inside.host import END, line
from filter.verify.code.service import CONNECTIONS
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.rules import Rules
from tracestill.recipe.sandbox import Sandbox, host_of, read_sandbox
from tracestill.records import Problem

SERVICES = ("piston", "sandboxfusion", "e2b")
SECONDS = 1.0

needs_bwrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap, in which the servers run programs"
)


def problem(reference: Any, prompt: str = "Write a program.") -> Problem:
    return Problem(
        id="p", prompt=prompt, reference=json.dumps(reference), kind="code", source="test"
    )


def fenced(source: str) -> str:
    return f"```python\n{source}\n```\n"


@dataclass(frozen=True)
class Served:
    fake: Fake
    sandbox: Sandbox
    judge: Any


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_API_KEY", KEY)


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Served]]:
    with (
        serving(servers.piston) as a,
        serving(servers.sandboxfusion) as b,
        serving(servers.e2b) as c,
    ):
        found = {}
        for name, fake in zip(SERVICES, (a, b, c), strict=True):
            sandbox = read_sandbox(f"{name}={fake.url}")
            found[name] = Served(fake, sandbox, code(SECONDS, sandbox))
        yield found


@pytest.fixture(params=SERVICES)
def served(request: pytest.FixtureRequest, started: dict[str, Served]) -> Served:
    return started[request.param]


def payloads(fake: Fake, since: int = 0) -> list[str]:
    """All that was sent in programs, as text."""
    found = []
    for program in fake.programs[since:]:
        texts = re.findall(r'load\("([^"]+)"\)', program)
        found.append("".join(zlib.decompress(base64.b64decode(text)).decode() for text in texts))
    return found


@pytest.mark.parametrize(
    ("text", "service", "url", "host"),
    [
        ("bubblewrap", "bubblewrap", "", None),
        ("piston=http://localhost:2000", "piston", "http://localhost:2000", None),
        ("piston=http://127.0.0.1:2000/", "piston", "http://127.0.0.1:2000", None),
        ("piston=http://[::1]:2000", "piston", "http://[::1]:2000", None),
        ("piston=http://10.0.0.7:2000", "piston", "http://10.0.0.7:2000", "10.0.0.7"),
        ("piston=https://a.org/piston", "piston", "https://a.org/piston", "a.org"),
        ("sandboxfusion=http://Node-7:8080", "sandboxfusion", "http://Node-7:8080", "node-7"),
        ("sandboxfusion=http://localhost.evil.org", "sandboxfusion", "http://localhost.evil.org",
         "localhost.evil.org"),
        ("e2b", "e2b", "https://api.e2b.app", "api.e2b.app"),
        ("e2b=https://api.own.org", "e2b", "https://api.own.org", "api.own.org"),
    ],
)  # fmt: skip
def test_a_sandbox_is_read(text: str, service: str, url: str, host: str | None) -> None:
    sandbox = read_sandbox(text)
    assert (sandbox.service, sandbox.url, host_of(sandbox)) == (service, url, host)
    assert FilterSection(sandbox=text).sandbox == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no sandbox"),
        ("docker", "there is no sandbox 'docker'"),
        ("piston", "needs an address"),
        ("piston=localhost:2000", "needs an address"),
        ("piston=ftp://a", "needs an address"),
        ("piston=http://", "needs an address"),
        ("piston=http://a:x", "needs an address"),
        ("piston=http://a b", "needs an address"),
        ("piston=http://a?key=1", "needs an address"),
        ("bubblewrap=http://a", "needs an address"),
        ("piston=http://user:secret@a", "holds no password"),
        ("e2b=http://api.own.org", "write https"),
    ],
)
def test_what_is_no_sandbox_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_sandbox(text)
    assert "secret" not in str(raised.value)
    with pytest.raises(ValueError, match=message):
        FilterSection(sandbox=text)


ADD = {"inputs": ["1\n2", "3\n4"], "outputs": ["3", "7"], "fn_name": "add"}
SUM = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
HUMAN = {
    "test": "def check(candidate):\n    assert candidate([1, 2]) == helper(2)\n"
    "    try:\n        candidate(None)\n        assert False\n"
    "    except TypeError:\n        pass\n",
    "entry_point": "total",
}
PROMPT = (
    "from typing import List\n\ndef helper(n):\n    return n + 1\n\n"
    'def total(numbers: List[int]) -> int:\n    """ The sum. """\n'
)
SLOW = {"inputs": [str(n) for n in range(5)], "outputs": [str(n) for n in range(5)]}

PROGRAMS = [
    (SUM, "print(sum(map(int, input().split())))", "correct", "all tests pass"),
    (SUM, "import sys\nfor line in sys.stdin:\n    print(eval(line.replace(' ', '+')))",
     "correct", ""),
    (SUM, "print(sum(map(int, open(0).read().split())))", "correct", ""),
    (SUM, "from __future__ import annotations\nprint(eval(input().replace(' ', '+')))",
     "correct", ""),
    (SUM, "print(Counter(map(int, input().split())).total() and 3)", "incorrect", "test 2 of 2"),
    (SUM, "print(3)", "incorrect", "test 2 of 2: line 1 is '3', expected '7'"),
    (SUM, "print(3)\nraise ValueError('no')", "incorrect", "test 1 of 2: ValueError: no"),
    (SUM, "print(3", "incorrect", "SyntaxError"),
    (SUM, "import os\nprint(3, flush=True)\nos._exit(3)", "incorrect", "ended with code 3"),
    (SUM, "import ctypes\nctypes.string_at(0)", "incorrect", "killed by signal 11"),
    (SUM, "import os\nos.write(1, b'\\xff')", "incorrect", "no UTF-8"),
    (SUM, "x = bytearray(10**9)", "incorrect", "MemoryError"),
    (SUM, "while True:\n    pass", "incorrect", "test 1 of 2: timed out"),
    (SUM, "print(3) if input()[0] == '1' else time.sleep(99)", "incorrect", "test 2 of 2: timed"),
    (SUM, "while True:\n    print('x' * 10**6)", "incorrect", "printed more than 8 MB"),
    ({"inputs": ["é ü\n"], "outputs": ["é ü 漢"]}, "print(input(), '漢')", "correct", ""),
    (SLOW, "time.sleep(0.3)\nprint(input())", "correct", ""),
    (ADD, "def add(a, b):\n    return a + b", "correct", "all tests pass"),
    (ADD, "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b",
     "correct", ""),
    (ADD, "def add(a, b):\n    print('noise')\n    return a + b", "correct", ""),
    (ADD, "def add(a, b):\n    return 3", "incorrect", "test 2 of 2: 3, expected 7"),
    (ADD, "def plus(a, b):\n    return a + b", "incorrect", "NameError"),
    (ADD, "def add(a, b):\n    return a / 0", "incorrect", "test 1 of 2: ZeroDivisionError"),
    (ADD, "def add(a, b):\n    return time.sleep(99) if a > 1 else 3", "incorrect",
     "test 2 of 2: timed out"),
    (ADD, "def add(a, b):\n    return os._exit(0) if a > 1 else 3", "incorrect",
     "test 2 of 2: it ended without an answer"),
    (ADD, "def add(a, b):\n    return __import__('ctypes').string_at(0)", "incorrect", "signal 11"),
    (ADD, "def add(a, b):\n    time.sleep(0.6)\n    return a + b", "correct", ""),
]  # fmt: skip


@needs_bwrap
def test_programs_are_judged(served: Served) -> None:
    def judge(row: tuple[Any, str, str, str]) -> Any:
        return served.judge(problem(row[0], PROMPT), fenced(row[1]))

    # What runs them is the same everywhere: where it ran changes only how it comes back.
    rows = PROGRAMS if served.sandbox.service == "piston" else PROGRAMS[::3]
    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(judge, rows))
    for (_, source, outcome, detail), verdict in zip(rows, verdicts, strict=True):
        assert verdict.outcome == outcome, (source, verdict.detail)
        assert detail in verdict.detail, (source, verdict.detail)
        assert verdict.extracted == source + "\n"


def test_a_job_is_a_program_whose_hashes_are_fixed(tmp_path: Path) -> None:
    run = {"mode": "program", "sources": ["print(hash('a'), input())"], "prelude": True}
    limits = {"seconds": 5.0, "memory": 2**29, "bytes": 2**20}
    path = tmp_path / "main.py"
    path.write_text(bundle({"run": run, "inputs": ["é", "b"], **limits}), encoding="ascii")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHASHSEED", "PYTHONPATH")}
    command = [sys.executable, str(path)]
    outputs = {
        subprocess.check_output(command, text=True, env=environment, cwd=tmp_path) for _ in range(2)
    }
    [*lines, end] = outputs.pop().splitlines()
    assert (len(lines), end, outputs) == (2, END, set())


def test_a_test_that_is_code_is_refused_with_a_reason(served: Served) -> None:
    before = len(served.fake.seen)
    verdict = served.judge(problem(HUMAN, PROMPT), fenced(PROMPT + "    return sum(numbers)"))
    assert verdict.outcome == "unverifiable"
    assert verdict.detail.startswith("the test is code that talks with the program while it runs")
    assert verdict.detail.endswith("judge it in bubblewrap")
    assert len(served.fake.seen) == before


@needs_bwrap
def test_no_program_that_tries_to_escape_is_judged_correct(
    started: dict[str, Served], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("SECRET")
    given = {"port": 9, "file": str(tmp_path / "file"), "pid": os.getpid()}
    served = started["piston"]

    def attempt(row: dict[str, str]) -> tuple[dict[str, str], Any]:
        secret = f"SECRET-{secrets.token_hex(16)}"
        tests = secret_problem(row["shape"], given, secret)
        return row, served.judge(tests, fenced(row["source"]))

    with ThreadPoolExecutor(4) as threads:
        for row, verdict in threads.map(attempt, programs()):
            refused = row["shape"] == "check"
            outcomes = ("unverifiable",) if refused else ("incorrect", "unverifiable")
            assert verdict.outcome in outcomes, (row["tries"], verdict.detail)
            # The parent of a program is there its host, which it can kill: it ends the job.
            held = "ESCAPED" not in verdict.detail or row["tries"] == "kill its parent"
            assert held, row["tries"]
            assert "no sandbox" not in verdict.detail, (row["tries"], verdict.detail)


FORGERIES = [
    # In the place of the host's own results, through what it prints to.
    "line = {line!r}\nfor fd in range(3, 64):\n    try:\n"
    "        os.write(fd, line.encode())\n    except OSError:\n        pass\n"
    "def f(given):\n    return 1",
    "import filter.verify.code.inside.host as host\nhost.line = lambda *_: {line!r}\n"
    "def f(given):\n    return 1",
    "def f(given):\n    os.write(3, b'{{\"passed\": true}}\\n')\n    os.kill(os.getppid(), 9)",
    "def f(given):\n    [os.kill(os.getppid(), n) for n in (19, 9)]\n    os._exit(0)",
]


@needs_bwrap
@pytest.mark.parametrize("source", FORGERIES)
def test_what_is_written_in_the_hosts_place_says_only_other_values(
    started: dict[str, Served], source: str
) -> None:
    forged = [{"loaded": True}, {"value": True, "passed": True}, {"passed": True}]
    said = "".join(json.dumps(one) + "\n" for one in forged)
    output = base64.b64encode(said.encode()).decode()
    result = {"output": output, "errors": "", "code": 0, "why": ""}
    tests = secret_problem("call", {}, f"SECRET-{secrets.token_hex(16)}")
    source = source.format(line=line(result) + f"\n{END}\n")
    verdict = started["piston"].judge(tests, fenced(source))
    assert verdict.outcome == "incorrect", verdict.detail


@needs_bwrap
def test_no_expected_value_leaves(served: Served) -> None:
    secret, mark = "SECRET-of-the-test", "mark_of_the_program"
    for shape, source in [
        ("stdin", f"{mark} = 1\nprint(1)"),
        ("call", f"{mark} = 1\ndef f(given):\n    return 1"),
    ]:
        before = len(served.fake.programs)
        assert (
            served.judge(secret_problem(shape, {}, secret), fenced(source)).outcome == "incorrect"
        )
        sent = payloads(served.fake, before)
        assert any(mark in text for text in sent)
        assert not any(secret in text for text in sent)


@needs_bwrap
def test_e2bs_machines_are_for_one_program_each_and_ended(started: dict[str, Served]) -> None:
    served = started["e2b"]
    before, seen = len(served.fake.machines), len(served.fake.seen)
    assert served.judge(problem(ADD), fenced("add = int.__add__")).outcome == "correct"
    made = list(served.fake.machines)[before:]
    assert len(made) == 1
    calls = served.fake.seen[seen:]
    assert {path for method, path in calls if method == "DELETE"} == {
        f"/sandboxes/{name}" for name in made
    }


# What a server may do instead of what it should.


def judged(service: str, url: str, reference: Any = SUM, source: str = "print(3)") -> Any:
    return code(SECONDS, read_sandbox(f"{service}={url}"))(problem(reference), fenced(source))


def text(status: int, body: bytes, **headers: str) -> servers.Answer:
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("always", "says"),
    [
        (text(200, b"hello"), "answers 200|makes no machine"),
        (text(200, b'{"run": 3, "run_result": 3}'), "answers 200|makes no machine"),
        (text(200, b"[" * 100_000), "answers 200|makes no machine"),
        (text(200, b""), "answers 200|makes no machine"),
        (text(201, b'{"sandboxID": "i"}'), "answers 201|takes no program"),
        (text(302, b"", Location="http://example.invalid/"), "answers 302|makes no machine"),
        (text(404, b"Not Found"), "answers 404 \\(Not Found\\)|makes no machine"),
        (text(401, b"who?"), "answers 401|refuses the key"),
        (text(500, b"it broke", Retry_After="0"), "fails with 500 \\(it broke\\)"),
        (text(503, b"", Retry_After="0"), "fails with 503"),
        (text(429, b"", Retry_After="0"), "429"),
    ],
)
def test_a_server_that_fails_is_no_sandbox(service: str, always: servers.Answer, says: str) -> None:
    with serving(getattr(servers, service)) as fake:
        fake.always = always
        verdict = judged(service, fake.url)
        assert verdict.outcome == "unverifiable"
        assert re.match(f"no sandbox: {service} .*({says})", verdict.detail), verdict.detail
        assert "\n" not in verdict.detail
        assert not fake.programs


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_that_is_not_there_is_no_sandbox(service: str) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        verdict = judged(service, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert verdict.outcome == "unverifiable"
    assert re.match(f"no sandbox: {service} can't be reached at http://127", verdict.detail)


@pytest.mark.parametrize(
    ("environment", "passed"),
    [
        ({"HTTP_PROXY": "{proxy}"}, True),
        ({"ALL_PROXY": "{proxy}"}, True),
        ({"HTTPS_PROXY": "{proxy}"}, False),
        ({"ALL_PROXY": "{proxy}", "NO_PROXY": "sandbox.invalid"}, False),
    ],
)
def test_a_server_is_asked_through_the_proxy_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], passed: bool
) -> None:
    with serving(servers.piston) as proxy:
        proxy.always = text(404, b"")
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(proxy=proxy.url))
        judged("piston", "http://sandbox.invalid:2000")
        paths = [path for _, path in proxy.seen]
    assert paths == ["http://sandbox.invalid:2000/api/v2/runtimes"] * passed


@needs_bwrap
def test_a_server_on_this_machine_is_asked_through_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(servers.piston) as fake:
        verdict = judged("piston", fake.url, SUM, "print(eval(input().replace(' ', '+')))")
    assert verdict.outcome == "correct", verdict.detail


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_that_hangs_up_is_no_sandbox(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        verdict = judged(service, f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert verdict.outcome == "unverifiable"
    assert verdict.detail.startswith(f"no sandbox: {service} breaks off"), verdict.detail


def test_a_server_that_fails_does_not_cost_each_program_its_time() -> None:
    with serving(servers.piston) as fake:
        fake.always = text(500, b"", Retry_After="0")
        judge = code(SECONDS, read_sandbox(f"piston={fake.url}"))
        details = {judge(problem(SUM), fenced("print(3)")).detail for _ in range(20)}
        assert len(details) == 1
        assert len(fake.seen) == 5


@needs_bwrap
@pytest.mark.parametrize("service", SERVICES)
def test_a_server_that_is_busy_is_asked_again(service: str) -> None:
    with serving(getattr(servers, service)) as fake:
        fake.first = [text(429, b"", Retry_After="0.05"), text(503, b""), text(429, b"later")]
        verdict = judged(service, fake.url, SUM, "print(eval(input().replace(' ', '+')))")
    assert verdict.outcome == "correct", verdict.detail


@pytest.mark.parametrize(
    ("key", "says"), [(None, "not set"), (" ", "not set"), ("k\ney", "no key")]
)
def test_without_a_key_e2b_is_no_sandbox(
    monkeypatch: pytest.MonkeyPatch, key: str | None, says: str
) -> None:
    monkeypatch.delenv("E2B_API_KEY")
    if key:
        monkeypatch.setenv("E2B_API_KEY", key)
    with serving(servers.e2b) as fake:
        verdict = judged("e2b", fake.url)
        assert verdict.detail.startswith(f"no sandbox: E2B_API_KEY is {says}: set it")
        assert not fake.seen


def test_the_key_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_API_KEY", "e2b_another")
    with serving(servers.e2b) as fake:
        verdict = judged("e2b", fake.url)
        assert (verdict.outcome, "refuses the key" in verdict.detail) == ("unverifiable", True)
        for status in (400, 500):
            fake.always = text(status, b"no such key: e2b_another", Retry_After="0")
            verdict = judged("e2b", fake.url)
            assert "no such key: ..." in verdict.detail
            assert "e2b_another" not in repr(verdict)


@needs_bwrap
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"timeout": 3000}, "cannot exceed the configured limit of 3000.*PISTON_RUN_TIMEOUT"),
        ({"output": 1024}, "cuts what programs print.*PISTON_OUTPUT_MAX_SIZE"),
        ({"output": 1024, "old": True}, "killed by signal 9.*PISTON_OUTPUT_MAX_SIZE"),
        ({"versions": ["2.7.18", "3.9.4"]}, "no Python from 3.10 on"),
        ({"versions": []}, "no Python from 3.10 on"),
        ({"versions": ["3.13.0"]}, "runtime is unknown"),
    ],
)
def test_a_piston_with_other_limits_is_no_sandbox(limits: dict[str, Any], says: str) -> None:
    with serving(servers.piston) as fake:
        fake.limits = limits
        verdict = judged("piston", fake.url)
    assert verdict.outcome == "unverifiable"
    assert re.match(f"no sandbox: piston .*{says}", verdict.detail), verdict.detail


def fusion(stdout: str, **more: Any) -> servers.Answer:
    result = {"status": "Finished", "return_code": 0, "stdout": stdout, "stderr": "", **more}
    return 200, json.dumps({"status": "Success", "message": "", "run_result": result}).encode(), {}


def printed(text: str) -> str:
    output = base64.b64encode(text.encode()).decode()
    return line({"output": output, "errors": "", "code": 0, "why": ""}) + f"\n{END}\n"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([fusion(printed("0" * 48_000)), fusion(printed("True\n"))], "apart: .*SANDBOX_CONFIG"),
        ([fusion(printed("0" * 48_000)), fusion(printed(""))], "not keep programs apart"),
        ([fusion("")] * 3, "gives back nothing"),
        ([fusion("{}\n")], "does not run a program as it should"),
        ([fusion("x" * 150_000, status="TimeLimitExceeded", return_code=None)], "cuts what"),
        ([fusion("", return_code=1, stderr="Traceback\nPermissionError: /tmp")], "PermissionError"),
        ([(200, b'{"status":"SandboxError","message":"no cgroup"}', {})], "fails .no cgroup."),
    ],
)  # fmt: skip
def test_a_sandboxfusion_that_can_not_be_trusted_is_no_sandbox(
    answers: list[servers.Answer], says: str
) -> None:
    with serving(servers.sandboxfusion) as fake:
        fake.first = answers
        fake.always = text(500, b"no more", Retry_After="0")
        verdict = judged("sandboxfusion", fake.url)
    assert verdict.outcome == "unverifiable"
    assert re.match(f"no sandbox: sandboxfusion .*{says}", verdict.detail), verdict.detail


@needs_bwrap
def test_an_output_that_a_server_lost_is_asked_for_again(started: dict[str, Served]) -> None:
    served = started["sandboxfusion"]
    served.judge(problem(SUM), fenced("print(3)"))
    served.fake.first = [fusion(""), fusion(printed("3")[:10])]
    source = "print(eval(input().replace(' ', '+')))"
    assert served.judge(problem(SUM), fenced(source)).outcome == "correct"
    assert not served.fake.first


@needs_bwrap
def test_a_machine_that_fails_is_not_the_programs_fault(started: dict[str, Served]) -> None:
    served = started["sandboxfusion"]
    served.judge(problem(SUM), fenced("print(3)"))
    full = "Traceback\nOSError: [Errno 28] No space left on device"
    served.fake.first = [fusion("", return_code=1, stderr=full)]
    verdict = served.judge(problem(SUM), fenced("print(3)"))
    assert verdict.outcome == "unverifiable"
    assert re.match("no sandbox: sandboxfusion .*No space left", verdict.detail)
    assert served.judge(problem(SUM), fenced("print(3)")).outcome == "incorrect"


@needs_bwrap
def test_an_output_that_a_server_cuts_is_not_the_programs_fault(
    started: dict[str, Served],
) -> None:
    served = started["sandboxfusion"]
    tests = problem({"inputs": [""], "outputs": ["x"]})
    verdict = served.judge(tests, fenced("print(os.urandom(200_000).hex())"))
    assert verdict.outcome == "unverifiable"
    assert verdict.detail.startswith("sandboxfusion cuts what programs print")


@needs_bwrap
def test_tests_too_large_for_one_request_go_into_several(started: dict[str, Served]) -> None:
    served = started["piston"]
    large = [secrets.token_hex(30_000) for _ in range(5)]
    stdin = problem({"inputs": large, "outputs": [text[:9] for text in large]})
    assert served.judge(stdin, fenced("print(input()[:9])")).outcome == "correct"
    calls = {"inputs": [[t] for t in large], "outputs": [t[:9] for t in large], "fn_name": "f"}
    assert served.judge(problem(calls), fenced("f = lambda x: x[:9]")).outcome == "correct"
    whole = problem({"inputs": ["".join(large)], "outputs": ["1"]})
    verdict = served.judge(whole, fenced("print(1)"))
    assert verdict.outcome == "unverifiable"
    assert "larger than piston takes" in verdict.detail


@needs_bwrap
def test_many_threads_use_few_connections_and_a_fork_its_own(started: dict[str, Served]) -> None:
    served = started["piston"]

    def judge(number: int) -> str:
        tests = {"inputs": [str(number)], "outputs": [str(number)], "fn_name": "f"}
        return str(served.judge(problem(tests), fenced("def f(x):\n    return x")).outcome)

    with ThreadPoolExecutor(2 * CONNECTIONS) as threads:
        assert set(threads.map(judge, range(2 * CONNECTIONS))) == {"correct"}
    assert served.fake.most_together <= CONNECTIONS
    child = os.fork()
    if child == 0:
        os._exit(0 if judge(1) == "correct" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert judge(2) == "correct"


@needs_bwrap
def test_the_choice_reaches_verdicts_and_their_names(started: dict[str, Served]) -> None:
    served = started["piston"]
    rules = Rules(sandbox=served.sandbox)
    before = len(served.fake.programs)
    tests = problem(SUM)
    verdict = verify(tests, fenced("print(3)"), "t", rules)
    assert (verdict.outcome, verdict.verifier) == ("incorrect", "code/tracestill-0.1.0+piston")
    source = fenced("print(eval(input().replace(' ', '+')))")
    answers = [Answer(problem=tests, text=source, trace_id=str(n)) for n in range(3)]
    assert {v.outcome for v in verify_many(answers, rules)} == {"correct"}
    assert len(served.fake.programs) >= before + 4
    assert verifier_name("code") == "code/tracestill-0.1.0"
    assert verifier_name("math", rules) == verifier_name("math")
    assert verifier_names(rules) != verifier_names()


@needs_bwrap
def test_the_command_takes_a_sandbox(tmp_path: Path, started: dict[str, Served]) -> None:
    rows = [
        {"id": "a", "kind": "code", "reference": SUM, "completion": fenced("print(3)")},
        {"id": "b", "kind": "math", "reference": "1", "completion": "\\boxed{1}"},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    url = started["piston"].fake.url
    done = run_tracestill("verify", source, target, "--sandbox", f"piston={url}")
    assert done.returncode == 0, done.stderr
    found = [json.loads(row) for row in target.read_text().splitlines()]
    assert [row["outcome"] for row in found] == ["incorrect", "correct"]
    assert found[0]["verifier"].endswith("+piston")
    done = run_tracestill("verify", source, target, "--sandbox", "docker")
    assert done.returncode != 0
    assert "there is no sandbox 'docker'" in done.stderr
