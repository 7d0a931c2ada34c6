"""Requests a second of the client of `engine: openai`, on one core, against a server that answers
at once: `python benchmarks/generate_client.py`. Ours is all of `generate.run.ask`, with the
durable journal and its index. Beside it stands the approach of open-r1's generate_reasoning.py,
written anew from its description: aiohttp, a task a row, a lock around an append, nothing synced.

Of that there are two: as it is (each request waits up to 0.1 s before it is sent; each step of an
append is a hop to a thread, as aiofiles does it), and `bare`, without those, which it would be
unfair to win against. Neither draws a progress bar, which the original does for every row.

The server is a process of its own on a core of its own; the client, all of its threads, on
another. A measurement is a process of its own; the ways take turns, and the median of the repeats
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if str(Path(__file__).parent) in sys.path:
    sys.path.remove(str(Path(__file__).parent))  # it holds a file that is named like `generate`

SERVER_CORE, CLIENT_CORE = 1, 0
CONCURRENCY = 256
SIZES = {"2 kB": 2_000, "40 kB": 40_000}
WAYS = ("tracestill", "open-r1", "open-r1, bare")
SAMPLING = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 16384}


def response(size: int) -> bytes:
    """A chat completion with an answer of so many bytes, as it goes over the wire."""
    text = "<think>\nSo we add 2 and 3, and \\(2 + 3 = 5\\). Wait, is it?\n" * (size // 60 + 1)
    text = text[: size - 20] + "\n</think>\n\n5"
    usage = {"prompt_tokens": 40, "completion_tokens": size // 4, "total_tokens": 40 + size // 4}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "reasoning_content": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    body = json.dumps(
        {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], "usage": usage,
        }
    ).encode()  # fmt: skip
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class _Serving(asyncio.Protocol):
    """Answers every whole request with the same bytes, without a look at what it says."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._came = answer, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            head = self._came[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._came) < end + 4 + length:
                return
            self._came = self._came[end + 4 + length :]
            self._transport.write(self._answer)


async def serve(size: int) -> None:
    """Serve until killed; the port is printed."""
    answer = response(size)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Serving(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def prompt(number: int) -> str:
    """A problem of ordinary length."""
    return f"Problem {number}. What is {number} + 3? " + "Put the answer into \\boxed{}. " * 8


def ours(port: int, count: int, folder: Path) -> float:
    """Seconds for so many requests through `generate.run.ask`."""
    import aiohttp  # noqa: F401  # neither way pays for its imports

    from generate.asking import Asking
    from generate.openai_engine import OpenaiEngine
    from generate.run import ask
    from generate.stopping import Rule
    from tracestill.records import Problem, Sampling, problem_id
    from tracestill.records.models import ServedModel

    problems = [
        Problem(
            id=problem_id(prompt(n), "5"), prompt=prompt(n), reference="5", kind="math", source="b"
        )
        for n in range(count)
    ]
    section = ServedModel(
        engine="openai", model="m", base_urls=[f"http://127.0.0.1:{port}/v1"],
        concurrency=CONCURRENCY,
    )  # fmt: skip
    from tracestill.models import as_teacher

    sampling = Sampling(**SAMPLING, top_k=-1, seed=None)  # type: ignore[arg-type]
    asking = Asking(
        teacher=as_teacher(section, sampling),
        open_engine=lambda: OpenaiEngine(section, sampling),
        rule=Rule(min=1, max=1),
        journal=folder / "journal.jsonl",
        seed=0,
    )
    begin = time.monotonic()
    ledger = ask(problems, asking, lambda event: None)
    seconds = time.monotonic() - begin
    assert ledger.samples == count
    return seconds


async def theirs(port: int, count: int, folder: Path, *, bare: bool) -> float:
    """Seconds for so many requests the other way."""
    import aiohttp

    lock = asyncio.Lock()
    path = folder / "rows.jsonl"
    loop = asyncio.get_running_loop()

    async def complete(session: aiohttp.ClientSession, text: str) -> Any:
        if not bare:
            await asyncio.sleep(random.uniform(0.0, 0.1))
        body = {"model": "default", "messages": [{"role": "user", "content": text}], **SAMPLING}
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with session.post(url, json=body, headers={"Authorization": "Bearer EMPTY"}) as came:
            return await came.json(content_type=None)

    async def row(session: aiohttp.ClientSession, number: int) -> None:
        text = prompt(number)
        (came,) = await asyncio.gather(complete(session, text))
        done = {
            "uuid": number,
            "problem": text,
            "generations": [came["choices"][0]["message"]["content"]],
            "finish_reasons": [came["choices"][0]["finish_reason"]],
            "api_metadata": [came["usage"]],
        }
        line = json.dumps(done) + "\n"
        async with lock:
            if bare:
                with path.open("a") as file:
                    file.write(line)
            else:
                file = await loop.run_in_executor(None, path.open, "a")
                await loop.run_in_executor(None, file.write, line)
                await loop.run_in_executor(None, file.flush)
                await loop.run_in_executor(None, file.close)

    begin = time.monotonic()
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:
        running: set[asyncio.Task[None]] = set()
        for number in range(count):
            while len(running) >= CONCURRENCY:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            running.add(asyncio.create_task(row(session, number)))
        await asyncio.gather(*running)
    seconds = time.monotonic() - begin
    with path.open("rb") as file:
        assert sum(1 for _ in file) == count
    return seconds


@contextmanager
def server(size: int) -> Iterator[int]:
    """A server of such responses on its core; its port."""
    command = [sys.executable, __file__, "--serve", str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def measure(way: str, port: int, count: int) -> float:
    """Requests a second of a way, in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--port", str(port), "--count", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return count / float(done.stdout)


def rates(repeats: int, count: int) -> dict[str, Any]:
    """Requests a second of each way for each size: the median, and each repeat."""
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        raise ValueError("the server and the client need a core each; here is one only")
    found: dict[str, Any] = {}
    for name, size in SIZES.items():
        each: dict[str, list[float]] = {way: [] for way in WAYS}
        with server(size) as port:
            for _ in range(repeats):
                for way in WAYS:
                    each[way].append(round(measure(way, port, count), 1))
        median = {way: statistics.median(values) for way, values in each.items()}
        found[name] = {
            "requests_per_second": median,
            "times_open_r1": round(median["tracestill"] / median["open-r1"], 2),
            "times_bare": round(median["tracestill"] / median["open-r1, bare"], 2),
            "repeats": each,
        }
    return found | {"concurrency": CONCURRENCY, "requests": count}


def main() -> None:
    """The command line; the hidden options are for its own child processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=6000, help="requests in a measurement")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import uvloop

    if arguments.serve:
        os.sched_setaffinity(0, {SERVER_CORE})
        uvloop.run(serve(arguments.serve))
    elif arguments.way:
        os.sched_setaffinity(0, {CLIENT_CORE})
        with tempfile.TemporaryDirectory() as name:
            values = arguments.port, arguments.count, Path(name)
            if arguments.way == "tracestill":
                print(ours(*values))
            else:
                print(uvloop.run(theirs(*values, bare=arguments.way.endswith("bare"))))
    else:
        found = rates(arguments.repeats, arguments.count)
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
