"""Read the turns of a chat that a column holds, whichever keys and roles they have."""

from __future__ import annotations

import json
from typing import Any

from generate.messages import Message, read_message

Turn = dict[str, Any]
"""A message, with `role` and `content` where the data set may have `from` and `value`."""

USER, _ASSISTANT = ("user", "human"), ("assistant", "gpt", "model")
_INSTRUCTING = ("system", "developer")  # a problem has no place for it


def is_chat(value: Any) -> bool:
    """Whether a column's value is a list of turns."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)
    )


def exchange(value: Any, column: str) -> tuple[Turn, Turn]:
    """The user's turn and the answer to it, in a chat that holds these alone.

    Raises:
        ValueError: it holds anything else.

    """
    value = _opened(value)
    if value != [] and not is_chat(value):
        raise ValueError(f"{column} is no list of turns")
    turns = _spoken(value)
    roles = [turn["role"] for turn in turns]
    if len(turns) != 2 or roles[0] not in USER or roles[1] not in _ASSISTANT:
        shown = roles if len(roles) < 6 else f"{len(roles)} turns"
        raise ValueError(f"{column} is not one turn of a user and one answer, but {shown}")
    if not all(read_message(turn).text.strip() for turn in turns):
        raise ValueError(f"{column} has a turn without text")
    return turns[0], turns[1]


def prompt_in(value: Any, column: str) -> str:
    """The prompt in a column: its text, or what the user says in a chat.

    Raises:
        ValueError: there is none, or more than one.

    """
    value = _opened(value)
    if is_chat(value):
        users = [turn for turn in _spoken(value) if turn["role"] in USER]
        if len(users) != 1:
            raise ValueError(f"{column} has {len(users)} turns of a user: a problem has one")
        value = read_message(users[0]).text
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in {column}")
    return value.strip()


def answers_in(value: Any, column: str) -> list[Message | None]:
    """The answers in a column: a text, an assistant's turn, a chat that ends with one, or a list of
    these. None stands for one that is no text.

    Raises:
        ValueError: a chat has more than one exchange.

    """
    value = _opened(value)
    if is_chat(value):
        turns = _spoken(value)
        if any(turn["role"] in USER for turn in turns):
            turns = [exchange(value, column)[1]]
        return [read_message(turn) for turn in turns]
    if isinstance(value, list):
        return [answer for one in value for answer in answers_in(one, column)]
    if isinstance(value, dict):
        return [read_message(_named(value))]
    return [Message(text=value, reasoning=None) if isinstance(value, str) else None]


def _opened(value: Any) -> Any:
    """The chat that a column holds as JSON text; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if is_chat(found) else value


def _spoken(turns: list[Turn]) -> list[Turn]:
    named = map(_named, turns)
    return [turn for turn in named if turn["role"] not in _INSTRUCTING]


def _named(turn: Turn) -> Turn:
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    return {**turn, "role": str(role), "content": content}
