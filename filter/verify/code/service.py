"""Ask a server that runs programs. What goes wrong there is never the program's fault."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tenacity

from filter.verify.code.bubblewrap import NoSandboxError
from filter.verify.code.dialogue import Run
from tracestill.recipe.hosts import proxy_of
from tracestill.recipe.sandbox import Sandbox

if TYPE_CHECKING:
    import httpx2

CONNECTIONS = 16
REPLY_BYTES = 64 * 2**20
_BUSY = frozenset({429, 500, 502, 503, 504})  # to run a program again does no harm
_LONGEST_WAIT = 30.0
_PATIENCE = 30.0  # seconds beyond a program's own, for a server with a queue
_BACKOFF = tenacity.wait_exponential(multiplier=0.1)


class UnjudgedError(Exception):
    """The sandbox can't tell whether the program passes; the message says why."""


Execute = Callable[[str, float], Run]
"""Runs a program (Python's text) for at most so many seconds, alone in the machine that it has or
with what the same opening ran there before. `output` is why it ended where the server cut that;
`errors` is what the server says of a failure. Raises `NoSandboxError` where the server fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server that runs programs: `open` opens what is for programs of one origin only.

    `largest` is how long a program's text may be; `start` says how to start the server so that it
    can be used, `cut` what helps where outputs are cut.
    """

    name: str
    open: Callable[[], AbstractContextManager[Execute]]
    largest: int
    start: str
    cut: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer."""

    status: int
    body: bytes

    @property
    def found(self) -> Any:
        """The JSON in it; None where it is none, or says that the request failed."""
        try:
            return json.loads(self.body) if self.status in (200, 201) else None
        except (ValueError, RecursionError):
            return None

    @property
    def words(self) -> str:
        """What it says, cut to what fits in a line."""
        return said(self.body[:400].decode(errors="replace"))


class _BusyError(NoSandboxError):
    """The server may answer later: after so many seconds, where it says when."""

    def __init__(self, why: str, retry_after: str = "") -> None:
        super().__init__(why)
        self.retry_after = retry_after


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome and state.outcome.exception()
    try:
        return min(_LONGEST_WAIT, max(0.0, float(getattr(error, "retry_after", ""))))
    except ValueError:
        return _BACKOFF(state)


class Server:
    """An HTTP API, for any thread, and for children that were forked."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.name, self.url = sandbox.service, sandbox.url
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # After a fork the connections are the parent's, whose threads may have held the lock.
        self._lock = threading.Lock()
        self._clients: dict[str | None, httpx2.Client] = {}

    def _client(self, url: str) -> httpx2.Client:
        """A client that goes where the check of hosts says: it reads no environment of its own."""
        import httpx2

        parts = urlsplit(url)
        proxy = proxy_of(f"{parts.scheme}://{parts.netloc}")
        with self._lock:
            if proxy not in self._clients:
                self._clients[proxy] = httpx2.Client(
                    limits=httpx2.Limits(
                        max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS
                    ),
                    proxy=proxy,
                    trust_env=False,
                    verify=httpx2.create_ssl_context(),  # it does read SSL_CERT_FILE
                )
            return self._clients[proxy]

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(_BusyError),
        stop=tenacity.stop_after_attempt(5),
        wait=_pause,
        reraise=True,
    )
    def ask(self, method: str, url: str, seconds: float = 0.0, **content: Any) -> Answer:
        """The answer to a request that may take `seconds` itself. One that is turned away because
        the server is busy is made again, when the server says so.

        Raises:
            NoSandboxError: there is no answer.

        """
        import httpx2

        wait = httpx2.Timeout(10.0, read=seconds + _PATIENCE, pool=None)
        body = bytearray()
        try:
            with self._client(url).stream(method, url, timeout=wait, **content) as response:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > REPLY_BYTES:
                        break
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise self.failed(f"can't be reached at {self.url}: start it there") from None
        except httpx2.TimeoutException:
            raise self.failed(f"did not answer in {wait.read:g} s: look at its log") from None
        except httpx2.HTTPError as error:
            how = f"breaks off ({type(error).__name__}): look at its log"
            raise _BusyError(f"{self.name} {how}") from None
        for name, value in content.get("headers", {}).items():
            if name.startswith("X-"):  # no key comes back, whatever a server says
                body = body.replace(value.encode(), b"...")
        answer = Answer(response.status_code, bytes(body))
        if answer.status in _BUSY:
            how = f"fails with {answer.status}{answer.words}: look at its log"
            if answer.status == 429:
                how = "lets no more programs in (429): ask it for a higher rate"
            raise _BusyError(f"{self.name} {how}", response.headers.get("retry-after", ""))
        return answer

    def failed(self, what: str) -> NoSandboxError:
        """The server's failure as an exception."""
        return NoSandboxError(f"{self.name} {what}")


def said(words: str) -> str:
    """A server's words in parentheses, cut to what fits in a line."""
    text = " ".join(words.split())
    return f" ({text[:120]})" if text else ""
