"""The fields of a request, and responses made from what came back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from generate.engine import Response, failed_response
from generate.served.replies import Answer, Failure
from tracestill.recipe.models import ServedModel
from tracestill.records import Finish, Sampling


def sampling_body(model: ServedModel, sampling: Sampling) -> dict[str, Any]:
    """The fields that are the same in every request; `extra_body` overrides them, and null there
    leaves a field out.
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


def answered(id_: str, answer: Answer, prompt: int, seconds: float) -> Response:
    """The response for an answer; `prompt` estimates the prompt's tokens where nobody counted."""
    return Response(
        id=id_,
        raw=answer.raw,
        raw_reasoning=answer.raw_reasoning,
        token_ids=answer.token_ids,
        prefill="",
        finish=answer.finish,
        error=answer.error,
        prompt_tokens=answer.usage.prompt_tokens if answer.usage else prompt,
        completion_tokens=answer.completion_tokens,
        new_tokens=answer.completion_tokens,
        seconds=seconds,
        cost=answer.usage.cost if answer.usage else None,
    )


def failed(id_: str, failure: Failure, seconds: float) -> Response:
    """The response for a failure, with what came nevertheless. It bills nothing: attempts that
    failed are charged when they fail.
    """
    finish: Finish = "skipped" if failure.kind == "skipped" else "error"
    response = replace(failed_response(id_, failure.why), finish=finish, seconds=seconds)
    partial = failure.answer
    if partial is None:
        return response
    return replace(
        response,
        raw=partial.raw,
        raw_reasoning=partial.raw_reasoning,
        token_ids=partial.token_ids,
        completion_tokens=partial.completion_tokens,
    )
