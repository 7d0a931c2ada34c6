"""What every teacher's engine does: requests stream in, finished responses stream out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tracestill.records import Finish


class EngineDiedError(Exception):
    """The engine broke, by no fault of a request; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """The beginning of an answer that was cut for its length, to be gone on with."""

    raw_reasoning: str | None
    token_ids: list[int] | None
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer to sample. `seed` fixes the draw where the engine can; `continues` is what is
    there of the answer already; `language` is for chat templates that tell between languages.
    """

    id: str
    messages: list[dict[str, str]]
    seed: int | None
    continues: Partial | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back, untouched: all of the answer, with what it continued.

    `raw_reasoning` is the reasoning where it came in a field of its own. `prefill` is what the
    template had already begun to say on the model's behalf, such as an opening think tag; it is
    not part of `raw`. `closed_at` is where in `raw` the closing think tag begins that is a token
    of its own, -1 if there is none; None where the engine can't tell by tokens.

    `new_tokens` are those paid for this time; `completion_tokens` counts the whole answer.
    `cost` is what the endpoint says that it takes; None: by the recipe's prices.
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


class Engine(Protocol):
    """A model that answers."""

    name: str
    version: str
    continues: bool
    """Whether it can go on with an answer that was cut; else it begins anew."""

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """Answer the requests, each as soon as it is finished, in any order.

        Requests are taken as the engine has room for them. None among them says that there is
        none right now: it is asked again soon. None among the responses says only that time has
        passed, at least every second, so that whoever asks can do something meanwhile.

        A request that can't be answered comes back with `finish` "error" or "skipped".

        Raises:
            EngineDiedError: the engine broke; what it had not answered can be asked of another.

        """
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...
