"""Continue a truncated answer from its token ids, through vLLM's own routes."""

from __future__ import annotations

import time
from typing import Any

from generate.engine import Request, Response, Usage
from generate.served.dispatch import Call, Dispatcher
from generate.served.replies import Failure, read_json, read_reply
from tracestill.records import Finish

_CHAT_ONLY = ("chat_template", "chat_template_kwargs")  # fields of chat requests


def root_of(url: str) -> str:
    """The address that vLLM's own routes hang from: `url` without the `/v1`."""
    return url.removesuffix("/v1")


async def continue_answer(
    dispatcher: Dispatcher,
    request: Request,
    begun: list[int],
    body: dict[str, Any],
    prompt: int,
    max_tokens: int,
) -> Response | Failure:
    """The whole answer that begins with the token ids `begun`, of up to `max_tokens` in all.

    `body` are the request's sampling fields, `prompt` is about how many tokens its prompt has. The
    text is decoded from all the ids, since a character may lie across the cut; so where the server
    splits off the reasoning, here it stands in `raw`.
    """
    assert request.continues is not None
    begin = time.monotonic()
    model = body["model"]
    chat = {name: body[name] for name in _CHAT_ONLY if name in body}
    asked = await dispatcher.call(
        Call(
            address=lambda url: f"{root_of(url)}/tokenize",
            body={"model": model, "messages": request.messages, **chat},
            read=read_json,
        )
    )
    if isinstance(asked, Failure):
        return asked
    before: list[int] = asked["tokens"]
    wanted = min(max_tokens, int(asked["max_model_len"]) - len(before)) - len(begun)
    new: list[int] = []
    finish: Finish = "length"
    cost: float | None = None
    if wanted > 0:
        fields = {name: value for name, value in body.items() if name not in _CHAT_ONLY}
        found = await dispatcher.call(
            Call(
                address=lambda url: f"{url}/completions",
                body={**fields, "prompt": before + begun, "max_tokens": wanted},
                read=read_reply,
                prompt=prompt,
                charge_failed=request.charge_failed,
            )
        )
        if isinstance(found, Failure):
            return found
        new, finish = found.token_ids or [], found.finish
        cost = found.usage.cost if found.usage else None
    ids = begun + new
    said = ids[:-1] if finish == "stop" else ids  # the stop token is no part of the text
    text = await dispatcher.call(
        Call(
            address=lambda url: f"{root_of(url)}/detokenize",
            body={"model": model, "tokens": said},
            read=read_json,
        )
    )
    if isinstance(text, Failure):
        usage = Usage(prompt_tokens=len(before), completion_tokens=len(new), cost=cost)
        request.charge_failed(usage)
        return text
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
