"""Where a URL leads: to this machine or to another, and past which proxy."""

from __future__ import annotations

import ipaddress
import re

# typeshed lacks the second
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

_URL = re.compile(
    r"(?i:https?)://"
    r"(?:\[(?P<v6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[A-Za-z0-9._~/%+-]*)?"
)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)


def host_of(url: str) -> str:
    """The host of an endpoint's URL, as `plain_host` writes it.

    Only plain URLs are read, so that no two readers can disagree on where one leads. The message
    of an error never shows the URL, which may hold a password.

    Raises:
        ValueError: it is no plain http or https URL.

    """
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65535:
        raise ValueError(_fault(url))
    return plain_host(found["v6"] or found["name"])


def _fault(url: str) -> str:
    """What is wrong with a URL that is not plain, without showing it."""
    rest = url.partition("://")[2]
    if not url.lower().startswith(("http://", "https://")):
        return "an endpoint begins with http:// or https://"
    if "@" in rest:
        return "a URL holds no user or password: keys come from the environment (api_key_env)"
    if "?" in rest or "#" in rest:
        return "an endpoint is a URL without ? and #: keys come from the environment (api_key_env)"
    if not rest.isascii():
        return "write the host in its ASCII form, which begins with xn--"
    return "write a plain URL, such as http://localhost:8000/v1"


def plain_host(host: str) -> str:
    """A host in the one form in which hosts are compared: lower case, an IP address in its shortest
    form.

    Raises:
        ValueError: it is no host, or one that programs read differently: with a dot at its end, or
            an IP address in a spelling such as 2130706433 or 0x7f.1.

    """
    text = host.lower()
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        pass
    else:
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
    if text.endswith("."):
        raise ValueError("write the host without the dot at its end")
    labels = text.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError("write an IP address as four numbers, such as 127.0.0.1")
    if not all(re.fullmatch(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", label) for label in labels):
        raise ValueError(f"{host!r} is no host: write it alone, such as api.deepseek.com")
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for certain: `localhost`, 127.0.0.0/8 or ::1.

    `host` is as `plain_host` writes it. Names are not looked up: that would itself tell somebody,
    and what a name means may change before it is used. So `x.localhost`, which some resolvers ask
    the network for, is another machine, and so is 0.0.0.0.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_of(url: str) -> str | None:
    """The URL of the proxy that the environment (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` …) sets for
    a URL; None where there is none. This machine is never asked through a proxy.

    Whoever sends something uses this and switches off its own reading of the environment, so that
    what is sent goes where the check of hosts says that it goes.

    Raises:
        ValueError: it is no plain http or https URL.

    """
    host = host_of(url)
    proxies = getproxies_environment()
    if is_loopback(host) or proxy_bypass_environment(host, proxies):
        return None
    return proxies.get(url.partition(":")[0].lower()) or proxies.get("all")
