"""What a model in this process drew, as the response that every engine gives."""

from __future__ import annotations

import time
from typing import Any, cast

from generate.engine import Response
from generate.reasoning import closing_token
from tracestill.records import Finish


def answer_of(
    tokenizer: Any,
    think: tuple[int | None, int] | None,
    *,
    id_: str,
    prompt: int,
    prefill: str,
    ids: list[int],
    new: int,
    finish: str | None,
    begin: float,
    engine: str,
) -> Response:
    """The response to a request.

    Args:
        tokenizer: the model's.
        think: the ids of its think tags (`generate.reasoning.think_tokens`).
        id_: the request's.
        prompt: tokens of the prompt.
        prefill: what of the model's turn the prompt holds.
        ids: of the whole answer, with the token that ended it.
        new: how many of them were drawn this time.
        finish: "stop", "length", or the engine's word for something else.
        begin: when the request was taken, by the monotonic clock.
        engine: its name.

    """

    def decode(some: list[int]) -> str:
        text: str = tokenizer.decode(some, skip_special_tokens=False)
        return text

    said = ids[:-1] if finish == "stop" else ids  # the stop token is no part of the text
    closed_at = None
    if think is not None:
        close = closing_token(said, *think, decode)
        if close is not None:
            closed_at = len(decode(said[:close]))
        elif prefill or think[0] in said:  # else it may use other tags
            closed_at = -1
    known = finish in ("stop", "length")
    return Response(
        id=id_,
        raw=decode(said),
        token_ids=ids,
        prefill=prefill,
        closed_at=closed_at,
        finish=cast(Finish, finish) if known else "error",
        error=None if known else f"{engine} ended it with {finish!r}",
        prompt_tokens=prompt,
        completion_tokens=len(ids),
        new_tokens=new,
        seconds=time.monotonic() - begin,
    )
