"""Keep API keys out of what is stored of a server's replies."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "[key]"
_SHORTEST = 8  # `EMPTY` and the like, which servers of one's own are given, are no secrets
_ESCAPE = re.compile(r"\\u00([0-9a-fA-F]{2})")


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    r"""A text with `[key]` in the place of each secret of eight characters or more, also where it
    is written with JSON's `\u`, percent, or HTML escapes.

    For everything that a server sent and that is stored or shown: a server can send back the
    headers that it was sent. Mask before a text is cut, since a part of a secret is not found.
    Other disguises (reversed, base64) are not found: a server that has the key can always leak it.
    """
    for secret in secrets:
        if len(secret) >= _SHORTEST and secret in _decoded(text):
            text = re.sub("".join(map(_spellings, secret)), HIDDEN, text)
    return text


def _decoded(text: str) -> str:
    """A text without escapes, next to itself, cheaply where there are none."""
    plain = text
    if "\\u00" in plain:
        plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), plain)
    if "&#" in plain:
        plain = html.unescape(plain)
    if "%" in plain:
        plain = unquote(plain)
    return plain if plain == text else f"{text}\n{plain}"


def _spellings(character: str) -> str:
    """A pattern of one character, however it is escaped."""
    code = ord(character)
    return (
        rf"(?:{re.escape(character)}|\\u(?i:{code:04x})|%(?i:{code:02x})"
        rf"|&#0*{code};|&#(?i:x0*{code:x});)"
    )
