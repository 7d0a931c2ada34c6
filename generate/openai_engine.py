"""A teacher behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from generate.engine import Request, Response
from tracestill.records import Sampling
from tracestill.records.models import ServedModel


class OpenaiEngine:
    """An engine of one served model and one way of sampling."""

    name = "openai"
    version = ""
    continues = False

    def __init__(self, model: ServedModel, sampling: Sampling) -> None:
        raise ValueError("engine: openai is being built")

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`."""
        raise NotImplementedError

    def close(self) -> None:
        """See `Engine.close`."""
