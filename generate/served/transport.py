"""How requests travel: the protocol, and the official client for endpoints that want a key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from generate.served.http import CONNECT_SECONDS, BrokenError, Reply, UnreachableError
from tracestill.records.hosts import proxy_of
from tracestill.records.keys import mask_secrets


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


class ClientTransport:
    """The official client, for endpoints with a key. To be made inside a running loop."""

    def __init__(self, key: str, urls: Sequence[str]) -> None:
        import httpx2
        import openai

        self._http, self._lib, self._key = httpx2, openai, key
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=1000)
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url="http://localhost",  # every url is given whole
            organization="",  # those of the environment are OpenAI's own, not any endpoint's
            project="",
            max_retries=0,  # ours know of the other replicas, the limits and the slots
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                trust_env=False,  # it would have a proxy asked for this machine, key and all
                limits=limits,
                mounts={
                    root: httpx2.AsyncHTTPTransport(proxy=proxy, limits=limits, trust_env=False)
                    for root, proxy in proxies_of(urls).items()
                },
            ),
        )

    async def send(self, method: str, url: str, body: Any, seconds: float) -> Reply:
        """See `Transport.send`."""
        http, lib = self._http, self._lib
        options: Any = {"timeout": http.Timeout(seconds, connect=CONNECT_SECONDS)}
        try:
            if method == "GET":
                response = await self._client.get(url, cast_to=http.Response, options=options)
            else:
                response = await self._client.post(
                    url, cast_to=http.Response, body=body, options=options
                )
        except lib.APIStatusError as error:
            response = error.response
        except lib.APITimeoutError as error:
            if isinstance(error.__cause__, http.ConnectTimeout):
                raise UnreachableError("no connection in time") from None
            raise TimeoutError from None
        except lib.APIConnectionError as error:
            # `from None`: what the client raises holds the request, and with it the key.
            said = mask_secrets(f"{error.__cause__ or error}", [self._key])
            if isinstance(error.__cause__, http.ConnectError):
                raise UnreachableError(said) from None
            raise BrokenError(said) from None
        return Reply(
            status=response.status_code,
            retry_after=response.headers.get("Retry-After"),
            body=without_key(response.content, self._key),
        )

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._client.close()


def proxies_of(urls: Sequence[str]) -> dict[str, str]:
    """The proxy of each scheme and host among the URLs that is to be asked past one."""
    parts = {url: urlsplit(url) for url in urls}
    return {
        f"{part.scheme}://{part.netloc}": proxy
        for url, part in parts.items()
        if (proxy := proxy_of(url))
    }


def without_key(body: bytes, key: str) -> bytes:
    """What a server sent, without the key that it was sent: here, where all of it comes in, so
    that nothing of it can be stored or shown that still has it.
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
