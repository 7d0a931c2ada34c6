"""Who may ask: the person at this machine's browser, who was told the address with its token.

The server listens on loopback only, but other users of the machine, and every page that is open in
the browser, can reach that. So each request needs a cookie, which only the printed address gives;
its Host must be the loopback name and port, so that no other name can be made to lead here (DNS
rebinding); and what changes something must come from the page itself.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
LONGEST_BODY = 16_384  # bytes
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_READS = ("GET", "HEAD")


class Guard:
    """Lets through what the person may ask, and puts the same strict headers on every answer."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"tracestill-view-{port}"  # cookies know no ports
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        further: list[tuple[bytes, bytes]] = []

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own, *further]}
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            await _answer(with_headers, *refused)
            return
        if _token_in(scope) is not None:
            said = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
            further.append((b"set-cookie", said.encode()))
        await self._app(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the line with which a request is refused; None where it is not."""
        headers = _headers(scope)
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 403, "this server answers by its own address only"
        if not self._is_known(scope, headers):
            return 403, "open the address that `tracestill view` printed, with its token"
        if scope["method"] in _READS:
            return None
        if headers.get("origin") != [f"http://{hosts[0]}"]:
            return 403, "only the page of this server may change something"
        if [one.partition(";")[0] for one in headers.get("content-type", [])] != [
            "application/json"
        ]:
            return 415, "send JSON"
        length = headers.get("content-length", [""])[0]
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            return 413, f"send at most {LONGEST_BODY} bytes"
        return None

    def _is_known(self, scope: Scope, headers: Mapping[str, list[str]]) -> bool:
        token = _token_in(scope)
        if token is not None:
            return _same(token, self._token)
        found = [
            cookie[self._cookie].value
            for one in headers.get("cookie", [])
            if self._cookie in (cookie := _cookies(one))
        ]
        return len(found) == 1 and _same(found[0], self._session)


def _same(given: str, wanted: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how far they are."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


def _cookies(header: str) -> SimpleCookie:
    try:
        return SimpleCookie(header)
    except CookieError:  # another server's on this host
        return SimpleCookie()


def _token_in(scope: Scope) -> str | None:
    """The token in the page's address, where there is any."""
    if scope["path"] != "/":
        return None
    found = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token")
    return found[-1] if found else None


def _headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


async def _answer(send: Any, status: int, line: str) -> None:
    body = json.dumps({"detail": line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
