"""A server on loopback that does what a test's script says, for the client of `engine: openai`."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request, dict[str, Any], int], "web.StreamResponse | Awaitable[Any]"]


def completion(text: str = "<think>\na\n</think>\n\n4", **fields: Any) -> dict[str, Any]:
    """A chat completion, with `fields` in its choice, message or usage changed."""
    usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    message = {"role": "assistant", "content": text, **fields.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **fields.pop("choice", {})}
    return {"object": "chat.completion", "choices": [choice], "usage": usage, **fields}


def reply(body: Any, status: int = 200, **headers: str) -> web.Response:
    """A response of JSON, or of these bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.Response(body=data, status=status, headers=headers)


class Scripted:
    """A server. `answer` gets the request, its body and how often this question came before."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models: Callable[[], web.Response] = lambda: reply({"data": []})
        self.other: Callable[[web.Request, bytes], Any] | None = None
        self.times: dict[str, int] = {}
        self.in_flight = self.most = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        question = body["messages"][-1]["content"]
        before = self.times.get(question, 0)
        self.times[question] = before + 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            found = self.answer(request, body, before)
            return await found if isinstance(found, Awaitable) else found
        finally:
            self.in_flight -= 1

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return self.models()
        if self.other is None:
            return reply({"error": {"message": "no such route"}}, 404)
        found: web.StreamResponse = self.other(request, await request.read())
        return found

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_route("*", "/{path:.*}", self._rest)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """Be gone: connections are broken, new ones refused."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(10)

    async def _cancel(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def end(self) -> None:
        self.stop()
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def scripted(answer: Answer) -> Iterator[Scripted]:
    """A running server."""
    server = Scripted(answer)
    server.start()
    try:
        yield server
    finally:
        server.end()
