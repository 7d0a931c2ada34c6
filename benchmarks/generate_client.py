"""Requests a second of the client of `engine: openai`, on one core, against a server that answers
at once: `python benchmarks/generate_client.py`. Ours is all of `generate.sampling.sample_missing`,
with the durable journal and its index. Beside it stand bare clients that only send and parse:
httpx2, the same library, as one would write it (`httpx2`) and with the connection pools that ours
has (`httpx2, pools`), and aiohttp.

The server is a process of its own on a core of its own; the client, all of its threads, on
another. A measurement is a process of its own; the ways take turns, and the median of the repeats
counts. Requests a second of the client's CPU time are what one core makes that nothing else uses:
they are compared, since they hold on a shared machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if str(Path(__file__).parent) in sys.path:
    sys.path.remove(str(Path(__file__).parent))  # it holds a file that is named like `generate`

Post = Callable[[str, Any], Awaitable[Any]]
SERVER_CORE, CLIENT_CORE = 1, 0
CONCURRENCY = 256
SIZES = {"2 kB": 2_000, "40 kB": 40_000}
WAYS = ("tracestill", "httpx2", "httpx2, pools", "aiohttp")
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


class Clock:
    """Seconds of time and of this process's CPU time."""

    def __init__(self) -> None:
        self.wall, self.cpu = -time.monotonic(), -time.process_time()

    def stop(self) -> None:
        """Keep the seconds since the beginning."""
        self.wall += time.monotonic()
        self.cpu += time.process_time()

    def __str__(self) -> str:
        return f"{self.wall} {self.cpu}"


def ours(port: int, count: int, folder: Path) -> Clock:
    """The time for so many requests through `generate.sampling.sample_missing`."""
    from generate.job import SamplingJob
    from generate.openai_engine import OpenaiEngine
    from generate.sampling import sample_missing
    from generate.stopping import fixed
    from generate.teacher import as_teacher
    from tracestill.recipe.models import ServedModel
    from tracestill.records import Problem, Sampling, problem_id
    from tracestill.records.progress import ignore_progress

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
    sampling = Sampling(**SAMPLING, top_k=-1, seed=None)  # type: ignore[arg-type]
    job = SamplingJob(
        teacher=as_teacher(section, sampling),
        open_engine=lambda: OpenaiEngine(section, sampling),
        rule=fixed(1),
        journal=folder / "journal.jsonl",
        seed=0,
    )
    clock = Clock()
    ledger = sample_missing(problems, job, ignore_progress)
    clock.stop()
    assert ledger.samples == count
    return clock


async def bare(port: int, count: int, way: str) -> Clock:
    """The time for so many requests with a client alone."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    running = asyncio.Semaphore(CONCURRENCY)
    async with contextlib.AsyncExitStack() as stack:
        post = await _aiohttp(stack) if way == "aiohttp" else await _httpx2(stack, way)

        async def one(number: int) -> None:
            async with running:
                body = {"model": "m", "messages": [{"role": "user", "content": prompt(number)}]}
                came = await post(url, body | SAMPLING)
                assert came["choices"][0]["finish_reason"] == "stop"

        clock = Clock()
        await asyncio.gather(*map(one, range(count)))
        clock.stop()
        return clock


async def _httpx2(stack: contextlib.AsyncExitStack, way: str) -> Post:
    import httpx2

    from generate.served.transport import PlainTransport

    client = httpx2.AsyncClient(
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        timeout=60,
        trust_env=False,
    )
    if way == "httpx2, pools":
        client = PlainTransport([])._client
    await stack.enter_async_context(client)

    async def post(url: str, body: Any) -> Any:
        return (await client.post(url, json=body)).json()

    return post


async def _aiohttp(stack: contextlib.AsyncExitStack) -> Post:
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))
    await stack.enter_async_context(session)

    async def post(url: str, body: Any) -> Any:
        async with session.post(url, json=body) as came:
            return await came.json()

    return post


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


def measure(way: str, port: int, count: int) -> list[float]:
    """Requests a second of a way, and those a second of CPU time, in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--port", str(port), "--count", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [round(count / float(seconds), 1) for seconds in done.stdout.split()]


def rates(repeats: int, count: int) -> dict[str, Any]:
    """Requests a second of each way for each size: the median, and each repeat."""
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        raise ValueError("the server and the client need a core each; here is one only")
    found: dict[str, Any] = {}
    for name, size in SIZES.items():
        each: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        with server(size) as port:
            for _ in range(repeats):
                for way in WAYS:
                    each[way].append(measure(way, port, count))
        wall, cpu = (
            {way: statistics.median(one[part] for one in rows) for way, rows in each.items()}
            for part in (0, 1)
        )
        found[name] = {
            "requests_per_second": wall,
            "requests_per_cpu_second": cpu,
            "part_of": {way: round(cpu["tracestill"] / cpu[way], 2) for way in WAYS[1:]},
            "repeats": each,
        }
    versions = {name: importlib.metadata.version(name) for name in ("httpx2", "openai", "aiohttp")}
    return found | {"concurrency": CONCURRENCY, "requests": count, "versions": versions}


def main() -> None:
    """The command line; the hidden options are for its own child processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=4000, help="requests in a measurement")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        os.sched_setaffinity(0, {SERVER_CORE})
        asyncio.run(serve(arguments.serve))
    elif arguments.way:
        os.sched_setaffinity(0, {CLIENT_CORE})
        with tempfile.TemporaryDirectory() as name:
            if arguments.way == "tracestill":
                print(ours(arguments.port, arguments.count, Path(name)))
            else:
                print(asyncio.run(bare(arguments.port, arguments.count, arguments.way)))
    else:
        found = rates(arguments.repeats, arguments.count)
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
