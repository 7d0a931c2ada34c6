"""What a request says, and a response of what came back."""

from __future__ import annotations

from typing import Any

from generate.engine import Response
from generate.served.replies import Answer, Failure
from tracestill.records import Finish, Sampling
from tracestill.records.models import ServedModel


def root_of(url: str) -> str:
    """The address that vLLM's own routes hang from: `url` without the `/v1`."""
    return url.removesuffix("/v1")


def sampling_body(model: ServedModel, sampling: Sampling) -> dict[str, Any]:
    """What every request says of model and sampling; `extra_body` has the last word:
    null there leaves a field out.
    """
    body: dict[str, Any] = {
        "model": model.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.top_k > 0:  # no field of OpenAI's own API: only where somebody wants it
        body["top_k"] = sampling.top_k
    if model.token_ids:
        # As the engine in this process does: think tags may be special tokens.
        body |= {"return_token_ids": True, "skip_special_tokens": False}
    return {name: value for name, value in (body | model.extra_body).items() if value is not None}


def as_response(id_: str, answer: Answer, prompt: int, seconds: float) -> Response:
    """An answer as a response; `prompt` is the estimate of its tokens where nobody counted."""
    return Response(
        id=id_,
        raw=answer.raw,
        raw_reasoning=answer.raw_reasoning,
        token_ids=answer.token_ids,
        prefill="",
        finish=answer.finish,
        error=answer.error,
        prompt_tokens=answer.prompt_tokens if answer.prompt_tokens is not None else prompt,
        completion_tokens=answer.completion_tokens,
        new_tokens=answer.completion_tokens,
        seconds=seconds,
        cost=answer.cost,
    )


def as_row(id_: str, failure: Failure, seconds: float) -> Response:
    """A failure as a response, with what came nevertheless."""
    finish: Finish = "skipped" if failure.kind == "skipped" else "error"
    came = failure.answer
    return Response(
        id=id_,
        raw=came.raw if came else "",
        raw_reasoning=came.raw_reasoning if came else None,
        token_ids=came.token_ids if came else None,
        prefill="",
        finish=finish,
        error=failure.why,
        prompt_tokens=(came and came.prompt_tokens) or 0,
        completion_tokens=came.completion_tokens if came else 0,
        new_tokens=came.completion_tokens if came else 0,
        seconds=seconds,
        cost=came.cost if came else None,
    )
