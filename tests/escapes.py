"""Reads the programs in escapes.md and makes the problems that they fail."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tracestill.records import Problem

_SECTION = re.compile(
    r"^## (?P<tries>[^\n]+)\n`(?P<shape>\w+)` → `(?P<detail>[^\n]+)`\n"
    r"(?P<peers>[^`\n][^\n]*\n)?```python\n(?P<source>.*?)^```$",
    re.M | re.S,
)


def programs() -> list[dict[str, str]]:
    """What each program tries, against which shape of tests, what the verdict's detail must
    match, what others' runners made of it (`peers`, if that was tried), and its source.
    """
    text = (Path(__file__).parent / "escapes.md").read_text()
    found = [match.groupdict("") for match in _SECTION.finditer(text)]
    assert len(found) == text.count("\n## "), "a program is not written like the others"
    return found


def problem(shape: str, given: dict[str, Any], secret: str) -> Problem:
    """A problem that only the secret solves."""
    prompt = "def f(given):\n"
    if shape == "stdin":
        reference = {"inputs": [json.dumps(given)], "outputs": [secret]}
    elif shape == "call":
        reference = {"inputs": [[given]], "outputs": [secret], "fn_name": "f"}
    else:
        test = f"def check(candidate):\n    assert candidate({given!r}) == {secret!r}\n"
        reference = {"test": test, "entry_point": "f", "prompt": prompt}
    return Problem(
        id="p", prompt=prompt, reference=json.dumps(reference), kind="code", source="test"
    )
