"""A teacher behind OpenAI-compatible endpoints: servers of one's own, or a hosted API."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from generate.engine import Request, Response
from generate.served.client import EndpointClient
from tracestill.recipe.models import ServedModel
from tracestill.records import Sampling

_PAUSE = 0.02  # seconds before the next poll for a request, where there was none
_TICK = 0.5  # seconds at most between two yields
_END: Any = object()

T = TypeVar("T")


class OpenaiEngine:
    """An engine of one served model with fixed sampling parameters.

    Its HTTP client runs in a thread of its own, so that an answer is read and the next request is
    sent while the caller is busy with the last one.
    """

    name = "openai"

    def __init__(self, model: ServedModel, sampling: Sampling, state: Path | None = None) -> None:
        """Connect; `state` is a folder for what the batch API must remember between runs.

        Raises:
            ValueError: no endpoint answers, the key is missing or refused, or there is no folder.

        """
        self.continues = model.token_ids and not model.batch
        self._model = model
        self._batches = None
        if model.batch:
            from generate.served.batch import Batches

            self._batches = Batches(model, sampling, state)
            self.version = ""
            return
        # Some more than are in flight, so that one is ready when a slot is freed.
        self._window = model.concurrency + max(1, model.concurrency // 4)
        self._finished: queue.SimpleQueue[list[Response | None]] = queue.SimpleQueue()
        self._ready: list[Response | None] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="openai-engine", daemon=True
        )
        self._thread.start()
        self._client: EndpointClient | None = None
        try:
            self.version = self._call(self._connect(sampling))
        except BaseException:
            self.close()
            raise

    async def _connect(self, sampling: Sampling) -> str:
        self._client = EndpointClient(self._model, sampling)
        await self._client.open()
        return self._client.version

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the engine's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`.

        Raises:
            ValueError: the key or the model's name is refused, or the account has no credit left;
                requests in flight have been answered before.
            EngineDiedError: no endpoint has answered for 15 minutes; requests in flight have come
                back as errors.

        """
        if self._batches is not None:
            yield from self._batches.stream(requests)
            return
        assert self._client is not None
        dispatcher = self._client.dispatcher
        waiting, exhausted, asked = iter(requests), False, 0
        try:
            while True:
                new: list[Request] = []
                paused = False
                while (
                    asked + len(new) < self._window and not exhausted and dispatcher.failure is None
                ):
                    request = next(waiting, _END)
                    if request is None:
                        paused = True
                        break
                    if request is _END:
                        exhausted = True
                        break
                    new.append(cast(Request, request))
                if new:
                    asked += len(new)
                    self._loop.call_soon_threadsafe(self._start, new)
                if not asked and (exhausted or dispatcher.failure is not None):
                    break
                for response in self._take(_PAUSE if paused else _TICK):
                    asked -= 1
                    if response is not None:
                        yield response
                yield None
        finally:
            if self._thread.is_alive():  # else the engine was closed first
                self._call(self._stop())
        if dispatcher.failure is not None:
            raise dispatcher.failure

    def _take(self, seconds: float) -> Iterator[Response | None]:
        """The responses that are there; None for a request that ended without one."""
        try:
            found = self._finished.get(timeout=seconds)
        except queue.Empty:
            return
        while True:
            yield from found
            try:
                found = self._finished.get_nowait()
            except queue.Empty:
                return

    def _start(self, requests: list[Request]) -> None:
        for request in requests:
            task = self._loop.create_task(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        assert self._client is not None
        dispatcher, response = self._client.dispatcher, None
        try:
            response = await self._client.answer(request)
        except Exception as error:  # it is raised where the responses are taken
            if dispatcher.failure is None:
                dispatcher.failure = error
                self._cancel_unsent()
        finally:
            if not self._ready:
                # Once a turn of the loop: the other thread is woken once for many.
                self._loop.call_soon(self._hand_over)
            self._ready.append(response)

    def _hand_over(self) -> None:
        self._finished.put(self._ready)
        self._ready = []

    def _cancel_unsent(self) -> None:
        """Cancel what is not in flight; what is may be billed, and is awaited."""
        assert self._client is not None
        sent = {task for one in self._client.replicas.all for task in one.running}
        for task in self._tasks:
            if task not in sent and task is not asyncio.current_task():
                task.cancel()

    async def _stop(self) -> None:
        """Cancel what a stream that ended early left behind."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        while not self._finished.empty():
            self._finished.get_nowait()

    def close(self) -> None:
        """See `Engine.close`."""
        if self._batches is not None:
            self._batches.close()
            return
        if not self._thread.is_alive():
            return
        self._call(self._stop())
        if self._client is not None:
            self._call(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
