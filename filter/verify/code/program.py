"""Find the program in an answer."""

from __future__ import annotations

import re

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<ticks>`{3,}|~{3,})[ \t]*(?P<label>[\w+.#-]*)[^`]*")
_PYTHON = frozenset({"python", "python3", "py", "py3"})


def last_program(answer: str) -> str:
    """The program in the text after the last `</think>`: its last code block labelled as Python,
    else its last one without a label, else all of it, which may yet be no program. A block that
    is not closed extends to the end.
    """
    text = answer.rpartition("</think>")[2]
    found: dict[bool, str] = {}
    for label, content in _blocks(text):
        if label in _PYTHON or not label:
            found[bool(label)] = content
    return found.get(True, found.get(False, text))


def _blocks(text: str) -> list[tuple[str, str]]:
    """Fenced code blocks, each as its label in lower case and its content."""
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        fence = _FENCE.fullmatch(line)
        if opened is None:
            opened, lines = fence, []
        elif fence and not fence["label"] and fence["ticks"].startswith(opened["ticks"]):
            blocks.append((opened["label"].lower(), "\n".join(lines) + "\n"))
            opened = None
        else:
            lines.append(line.removeprefix(opened["indent"]))
    if opened is not None:
        blocks.append((opened["label"].lower(), "\n".join(lines)))
    return blocks


def with_prompt(prompt: str, program: str, name: str) -> list[str]:
    """The ways to read a program for a prompt that ends in a function's head: after the prompt,
    whose imports and helpers it may need, else alone; where it does not define the function, it
    is the body. The first that compiles counts.
    """
    defined = re.search(
        rf"^(?:async\s+)?def\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", program, re.M
    )
    if defined:
        return [f"{prompt}\n{program}", program]
    indented = "\n".join(f"    {line}" for line in program.split("\n"))
    return [prompt + program, prompt + indented, program]
