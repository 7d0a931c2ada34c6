"""Checks of the built site that its builder does not make."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, by element: a link that a reader clicks is none of it.
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class _Links(HTMLParser):
    """The files that a page fetches, and those that it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element leads to."""
        values = {name: value for name, value in attrs if value}
        address = values.get(_FETCHED.get(tag, ""))
        if address and not (tag == "link" and values.get("rel") in ("canonical", "prev", "next")):
            self.fetched.append(address)
        if tag == "a" and "href" in values:
            self.linked.append(values["href"])


def mistakes(site: Path) -> list[str]:
    """What is wrong with a built site, a line each: a page that fetches something from another
    host, and a link to a file that is not there.
    """
    found = []
    for page in sorted(site.rglob("*.html")):
        seen = _Links()
        seen.feed(page.read_text(encoding="utf-8"))
        name = page.relative_to(site)
        found += [
            f"{name}: fetches {address} from another host"
            for address in seen.fetched
            if urlsplit(address).netloc
        ]
        for address in [*seen.fetched, *seen.linked]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            if page.name == "404.html":
                continue  # shown at any address, so its links begin at the site's root
            target = page.parent / unquote(parts.path)
            if not (target.is_file() or (target / "index.html").is_file()):
                found.append(f"{name}: the link {address} leads nowhere")
    return found
