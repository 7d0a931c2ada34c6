"""The interface of inference engines: requests stream in, finished responses stream out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tracestill.records import Finish


class EngineDiedError(Exception):
    """The engine failed through no fault of a request; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """An answer that was cut at its token budget, to be continued from its token ids."""

    raw_reasoning: str | None
    token_ids: list[int] | None
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one attempt at a request is billed for, in tokens; `cost` is the endpoint's own figure,
    None where the recipe's prices apply.
    """

    prompt_tokens: int
    completion_tokens: int
    cost: float | None = None


ChargeFailed = Callable[[Usage | None], bool]
"""Books an attempt that brought no answer but was, or may have been, billed: with its usage, or
None where nobody counted. False: the budget covers no further attempt. Any thread may call it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer to sample. `seed` fixes the draw where the engine can; `continues` is the part of
    the answer that is there already; `language` is for chat templates that depend on it.
    """

    id: str
    messages: list[dict[str, str]]
    seed: int | None
    continues: Partial | None = None
    language: str | None = None
    charge_failed: ChargeFailed = lambda usage: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back, untouched: the whole answer, including what it continued.

    `raw_reasoning` is the reasoning where it came in a field of its own. `prefill` is the part of
    the model's turn that the chat template wrote, such as an opening think tag; it is not part of
    `raw`. `closed_at` is the offset in `raw` of the closing think tag that is a token of its own,
    -1 if there is none, None where the engine can't tell by tokens.

    `completion_tokens` counts the whole answer, `new_tokens` those that were billed this time;
    `cost` is the endpoint's own figure, None where the recipe's prices apply. Attempts that failed
    are not counted here: see `Request.charge_failed`.
    """

    id: str
    raw: str
    raw_reasoning: str | None = None
    token_ids: list[int] | None
    prefill: str
    closed_at: int | None = None
    finish: Finish
    error: str | None
    prompt_tokens: int
    completion_tokens: int
    new_tokens: int
    seconds: float
    cost: float | None = None


def failed_response(id_: str, why: str) -> Response:
    """The response to a request that failed without anything that came."""
    return Response(
        id=id_, raw="", token_ids=None, prefill="", finish="error", error=why, prompt_tokens=0,
        completion_tokens=0, new_tokens=0, seconds=0.0,
    )  # fmt: skip


class Engine(Protocol):
    """A model that answers chat requests."""

    name: str
    version: str
    continues: bool
    """Whether it can continue a truncated answer; else it samples a new one."""

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """Answer the requests, each as soon as it is finished, in any order.

        Requests are taken as the engine has room for them. None among them means that there is
        none right now; the iterator is polled again soon. None among the responses means only that
        time has passed (it comes at least once a second), so that the caller can do other work.

        A request that can't be answered comes back with `finish` "error" or "skipped".

        Raises:
            EngineDiedError: the engine failed; what it had not answered can be sent to another.

        """
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...
