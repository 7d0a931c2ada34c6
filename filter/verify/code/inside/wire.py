"""Values as data: what a program returned, as JSON that says every type.

Only exact values travel, never objects: whatever a program's object claims to be equal to, it
arrives as `["object", …]`. The sandbox packs; the parent compares the packed form as it is, since
building sets or dicts from a program's values would let it choose colliding keys.
"""

from __future__ import annotations

import sys
from typing import Any

_PLAIN_INT = 2**53
_SEQUENCES: dict[str, type[Any]] = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}

Message = dict[str, Any]
"""A line on a program's channel: a JSON object, of which a program may have chosen all."""


class Opaque:
    """Stands for an object that can't travel. It is equal to nothing but itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name} object>"


def pack(value: Any) -> Any:
    """A value as JSON: None, booleans, strings and short integers as they are; of all else a list
    of its type's name and its content. A subclass's instance travels as its base's.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if abs(number) < _PLAIN_INT else ["int", hex(number)]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", complex.__repr__(value)]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.hex()]
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return [name, [pack(item) for item in kind.__iter__(value)]]
    if isinstance(value, dict):
        return ["dict", [[pack(key), pack(item)] for key, item in dict.items(value)]]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return pack(value.item())
    return ["object", type(value).__name__[:100]]


def unpack(packed: Any) -> Any:
    """The value that was packed; an `Opaque` for an object. For use in the sandbox.

    Raises:
        ValueError: nothing was packed so.

    """
    if packed is None or isinstance(packed, (bool, int, str)):
        return packed
    match packed:
        case ["int", str(text)]:
            return int(text, 16)
        case ["float", str(text)]:
            return float.fromhex(text)
        case ["complex", str(text)]:
            return complex(text)
        case ["bytes", str(text)]:
            return bytes.fromhex(text)
        case [str(name), list(items)] if name in _SEQUENCES:
            return _SEQUENCES[name](unpack(item) for item in items)
        case ["dict", list(pairs)]:
            return {unpack(key): unpack(item) for key, item in pairs}
        case ["object", str(name)]:
            return Opaque(name)
    raise ValueError("no value was packed so")
