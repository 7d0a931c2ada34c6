"""Python functions of the user's own, which a recipe names as `FILE.py:FUNCTION`."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

PATTERN = r"^.+\.py:[A-Za-z_]\w*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """The function `name` in the file `path`, whose content has the SHA-256 `content` (hex)."""

    path: str
    name: str
    content: str

    @property
    def path_and_name(self) -> str:
        """As it is written, `FILE.py:FUNCTION`, with the whole path."""
        return f"{self.path}:{self.name}"

    @property
    def label(self) -> str:
        """What its results are told apart by: both names, and the content."""
        return f"{Path(self.path).stem}.{self.name}-{self.content[:12]}"


def is_function(text: str) -> bool:
    """Whether a text names a function in a file."""
    return re.match(PATTERN, text) is not None


def read_function(text: str) -> Function:
    """The function that is written `FILE.py:FUNCTION`. Its file is read, and not run.

    Raises:
        ValueError: the file is missing, is no Python, or has no such function.

    """
    if not is_function(text):
        raise ValueError(f"{text!r} names no function: write FILE.py:FUNCTION")
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    source = path.read_bytes()
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{path}{line} is no Python: {error.args[0]}") from error
    # A decorator, an import or an assignment may give the name as well as `def` does.
    if name not in set(re.findall(r"\w+", source.decode("utf-8", "replace"))):
        there = [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
        raise ValueError(f"{path} has no function {name}, only {', '.join(there) or 'none'}")
    return Function(path=str(path.resolve()), name=name, content=hashlib.sha256(source).hexdigest())
