"""Where programs are run: bubblewrap on this machine, or a server that runs them."""

from __future__ import annotations

import ipaddress
import re
import typing
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

Service = Literal["bubblewrap", "piston", "sandboxfusion", "e2b"]
_E2B = "https://api.e2b.app"
E2B_PORT = 49983
_WRITE = "write bubblewrap, piston=http://HOST:2000, sandboxfusion=http://HOST:8080 or e2b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A sandbox: which, and for a server the address of its API."""

    service: Service = "bubblewrap"
    url: str = ""


BUBBLEWRAP = Sandbox()


def read_sandbox(text: str) -> Sandbox:
    """The sandbox that is written `bubblewrap`, `piston=URL`, `sandboxfusion=URL`, `e2b` or, for
    one's own installation, `e2b=URL`.

    Raises:
        ValueError: it is none of these.

    """
    name, _, url = text.partition("=")
    url = url.rstrip("/") or (_E2B if name == "e2b" else "")
    for service in typing.get_args(Service):
        if name == service:
            sandbox = Sandbox(service=service, url=url)
            break
    else:
        raise ValueError(f"there is no sandbox {text!r}: {_WRITE}")
    if sandbox == BUBBLEWRAP:
        return BUBBLEWRAP
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and not re.search(r"[\s\\]", url)
    except ValueError:
        good = False
    if name == "bubblewrap" or not good or parts.query or parts.fragment:
        raise ValueError(f"the sandbox {text!r} needs an address: {_WRITE}")
    if "@" in parts.netloc:  # a recipe is copied into runs and reports
        raise ValueError("a sandbox's address holds no password")
    if name == "e2b" and parts.scheme == "http" and host_of(sandbox) is not None:
        raise ValueError(f"the sandbox {text!r} would send its key in the clear: write https")
    return sandbox


def host_of(sandbox: Sandbox) -> str | None:
    """The host that programs are sent to; None where they stay on this machine. (E2B's machines
    have names of their own below its API's domain.)
    """
    host = urlsplit(sandbox.url).hostname
    if host is None or host == "localhost":
        return None
    try:
        return None if ipaddress.ip_address(host).is_loopback else host
    except ValueError:
        return host


def machine_url(sandbox: Sandbox, name: str) -> str:
    """Where the daemon of an E2B machine is: under the API's domain, or behind the same address
    where all of it is on one machine. Never where an answer says, which could be anywhere.
    """
    if host_of(sandbox) is None:
        return sandbox.url
    parts = urlsplit(sandbox.url)
    domain = (parts.hostname or "").removeprefix("api.")
    return f"{parts.scheme}://{E2B_PORT}-{quote(name, safe='')}.{domain}"
