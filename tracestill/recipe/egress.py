"""Nothing leaves the machine unless the recipe says so: the hosts that a recipe may send to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

from tracestill.recipe.hosts import host_of, is_loopback, plain_host, proxy_of
from tracestill.recipe.models import ServedModel
from tracestill.recipe.sandbox import machine_url, read_sandbox
from tracestill.recipe.schema import Recipe
from tracestill.recipe.trackers import destinations


def _endpoints(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Every URL to which a run of the recipe sends something, after the key that names it and the
    URL whose host must be allowed for it.
    """
    for key, section in (("generate", recipe.generate), ("filter.judge", recipe.filter.judge)):
        if isinstance(section, ServedModel):
            for index, url in enumerate(section.base_urls):
                yield f"{key}.base_urls.{index}", url, url
    sandbox = read_sandbox(recipe.filter.sandbox)
    if sandbox.url:
        yield "filter.sandbox", sandbox.url, sandbox.url
    if sandbox.service == "e2b":  # a proxy may be set for the API's name and not for the machines'
        yield "filter.sandbox", machine_url(sandbox, "any"), sandbox.url
    for url in destinations(recipe.finetune.report_to):
        yield "finetune.report_to", url, url


def egress_mistakes(recipe: Recipe) -> list[str]:
    """A line for each endpoint, and for each proxy on the way to one, that is neither on this
    machine nor allowed. No line shows a URL, which may hold a password.
    """
    mistakes = (_mistakes_of(recipe, *endpoint) for endpoint in _endpoints(recipe))
    return list(dict.fromkeys(itertools.chain.from_iterable(mistakes)))


def _mistakes_of(recipe: Recipe, key: str, url: str, allowed_by: str) -> list[str]:
    try:
        hosts = [("", host_of(allowed_by))]
        if proxy := proxy_of(url):
            hosts.append(("the proxy that the environment sets, ", _proxy_host(proxy)))
    except ValueError as error:
        return [f"{key}: {error}"]
    return [
        f"{key}: {what}{host} is not this machine, and nothing leaves it unless the recipe "
        f"says so: add {host} to egress.allow, as in `egress: {{allow: [{_quoted(host)}]}}`"
        for what, host in hosts
        if not is_loopback(host) and host not in recipe.egress.allow
    ]


def _proxy_host(proxy: str) -> str:
    host = urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname
    if not host:
        raise ValueError("the environment sets a proxy that is no URL: see HTTPS_PROXY, ALL_PROXY")
    return plain_host(host)


def _quoted(host: str) -> str:
    return f'"{host}"' if ":" in host else host  # YAML reads a colon as a mapping's


def check_egress(recipe: Recipe) -> None:
    """Refuse a recipe that sends something to a host that it does not allow.

    Raises:
        ValueError: it does; one line for each such host, with the key to add.

    """
    if mistakes := egress_mistakes(recipe):
        raise ValueError("\n".join(mistakes))


def check_push(recipe: Recipe, url: str) -> None:
    """Refuse to send a run's results to the hub at `url` where the recipe lists hosts and this one
    is not among them. Where it lists none, the command that sends them says it.

    Raises:
        ValueError: the recipe does not allow the host, with the key to add.

    """
    if recipe.egress.allow and (mistakes := _mistakes_of(recipe, "push", url, url)):
        raise ValueError("\n".join(mistakes))
