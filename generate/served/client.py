"""The endpoints of one model: whether they are up, and the way of one request to its response."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from generate.engine import Request, Response
from generate.served.bodies import answered, failed, sampling_body
from generate.served.continuation import continue_answer, root_of
from generate.served.dispatch import Call, Dispatcher, refusal
from generate.served.replicas import Replica, Replicas
from generate.served.replies import (
    Failure,
    Scrub,
    estimate_tokens,
    key_scrubber,
    read_json,
    read_reply,
)
from generate.served.transport import (
    BrokenError,
    OpenaiTransport,
    PlainTransport,
    Reply,
    Transport,
    UnreachableError,
    read_key,
)
from tracestill.recipe.models import ServedModel
from tracestill.records import Sampling

PROBE_SECONDS = 20.0


class EndpointClient:
    """Sends requests to the endpoints of one model. To be made and used inside a running loop."""

    def __init__(self, model: ServedModel, sampling: Sampling) -> None:
        """Prepare; nothing is sent.

        Raises:
            ValueError: the environment variable of the key holds none.

        """
        self._model = model
        self._body = sampling_body(model, sampling)
        key = read_key(model.api_key_env) if model.api_key_env else None
        self._scrub: Scrub = key_scrubber(key)
        self._transport: Transport = (
            PlainTransport(model.base_urls)
            if key is None
            else OpenaiTransport(model.base_urls, key)
        )
        self.replicas = Replicas([url.rstrip("/") for url in model.base_urls], self._probe)
        self.dispatcher = Dispatcher(
            model, self._transport, self.replicas, self._scrub, sampling.max_tokens
        )
        self._max_tokens = sampling.max_tokens
        self.version = ""

    async def open(self) -> None:
        """Find out which endpoints are up, and the context length of their model.

        Raises:
            ValueError: none is, or the key is refused.

        """
        lengths = await asyncio.gather(*(self._greet(one) for one in self.replicas.all))
        if not any(one.up for one in self.replicas.all):
            silent = "; ".join(f"{one.url} ({one.why})" for one in self.replicas.all)
            raise ValueError(
                f"no endpoint answers: {silent}. Start the server (`tracestill serve RECIPE` "
                "starts one for a recipe's own teacher), or correct `base_urls`"
            )
        known = [length for length in lengths if length is not None]
        if known and isinstance(self._body.get("max_tokens"), int):
            # vLLM refuses what can't fit any prompt, instead of ending the answer there.
            self._body["max_tokens"] = min(self._body["max_tokens"], *known)
        self.replicas.watch()

    async def _greet(self, replica: Replica) -> int | None:
        """Whether a replica is up; the context length that it states for the model."""
        reply = await self._get(f"{replica.url}/models")
        if isinstance(reply, str):
            self.replicas.failed(replica, reply, unreachable=True)
            return None
        self.replicas.answered(replica)
        if reply.status in (401, 403):
            raise refusal(self._model, replica.url, f"status {reply.status}")
        listed = read_json(reply, self._scrub)
        if isinstance(listed, Failure):
            return None  # not every endpoint lists its models
        if self._model.api_key_env is None and not self.version:
            about = await self._get(f"{root_of(replica.url)}/version")
            found = read_json(about, self._scrub) if isinstance(about, Reply) else {}
            if isinstance(found, dict) and isinstance(found.get("version"), str):
                self.version = f"server {found['version']}"
                # Such a server is vLLM, and takes what a request leaves open from the model's
                # folder.
                self._body.setdefault("top_k", -1)
        models = [one for one in listed.get("data") or [] if isinstance(one, dict)]
        lengths = [one.get("max_model_len") for one in models if one.get("id") == self._model.model]
        return next((length for length in lengths if isinstance(length, int)), None)

    async def _get(self, url: str) -> Reply | str:
        """The reply to a GET, or why there is none."""
        try:
            return await self._transport.send("GET", url, None, PROBE_SECONDS)
        except (UnreachableError, BrokenError, TimeoutError) as error:
            return self._scrub(str(error)) or "no answer in time"

    async def _probe(self, url: str) -> str | None:
        reply = await self._get(f"{url}/models")
        if isinstance(reply, str):
            return reply
        return None if reply.status < 500 else f"status {reply.status}"

    async def answer(self, request: Request) -> Response:
        """Send a request until there is an answer, or none to be had.

        Raises:
            ValueError: no request can succeed before the user has done something.

        """
        prompt = sum(estimate_tokens(message["content"]) for message in request.messages)
        begun = request.continues.token_ids if request.continues else None
        body = {**self._body}
        if self._model.seeds and request.seed is not None:
            body["seed"] = request.seed
        begin = time.monotonic()
        if self._model.token_ids and begun:
            continued = await continue_answer(
                self.dispatcher, request, begun, body, prompt, self._max_tokens
            )
            if isinstance(continued, Response):
                return continued
            return failed(request.id, continued, time.monotonic() - begin)
        found = await self.dispatcher.call(
            Call(
                address=lambda url: f"{url}/chat/completions",
                body={**body, "messages": request.messages},
                read=partial(read_reply, max_tokens=body.get("max_tokens", self._max_tokens)),
                prompt=prompt,
                charge_failed=request.charge_failed,
            )
        )
        seconds = time.monotonic() - begin
        if isinstance(found, Failure):
            return failed(request.id, found, seconds)
        return answered(request.id, found, prompt, seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self.replicas.close()
        await self._transport.close()
