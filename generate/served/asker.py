"""One request's way: a slot, a replica, and again until there is an answer or none to come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from generate.engine import EngineDiedError, Request, Response
from generate.served.bodies import as_response, as_row, root_of, sampling_body
from generate.served.http import BrokenError, PlainTransport, Reply, UnreachableError
from generate.served.limits import Bucket, Slots, backoff
from generate.served.replicas import PATIENCE, AllGoneError, Replica, Replicas
from generate.served.replies import (
    Answer,
    Failure,
    Mask,
    estimate_tokens,
    masker,
    read_json,
    read_reply,
)
from generate.served.transport import ClientTransport, Transport, proxies_of, read_key
from tracestill.records import Finish, Sampling
from tracestill.records.models import ServedModel

PROBE_SECONDS = 20.0

T = TypeVar("T")


@dataclass(slots=True)
class _Mean:
    """The mean length of the answers so far, which is what the next one is reckoned at."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    def or_else(self, value: float) -> float:
        return self.total / self.count if self.count else value


class Asker:
    """Asks the endpoints of one model. To be made and used inside a running loop."""

    def __init__(self, model: ServedModel, sampling: Sampling) -> None:
        """Make ready; nothing is sent.

        Raises:
            ValueError: the environment variable of the key holds none.

        """
        self._model = model
        self._limit = sampling.max_tokens
        self._body = sampling_body(model, sampling)
        key = read_key(model.api_key_env) if model.api_key_env else None
        self._mask: Mask = masker(key)
        self._transport: Transport = (
            PlainTransport()
            if key is None and not proxies_of(model.base_urls)
            else ClientTransport(key or "none", model.base_urls)
        )
        self.replicas = Replicas([url.rstrip("/") for url in model.base_urls], self._probe)
        self._slots = Slots(model.concurrency)
        self._requests = model.requests_per_minute and Bucket(model.requests_per_minute)
        self._tokens = model.tokens_per_minute and Bucket(model.tokens_per_minute)
        self._lengths = _Mean()
        self._any_answer = False
        self._max_model_len: int | None = None
        self.failure: Exception | None = None
        """Why nothing more is to be asked."""
        self.version = ""

    async def open(self) -> None:
        """See who is there.

        Raises:
            ValueError: nobody is, or the key is refused.

        """
        found = await asyncio.gather(*(self._greet(one) for one in self.replicas.all))
        if not any(one.up for one in self.replicas.all):
            silent = "; ".join(f"{one.url} ({one.why})" for one in self.replicas.all)
            raise ValueError(
                f"no endpoint answers: {silent}. Start the server (`tracestill serve RECIPE` "
                "starts one for a recipe's own teacher), or correct `base_urls`"
            )
        lengths = [length for length in found if length is not None]
        self._max_model_len = min(lengths) if lengths else None
        if self._max_model_len is not None and isinstance(self._body.get("max_tokens"), int):
            # vLLM refuses what can't fit any prompt, instead of ending the answer there.
            self._body["max_tokens"] = min(self._body["max_tokens"], self._max_model_len)
        self.replicas.watch()

    async def _greet(self, replica: Replica) -> int | None:
        """Look whether a replica is there; the longest context that it says it has."""
        try:
            reply = await self._get(f"{replica.url}/models")
        except (UnreachableError, BrokenError, TimeoutError) as error:
            why = self._mask(str(error)) or "no answer in time"
            self.replicas.failed(replica, why, unreachable=True)
            return None
        self.replicas.answered(replica)
        if reply.status in (401, 403):
            raise self._fatal(replica, f"status {reply.status}")
        listed = read_json(reply, self._mask)
        if isinstance(listed, Failure):
            return None  # not every endpoint lists its models
        if self._model.api_key_env is None and not self.version:
            try:
                about = read_json(await self._get(f"{root_of(replica.url)}/version"), self._mask)
            except (UnreachableError, BrokenError, TimeoutError):
                about = {}
            if isinstance(about, dict) and isinstance(about.get("version"), str):
                self.version = f"server {about['version']}"
                # Such a server is vLLM, and takes what nobody says from the model's folder.
                self._body.setdefault("top_k", -1)
        models = [one for one in listed.get("data") or [] if isinstance(one, dict)]
        lengths = [one.get("max_model_len") for one in models if one.get("id") == self._model.model]
        return next((length for length in lengths if isinstance(length, int)), None)

    async def _get(self, url: str) -> Reply:
        return await self._transport.send("GET", url, None, PROBE_SECONDS)

    async def _probe(self, url: str) -> str | None:
        try:
            reply = await self._get(f"{url}/models")
        except (UnreachableError, BrokenError, TimeoutError) as error:
            return self._mask(str(error)) or "no answer in time"
        return None if reply.status < 500 else f"status {reply.status}"

    def _fatal(self, replica: Replica, why: str) -> ValueError:
        variable = self._model.api_key_env
        if "no credit left" in why:
            return ValueError(f"{replica.url}: {why}")
        cure = (
            f"see that the environment variable {variable} holds a valid key for it"
            if variable
            else "name the environment variable that holds its key in `api_key_env`"
        )
        return ValueError(f"{replica.url} refuses the request ({why}): {cure}")

    async def answer(self, request: Request) -> Response:
        """Ask until there is an answer, or none to come.

        Raises:
            ValueError: no request can be answered before the user has done something.

        """
        prompt = sum(estimate_tokens(message["content"]) for message in request.messages)
        begun = request.continues.token_ids if request.continues else None
        if self._model.token_ids and begun:
            return await self._continue(request, begun, prompt)
        body = {**self._body, "messages": request.messages}
        if self._model.seeds and request.seed is not None:
            body["seed"] = request.seed
        begin = time.monotonic()
        found = await self._ask(lambda url: f"{url}/chat/completions", body, read_reply, prompt)
        seconds = time.monotonic() - begin
        if isinstance(found, Failure):
            return as_row(request.id, found, seconds)
        return as_response(request.id, found, prompt, seconds)

    async def _continue(self, request: Request, begun: list[int], prompt: int) -> Response:
        """Go on with an answer from its token ids, through vLLM's own routes.

        The text is decoded over the whole of the ids, since a character may lie across the cut;
        so where the server takes the reasoning apart, this answer has it in `raw`.
        """
        assert request.continues is not None
        begin = time.monotonic()
        ask = {"model": self._model.model, "messages": request.messages}
        for name in ("chat_template", "chat_template_kwargs"):
            if name in self._body:
                ask[name] = self._body[name]
        asked = await self._ask(lambda url: f"{root_of(url)}/tokenize", ask, read_json)
        if isinstance(asked, Failure):
            return as_row(request.id, asked, time.monotonic() - begin)
        before: list[int] = asked["tokens"]
        room = int(asked["max_model_len"]) - len(before)
        wanted = min(self._limit, room) - len(begun)
        new: list[int] = []
        finish: Finish = "length"
        cost = None
        if wanted > 0:
            body = {**self._body, "prompt": before + begun, "max_tokens": wanted}
            for name in ("chat_template", "chat_template_kwargs"):
                body.pop(name, None)
            if self._model.seeds and request.seed is not None:
                body["seed"] = request.seed
            found = await self._ask(lambda url: f"{url}/completions", body, read_reply, prompt)
            if isinstance(found, Failure):
                return as_row(request.id, found, time.monotonic() - begin)
            new, finish, cost = found.token_ids or [], found.finish, found.cost
        ids = begun + new
        said = ids[:-1] if finish == "stop" else ids  # the stop token is no part of what it said
        decode = {"model": self._model.model, "tokens": said}
        text = await self._ask(lambda url: f"{root_of(url)}/detokenize", decode, read_json)
        if isinstance(text, Failure):
            return as_row(request.id, text, time.monotonic() - begin)
        whole: str = text["prompt"]
        reasons = request.continues.raw_reasoning is not None and "</think>" not in whole
        return Response(
            id=request.id,
            raw="" if reasons else whole,
            raw_reasoning=whole if reasons else None,
            token_ids=ids,
            prefill="",
            finish=finish,
            error=None,
            prompt_tokens=len(before),
            completion_tokens=len(ids),
            new_tokens=len(new),
            seconds=time.monotonic() - begin,
            cost=cost,
        )

    async def _ask(
        self,
        address: Callable[[str], str],
        body: dict[str, Any],
        read: Callable[[Reply, Mask], T | Failure],
        prompt: int = 0,
    ) -> T | Failure:
        """Send until it is answered, or is not to be."""
        tries, begin = 0, time.monotonic()
        last: Replica | None = None
        while True:
            await self._slots.acquire()
            try:
                found, last = await self._try(address, body, read, prompt, last)
            except AllGoneError as error:
                self.failure = self.failure or EngineDiedError(str(error))
                return Failure(kind="passing", why=str(error))
            finally:
                self._slots.release()
            if not isinstance(found, Failure):
                return found
            if found.kind not in ("busy", "passing"):
                return found
            tries += found.counts
            # A server that has too much to do is waited for; what fails is not.
            waited = begin + PATIENCE < time.monotonic()
            if tries > self._model.retries and (found.kind == "passing" or waited):
                return found
            await asyncio.sleep((found.wait or 0.0) + backoff(tries))

    async def _try(
        self,
        address: Callable[[str], str],
        body: dict[str, Any],
        read: Callable[[Reply, Mask], T | Failure],
        prompt: int,
        last: Replica | None,
    ) -> tuple[T | Failure, Replica]:
        reckoned = prompt + self._lengths.or_else(self._limit)
        if self._requests:
            await self._requests.take(1)
        if self._tokens and prompt:
            await self._tokens.take(reckoned)
        replica = await self.replicas.pick(avoid=last)
        if self.failure is not None:
            raise self.failure
        sent = time.monotonic()
        reply = await self._send(replica, address(replica.url), body)
        found = reply if isinstance(reply, Failure) else read(reply, self._mask)
        paid = 0.0
        if isinstance(found, Failure):
            self._note(replica, found, sent)
            if found.kind == "fatal":
                raise self._fatal(replica, found.why)
            if found.kind == "unknown" and not self._any_answer:
                raise ValueError(
                    f"{replica.url} knows no model {self._model.model!r} ({found.why}): "
                    "correct `model` or `base_urls`"
                )
        else:
            self.replicas.answered(replica)
            self._slots.succeeded()
            self._any_answer = True
            if isinstance(found, Answer):
                paid = (found.prompt_tokens or prompt) + found.completion_tokens
                self._lengths.add(found.completion_tokens)
        if self._tokens and prompt:
            self._tokens.correct(reckoned - paid)
        return found, replica

    async def _send(self, replica: Replica, url: str, body: dict[str, Any]) -> Reply | Failure:
        task = asyncio.current_task()
        assert task is not None
        sent = time.monotonic()
        replica.running.add(task)
        try:
            return await self._transport.send("POST", url, body, self._model.timeout)
        except UnreachableError as error:
            why = f"{replica.url} takes no connection: {self._mask(str(error))}"
            self.replicas.failed(replica, why, unreachable=True)
            return Failure(kind="passing", why=why, counts=False)
        except BrokenError as error:
            why = f"{replica.url} broke the connection: {self._mask(str(error))}"
            return Failure(kind="passing", why=why, broken=True)
        except TimeoutError:
            why = f"{replica.url} did not answer within {self._model.timeout:g} s"
            self._slots.too_many(sent)
            return Failure(kind="passing", why=why, broken=True)
        except asyncio.CancelledError:
            if task not in self.replicas.evicted:
                raise
            self.replicas.evicted.discard(task)
            task.uncancel()
            return Failure(kind="passing", why=f"{replica.url} is gone: {replica.why}")
        finally:
            replica.running.discard(task)

    def _note(self, replica: Replica, failure: Failure, sent: float) -> None:
        """What a failure says of the server."""
        wait = failure.wait or 0.0
        if failure.kind == "busy":
            self._slots.too_many(sent)
            if len(self.replicas.all) > 1:  # it says no at once, and so would draw all requests
                wait = wait or backoff(0)
        if wait:
            self.replicas.rest(replica, wait)
        if failure.broken:
            self.replicas.failed(replica, failure.why)

    async def close(self) -> None:
        """Close the connections."""
        await self.replicas.close()
        await self._transport.close()
