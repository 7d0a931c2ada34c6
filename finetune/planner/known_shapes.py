"""The sizes of well-known students, by their names on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parent / "known_shapes.json"
# Words of names that change no sizes: how a model was trained on, its context, a date, its makers.
_VARIANTS = re.compile(
    r"instruct|it|pt|base|chat|hf|thinking|reasoning|sft|dpo|bnb|4bit|1m|128k|meta|\d{4}"
)


def known_config(model: str) -> dict[str, Any] | None:
    """What a config.json says of a well-known student's sizes; None if the table does not have it.

    `model` is a name on the hub, whoever has put it there.
    """
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    wanted = _words(model.rpartition("/")[2])
    for name, row in table["models"].items():
        if _words(name) == wanted:
            return dict(zip(table["columns"], row, strict=True))
    return None


def _words(name: str) -> list[str]:
    return [word for word in name.lower().split("-") if not _VARIANTS.fullmatch(word)]
