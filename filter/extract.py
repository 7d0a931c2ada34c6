"""Find the final answer in the text after the reasoning."""

from __future__ import annotations

import re

# A backslash takes the character after it along, so that `\{` is no brace and `\\{` is one.
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_STATED = re.compile(
    r"####\s*(?P<marked>[^\n]+)"
    r"|\b(?:answer|result)\b\**\s*(?:\bis\b|[:=])[:*\s]*(?P<said>[^\n]+)",
    re.IGNORECASE,
)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")


def last_boxed(text: str) -> str | None:
    r"""What stands in the last balanced `\boxed{…}` or `\fbox{…}`, without outer whitespace.

    Of two boxes in one another the inner one is the last. An empty box is `""`; None where there
    is no box that closes. Takes time linear in the text, whatever the text.
    """
    opened: list[tuple[int, int] | None] = []  # a box's begin and its content's, None: a brace
    best: tuple[int, int, int] | None = None
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            opened.append(None)
        elif token == "}":
            box = opened.pop() if opened else None
            if box is not None and (best is None or box[0] > best[0]):
                best = (*box, match.start())
        elif token.endswith("{") and len(token) > 2:
            opened.append((match.start(), match.end()))
    return None if best is None else text[best[1] : best[2]].strip()


def last_stated(text: str) -> str | None:
    r"""The last answer that is stated without a box: after `####`, `answer is`, `Answer:`; else
    the last formula (`$…$`, `\[…\]`, `\(…\)`); else the last number. None where there is none.
    """
    stated = None
    for match in _STATED.finditer(text):
        stated = match
    if stated is not None:
        said = (stated["marked"] or stated["said"]).strip(" \t*")
        formula = _MATHS.match(said)
        return _group(formula) if formula else said.rstrip(".") or None
    formulas = _MATHS.findall(text)
    if formulas:
        return next((part.strip() for part in formulas[-1] if part), None)
    numbers = _NUMBER.findall(text)
    return numbers[-1].rstrip(",") if numbers else None


def _group(match: re.Match[str]) -> str:
    return next(part for part in match.groups() if part).strip()
