"""How requests travel: the protocol, and the official client for endpoints that want a key."""

from __future__ import annotations

import os
from typing import Any, Protocol

from generate.served.http import CONNECT_SECONDS, BrokenError, Reply, UnreachableError


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
