"""An engine that several samplings of one model use in turn, so that it is loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from generate.engine import Engine, EngineDiedError, Request, Response


class SharedEngine:
    """Is opened by the first sampling that lacks an answer, and closed where this context ends."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None

    def open(self) -> Engine:
        """The engine for one sampling, whose closing leaves it open.

        Raises:
            ValueError: the model can't be loaded.

        """
        if self._engine is None:
            self._engine = self._open_engine()
        return _Lent(self, self._engine)

    def free(self) -> None:
        """Close the engine; who asks for one after that gets another."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def __enter__(self) -> SharedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.free()


class _Lent:
    def __init__(self, owner: SharedEngine, engine: Engine) -> None:
        self._owner, self._engine = owner, engine
        self.name, self.version = engine.name, engine.version
        self.continues = engine.continues

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`."""
        try:
            yield from self._engine.stream(requests)
        except EngineDiedError:
            self._owner.free()  # the next sampling, or the next try, opens another
            raise

    def close(self) -> None:
        """Leave the engine open: it belongs to its owner."""
