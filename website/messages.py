"""The error lines that a user can get, read from the source without running it.

`docs/when-it-goes-wrong.md` explains each of them. A test holds the two together.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("tracestill", "generate", "filter", "finetune")
GAP = "…"
"""What stands in a message for a value that is put in."""

SHORTEST = 12
"""How many letters of a message tell it from others."""

# These never end a command: they become a verdict with its reason, or an attempt is made again.
INTERNAL = {
    "TooDearError", "Unreadable", "ProgramError", "UnjudgedError", "UnreachableError",
    "BrokenError", "_BusyError", "SyntaxError", "AttributeError", "IndexError", "TypeError",
}  # fmt: skip
# What these say is caught beside them: a grader's own checks, and the sandbox's inside.
APART = ("filter/verify/gym/", "filter/verify/code/inside/")


@dataclass(frozen=True, slots=True)
class Message:
    """An error's text as it stands in the source, with `GAP` for each value."""

    file: str
    line: int
    text: str


def raised() -> list[Message]:
    """The texts of all errors that have one of their own, by file and line."""
    found = []
    for file, tree in _modules():
        if file.startswith(APART):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and _tells(ast.unparse(node.func)):
                found += [Message(file, node.lineno, text) for text in _texts(node.args[0])]
    return sorted(found, key=lambda one: (one.file, one.line))


def _tells(called: str) -> bool:
    """Whether what is called takes the text of an error: an error's class, the failure of a
    sandbox's server, or the list of a recipe's mistakes.
    """
    name = called.rpartition(".")[2]
    if called in ("server.failed", "self.failed", "mistakes.append"):
        return True
    return name.endswith("Error") and name not in INTERNAL


def explained(page: str) -> list[str]:
    """The lines that a page explains: the code in the first column of its tables."""
    cells = re.findall(r"^\| (`+)(.+?)\1 \|", page, re.M)
    return [" ".join(text.split()) for _, text in cells]


def covers(line: str, text: str) -> bool:
    """Whether an explained line is of this message: all of it, or a part that is long enough to
    know it by. Twice as much is asked of one that ends where a value begins, as in
    `finetune.template: …`, with which other messages may begin too.
    """
    fixed = len(line.replace(GAP, "").strip())
    enough = fixed >= (2 * SHORTEST if line.endswith(GAP) else SHORTEST)
    return line == text or (enough and line in text)


def written() -> set[str]:
    """Every text with a value in it or without one that stands anywhere in the source."""
    texts: set[str] = set()
    for _, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp):
                texts.update(_texts(node))
    return texts


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _texts(node: ast.expr) -> list[str]:
    """What an expression can be as a text, if some of it is fixed; white space is one blank."""
    made = [" ".join(text.split()) for text in _parts(node)]
    return [text for text in made if any(letter.isalpha() for letter in text.replace(GAP, ""))]


def _parts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else [GAP]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_value(part) for part in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in _parts(node.left) for right in _parts(node.right)]
    if isinstance(node, ast.IfExp):
        return [*_parts(node.body), *_parts(node.orelse)]
    return [GAP]


def _value(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else GAP
