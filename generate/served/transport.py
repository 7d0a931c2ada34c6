"""How requests travel: httpx2 for servers of one's own, the official client on top of it for APIs
that want a key.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2
import msgspec

from generate.served.secrets import mask_secrets
from tracestill.recipe.hosts import proxy_of

CONNECT_SECONDS = 20.0

# httpx2 walks through all connections of a pool twice a request, so many small pools are faster
# than a large one: see docs/decisions/009.
_POOLS = 64
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
# A peer behind a cut cable says nothing for ever: the kernel asks after a minute of silence.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), seconds)
    for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an endpoint answered, whatever its status."""

    status: int
    retry_after: str | None
    body: bytes


class UnreachableError(Exception):
    """No connection came about."""


class BrokenError(Exception):
    """The connection was lost before the answer was whole."""


class Transport(Protocol):
    """Sends a request. Redirects are not followed: they could lead to another host."""

    async def send(self, method: str, url: str, body: Any, seconds: float) -> Reply:
        """Send `body` as JSON (None: no body) and wait so many seconds for all of the answer.

        Raises:
            UnreachableError: no connection came about.
            BrokenError: the connection was lost.
            TimeoutError: the time is over.

        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class _Pools(httpx2.AsyncBaseTransport):
    """Several connection pools that take requests in turn."""

    def __init__(self, proxy: str | None = None) -> None:
        context = httpx2.create_ssl_context()
        self._pools = [
            httpx2.AsyncHTTPTransport(
                verify=context,
                trust_env=False,
                limits=_LIMITS,
                proxy=proxy,
                socket_options=_KEEPALIVE,
            )
            for _ in range(_POOLS)
        ]
        self._turns = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


def _client(urls: Sequence[str]) -> httpx2.AsyncClient:
    """A client whose requests go where `tracestill.recipe.hosts` says: it reads no environment of
    its own, and so asks no proxy for this machine, nor another proxy than was checked.
    """
    return httpx2.AsyncClient(
        transport=_Pools(),
        mounts={root: _Pools(proxy) for root, proxy in proxies_of(urls).items()},
        follow_redirects=False,
        trust_env=False,
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


class PlainTransport:
    """For endpoints without a key. To be made inside a running loop."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._client = _client(urls)

    async def send(self, method: str, url: str, body: Any, seconds: float) -> Reply:
        """See `Transport.send`."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.request(method, url, content=content, headers=headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise UnreachableError(str(error) or "no connection in time") from error
        except httpx2.RequestError as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        return _reply(response, response.content)

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._client.aclose()


class OpenaiTransport:
    """The official client, for endpoints with a key. To be made inside a running loop."""

    def __init__(self, urls: Sequence[str], key: str) -> None:
        import openai

        self._lib, self._key = openai, key
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url="http://localhost",  # every url is given whole
            organization="",  # those of the environment are OpenAI's own, not any endpoint's
            project="",
            max_retries=0,  # ours know of the other replicas, the limits and the budget
            http_client=_client(urls),
        )

    async def send(self, method: str, url: str, body: Any, seconds: float) -> Reply:
        """See `Transport.send`."""
        lib = self._lib
        options: Any = {"timeout": httpx2.Timeout(None, connect=CONNECT_SECONDS)}
        try:
            async with asyncio.timeout(seconds):
                if method == "GET":
                    response = await self._client.get(url, cast_to=httpx2.Response, options=options)
                else:
                    response = await self._client.post(
                        url, cast_to=httpx2.Response, body=body, options=options
                    )
        except lib.APIStatusError as error:
            response = error.response
        except lib.APIConnectionError as error:
            # `from None`: what the client raises holds the request, and with it the key.
            said = mask_secrets(f"{error.__cause__ or error}", [self._key])
            if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
                raise UnreachableError(said) from None
            raise BrokenError(said) from None
        return _reply(response, without_key(response.content, self._key))

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._client.close()


def _reply(response: httpx2.Response, body: bytes) -> Reply:
    retry_after = response.headers.get("Retry-After")
    return Reply(status=response.status_code, retry_after=retry_after, body=body)


def proxies_of(urls: Sequence[str]) -> dict[str, str]:
    """By scheme and host of the URLs, the proxy that each is reached through, if any."""
    proxies: dict[str, str] = {}
    for url in urls:
        if proxy := proxy_of(url):
            parts = urlsplit(url)
            root = f"{parts.scheme}://{parts.netloc}"
            proxies[root] = proxy if "://" in proxy else f"http://{proxy}"
    return proxies


def without_key(body: bytes, key: str) -> bytes:
    """What a server sent, without the key that it was sent: masked where all of it comes in, so
    that nothing that is stored or shown of it can have the key.
    """
    text = body.decode(errors="replace")
    masked = mask_secrets(text, [key])
    return body if masked == text else masked.encode()


def read_key(variable: str) -> str:
    """The key that an environment variable holds.

    Raises:
        ValueError: it holds none, or one that no HTTP header can carry.

    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"the environment variable {variable} is not set: put the API key there")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"the environment variable {variable} holds no API key: see what it holds")
    return key
