"""A teacher behind OpenAI-compatible endpoints: servers of one's own, or a hosted API."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from generate.engine import Request, Response
from generate.served.asker import Asker
from tracestill.records import Sampling
from tracestill.records.models import ServedModel

_PAUSE = 0.02  # seconds between looks for a request, where whoever asks has none
_TICK = 0.5  # seconds between signs of life
_END: Any = object()

T = TypeVar("T")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class OpenaiEngine:
    """An engine of one served model and one way of sampling.

    The endpoints are talked to in a thread of the engine's own, so that an answer is read and
    the next request is sent while whoever asks is busy with the last one.
    """

    name = "openai"

    def __init__(self, model: ServedModel, sampling: Sampling, state: Path | None = None) -> None:
        """Look who is there.

        `state` is a folder for what a batch API must remember from one run to the next.

        Raises:
            ValueError: nobody answers, the key is missing or refused, or there is no folder.

        """
        self.continues = model.token_ids and not model.batch
        self._model = model
        self._batches = None
        if model.batch:
            from generate.served.batch import Batches

            self._batches = Batches(model, sampling, state)
            self.version = ""
            return
        # Some more than are in flight, so that one is there when a slot falls free.
        self._window = model.concurrency + max(1, model.concurrency // 4)
        self._finished: queue.SimpleQueue[list[Response]] = queue.SimpleQueue()
        self._ready: list[Response] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = _new_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="openai-engine", daemon=True
        )
        self._thread.start()
        self._asker: Asker | None = None
        try:
            self._asker = self._call(self._make(sampling))
            self._call(self._asker.open())
        except BaseException:
            self.close()
            raise
        self.version = self._asker.version

    async def _make(self, sampling: Sampling) -> Asker:
        return Asker(self._model, sampling)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the engine's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`.

        Raises:
            ValueError: the key or the model's name is refused, or the account has no credit left;
                what was in flight has been answered before.
            EngineDiedError: no endpoint has answered for 15 minutes; what was in flight has
                come back as errors.

        """
        if self._batches is not None:
            yield from self._batches.stream(requests)
            return
        asker = self._asker
        assert asker is not None
        waiting, exhausted, asked = iter(requests), False, 0
        try:
            while True:
                new: list[Request] = []
                paused = False
                while asked + len(new) < self._window and not exhausted and asker.failure is None:
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
                if not asked and (exhausted or asker.failure is not None):
                    break
                for response in self._take(_PAUSE if paused else _TICK):
                    asked -= 1
                    if response is not None:
                        yield response
                yield None
        finally:
            if self._thread.is_alive():  # else the engine was closed first, and nothing is left
                self._call(self._stop())
        if asker.failure is not None:
            raise asker.failure

    def _take(self, seconds: float) -> Iterator[Response | None]:
        """What has finished; None for a request that ended without a response."""
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
        assert self._asker is not None
        response = None
        try:
            response = await self._asker.answer(request)
        except Exception as error:  # it is raised where the responses are taken
            if self._asker.failure is None:
                self._asker.failure = error
                self._cancel_waiting()
        finally:
            if not self._ready:
                # Once a turn of the loop: the other thread is woken once for many.
                self._loop.call_soon(self._hand_over)
            self._ready.append(cast(Response, response))

    def _hand_over(self) -> None:
        self._finished.put(self._ready)
        self._ready = []

    def _cancel_waiting(self) -> None:
        """End what is not in flight; what is has been paid for, perhaps."""
        assert self._asker is not None
        sent = {task for one in self._asker.replicas.all for task in one.running}
        for task in self._tasks:
            if task not in sent and task is not asyncio.current_task():
                task.cancel()

    async def _stop(self) -> None:
        """Leave nothing behind of a stream that ended early."""
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
        if self._asker is not None:
            self._call(self._asker.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
