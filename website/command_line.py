"""The page of the command line, from the `tracestill` command itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from tracestill.commands.app import app

HEAD = """\
# Command line

Every command with its arguments and options, made from the command itself. `tracestill COMMAND
--help` prints the same. All commands take `--debug`, which shows the traceback of an error. The
status is 0 where all went well, 1 after an error, 2 for a command or option that does not exist,
and 130 after Ctrl-C.
"""


_KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER"}


def commands() -> dict[str, Any]:
    """The commands by name, in the order in which `tracestill --help` lists them."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def options(command: Any) -> list[str]:
    """The options of a command as they are written, `--help` and `--debug` with them."""
    own = [text for one in command.params for text in (*one.opts, *one.secondary_opts)]
    return [text for text in own if text.startswith("-")] + ["--help", "--debug"]


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    for name, command in commands().items():
        parts.append(f"## {name}\n")
        parts.append(f"```sh\n{_usage(name, command)}\n```\n")
        parts.append(" ".join(inspect.cleandoc(command.help or "").split()) + "\n")
        rows = list(_rows(command))
        if rows:
            parts += ["| | default | |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(parts)


def _usage(name: str, command: Any) -> str:
    words = [_argument(one) for one in command.params if not _is_option(one)]
    return " ".join(["tracestill", name, *words, "[OPTIONS]"])


def _is_option(parameter: Any) -> bool:
    return any(text.startswith("-") for text in parameter.opts)


def _argument(parameter: Any) -> str:
    text = parameter.metavar or parameter.name.upper()
    text = text if parameter.required else f"[{text}]"
    return f"{text}…" if parameter.nargs == -1 else text


def _rows(command: Any) -> Iterator[str]:
    for one in command.params:
        said = " ".join((getattr(one, "help", None) or "").split()).replace("|", "\\|")
        if not _is_option(one):
            yield f"| `{_argument(one)}` | | {said} |"
        elif "--help" not in one.opts:
            yield f"| {_written(one)} | {_default(one)} | {said} |"


def _written(option: Any) -> str:
    names = [*_longest(option.opts), *_longest(option.secondary_opts)]
    kind = option.bare_type().removeprefix("list[").removesuffix("]")
    value = "" if option.is_flag else f" {option.metavar or _KINDS.get(kind, kind.upper())}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _longest(names: list[str]) -> list[str]:
    """The longest of an option's spellings, if it has any."""
    return [max(names, key=len)] if names else []


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    if value is None or value is False or value == () or value == [] or callable(value):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
