"""What every teacher's engine does: requests stream in, finished responses stream out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tracestill.records import Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer to sample. `seed` fixes the draw where the engine can."""

    id: str
    messages: list[dict[str, str]]
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back, untouched. `prefill` is what the template had already begun to say
    on the model's behalf, such as an opening think tag; it is not part of `raw`.
    """

    id: str
    raw: str
    token_ids: list[int] | None
    prefill: str
    finish: Finish
    error: str | None
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Engine(Protocol):
    """A model that answers."""

    name: str
    version: str

    def stream(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answer the requests, each as soon as it is finished, in any order.

        Requests are taken as the engine has room for them. A request that can't be answered
        comes back with `finish` "error" or "skipped"; only a broken engine raises.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...
