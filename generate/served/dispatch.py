"""Sends a call to a replica within the limits, and retries it until there is an answer or none to
be had.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import tenacity

from generate.engine import ChargeFailed, EngineDiedError
from generate.served.limits import Bucket, Slots
from generate.served.replicas import AllGoneError, Replica, Replicas
from generate.served.replies import Answer, Failure, Scrub
from generate.served.retries import StopAfter, may_pass, result_of, wait
from generate.served.transport import BrokenError, Reply, Transport, UnreachableError
from tracestill.recipe.models import ServedModel

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A POST to any of the endpoints: `address` makes its URL from the endpoint's base URL, `read`
    the result from the reply. `prompt` is about how many tokens the prompt has; 0 for a call that
    samples nothing, and so costs nothing.
    """

    address: Callable[[str], str]
    body: dict[str, Any]
    read: Callable[[Reply, Scrub], T | Failure]
    prompt: int = 0
    charge_failed: ChargeFailed = lambda usage: True


class Dispatcher:
    """What the calls to one model's endpoints share. To be made inside a running loop.

    `failure` is why no call can succeed any more: EngineDiedError where all replicas are down.
    """

    def __init__(
        self,
        model: ServedModel,
        transport: Transport,
        replicas: Replicas,
        scrub: Scrub,
        max_tokens: int,
    ) -> None:
        self._model = model
        self._transport = transport
        self._replicas = replicas
        self._scrub = scrub
        self._slots = Slots(model.concurrency)
        self._requests = model.requests_per_minute and Bucket(model.requests_per_minute)
        self._tokens = model.tokens_per_minute and Bucket(model.tokens_per_minute)
        self._max_tokens = max_tokens
        self._answers, self._answered_tokens = 0, 0
        self._any_reply = False
        self.failure: Exception | None = None

    async def call(self, call: Call[T]) -> T | Failure:
        """The result of a call, after as many attempts as the model's `retries` allow.

        Raises:
            ValueError: no call can succeed before the user has done something.

        """
        last: Replica | None = None

        async def attempt() -> T | Failure:
            nonlocal last
            await self._slots.acquire()
            try:
                last = await self._pick(call.prompt, last)
                return await self._attempt(call, last)
            except AllGoneError as error:
                self.failure = self.failure or EngineDiedError(str(error))
                return Failure(kind="refused", why=str(error))
            finally:
                self._slots.release()

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(may_pass),
            stop=StopAfter(self._model.retries),
            wait=wait,
            retry_error_callback=result_of,
        )
        found: T | Failure = await retrying(attempt)
        return found

    def _expected(self, prompt: int) -> float:
        """The tokens that a call is expected to take, by the mean answer so far."""
        answers = self._answers
        return prompt + (self._answered_tokens / answers if answers else self._max_tokens)

    async def _pick(self, prompt: int, avoid: Replica | None) -> Replica:
        if self._requests:
            await self._requests.take(1)
        if self._tokens and prompt:
            await self._tokens.take(self._expected(prompt))
        replica = await self._replicas.pick(avoid=avoid)
        if self.failure is not None:
            raise self.failure
        return replica

    async def _attempt(self, call: Call[T], replica: Replica) -> T | Failure:
        expected, taken = self._expected(call.prompt), 0.0
        sent = time.monotonic()
        reply = await self._send(replica, call.address(replica.url), call.body)
        found = reply if isinstance(reply, Failure) else call.read(reply, self._scrub)
        if isinstance(found, Failure):
            found = self._failed(found, call, replica, sent)
        else:
            self._replicas.answered(replica)
            self._slots.succeeded()
            self._any_reply = True
            if isinstance(found, Answer):
                prompt = found.usage.prompt_tokens if found.usage else call.prompt
                taken = prompt + found.completion_tokens
                self._answers += 1
                self._answered_tokens += found.completion_tokens
        if self._tokens and call.prompt:
            self._tokens.correct(expected - taken)
        return found

    async def _send(self, replica: Replica, url: str, body: dict[str, Any]) -> Reply | Failure:
        task = asyncio.current_task()
        assert task is not None
        sent = time.monotonic()
        replica.running.add(task)
        try:
            return await self._transport.send("POST", url, body, self._model.timeout)
        except UnreachableError as error:
            why = f"{replica.url} takes no connection: {self._scrub(str(error))}"
            self._replicas.failed(replica, why, unreachable=True)
            return Failure(kind="passing", why=why, counts=False)
        except BrokenError as error:
            why = f"{replica.url} broke the connection: {self._scrub(str(error))}"
            return Failure(kind="passing", why=why, broken=True, maybe_billed=True)
        except TimeoutError:
            why = f"{replica.url} did not answer within {self._model.timeout:g} s"
            self._slots.too_many(sent)
            return Failure(kind="passing", why=why, broken=True, maybe_billed=True)
        except asyncio.CancelledError:
            if task not in self._replicas.evicted:
                raise
            self._replicas.evicted.discard(task)
            task.uncancel()
            why = f"{replica.url} is gone: {replica.why}"
            return Failure(kind="passing", why=why, maybe_billed=True)
        finally:
            replica.running.discard(task)

    def _failed(self, failure: Failure, call: Call[T], replica: Replica, sent: float) -> Failure:
        """Draw the consequences of a failure, and charge what it cost."""
        if failure.kind == "fatal":
            raise refusal(self._model, replica.url, failure.why)
        if failure.kind == "unknown" and not self._any_reply:
            raise ValueError(
                f"{replica.url} knows no model {self._model.model!r} ({failure.why}): "
                "correct `model` or `base_urls`"
            )
        pause = failure.wait or 0.0
        if failure.kind == "busy":
            self._slots.too_many(sent)
            if len(self._replicas.all) > 1:  # it refuses at once, and so would draw all calls
                pause = pause or random.uniform(0, 0.5)
        if pause:
            self._replicas.rest(replica, pause)
        if failure.broken:
            self._replicas.failed(replica, failure.why)
        billed = call.prompt and (failure.usage is not None or failure.maybe_billed)
        if billed and not call.charge_failed(failure.usage) and may_pass(failure):
            why = f"{failure.why}; the budget covers no further attempt"
            return dataclasses.replace(failure, kind="refused", why=why)
        return failure


def refusal(model: ServedModel, url: str, why: str) -> ValueError:
    """The error for an endpoint that refuses every request, with the fix."""
    if "no credit left" in why:
        return ValueError(f"{url}: {why}")
    variable = model.api_key_env
    fix = (
        f"check that the environment variable {variable} holds a valid key for it"
        if variable
        else "name the environment variable that holds its key in `api_key_env`"
    )
    return ValueError(f"{url} refuses the request ({why}): {fix}")
