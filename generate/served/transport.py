"""How bytes travel: aiohttp to servers of one's own, the `openai` client where there is a key.

Measured with 2 kB answers on one core, aiohttp takes about 0.1 ms a request; HTTP code of our
own would take a quarter of that, which no server that runs a model could make use of.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

CONNECT_SECONDS = 20.0
_HEADERS = {"Content-Type": "application/json"}


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


class PlainTransport:
    """aiohttp, for endpoints without a key. To be made inside a running loop."""

    def __init__(self) -> None:
        import aiohttp

        self._lib = aiohttp
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the slots limit
            skip_auto_headers=["User-Agent"],
        )

    async def send(self, method: str, url: str, body: Any, seconds: float) -> Reply:
        """See `Transport.send`."""
        lib = self._lib
        data = None if body is None else msgspec.json.encode(body)
        timeout = lib.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.request(
                method, url, data=data, headers=_HEADERS, timeout=timeout, allow_redirects=False
            ) as response:
                return Reply(
                    status=response.status,
                    retry_after=response.headers.get("Retry-After"),
                    body=await response.read(),
                )
        except lib.ClientConnectorError as error:
            raise UnreachableError(str(error.os_error)) from error
        except lib.ConnectionTimeoutError as error:
            raise UnreachableError("no connection in time") from error
        except TimeoutError:
            raise
        except (lib.ClientError, OSError) as error:
            raise BrokenError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._session.close()


class ClientTransport:
    """The official client, for endpoints with a key. To be made inside a running loop."""

    def __init__(self, key: str) -> None:
        import httpx2
        import openai

        self._http, self._lib = httpx2, openai
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url="http://localhost",  # every url is given whole
            organization="",  # those of the environment are OpenAI's own, not any endpoint's
            project="",
            max_retries=0,  # ours know of the other replicas, the limits and the slots
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=1000),
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
            said = f"{error.__cause__ or error}"
            if isinstance(error.__cause__, http.ConnectError):
                raise UnreachableError(said) from None
            raise BrokenError(said) from None
        return Reply(
            status=response.status_code,
            retry_after=response.headers.get("Retry-After"),
            body=response.content,
        )

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._client.close()


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
