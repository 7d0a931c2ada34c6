"""By what answers are judged without a model: where programs run, and verifiers of one's own."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tracestill.recipe.functions import Function, read_function
from tracestill.recipe.sandbox import BUBBLEWRAP, Sandbox, read_sandbox
from tracestill.records.schema import Kind

_NAME = r"^[a-z][a-z0-9_]*$"
KINDS: tuple[Kind, ...] = typing.get_args(Kind)
KindName = Kind | Annotated[str, Field(pattern=_NAME)]
"""A kind of problem: one that is known, or one that a verifier of the recipe's own judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Where programs run, and for kinds of problems that are not known by themselves the functions
    that judge them, in the order of their names.
    """

    sandbox: Sandbox = BUBBLEWRAP
    own: tuple[tuple[str, Function], ...] = ()

    def function(self, kind: str) -> Function | None:
        """The function that judges problems of a kind; None where it is not one of the user's."""
        return dict(self.own).get(kind)


RULES = Rules()


def read_rules(sandbox: str, verifiers: Mapping[str, str]) -> Rules:
    """The rules of a recipe's or a command's words: `sandbox` as `read_sandbox` reads it, and for
    each kind of `verifiers` its function, `FILE.py:FUNCTION`.

    Raises:
        ValueError: a word means nothing, a kind's name is taken, or a function is not there.

    """
    own = []
    for kind, text in sorted(verifiers.items()):
        if mistake := name_mistake(kind):
            raise ValueError(mistake)
        try:
            own.append((kind, read_function(text)))
        except ValueError as error:
            raise ValueError(f"the verifier {kind}: {error}") from error
    return Rules(sandbox=read_sandbox(sandbox), own=tuple(own))


def read_verifiers(entries: Iterable[str] | None) -> dict[str, str]:
    """What `--verifier KIND=FILE.py:FUNCTION` says, once or more often.

    Raises:
        ValueError: an entry is written otherwise.

    """
    pairs = [entry.partition("=") for entry in entries or ()]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise ValueError(f"--verifier {wrong[0]}: write it as --verifier KIND=FILE.py:FUNCTION")
    return {kind: text for kind, _, text in pairs}


def name_mistake(kind: str) -> str | None:
    """What is wrong with the name of a kind that a function of the user's judges."""
    if kind in KINDS:
        return f"problems of kind {kind} have a verifier: give yours another name"
    if not re.match(_NAME, kind):
        return f"{kind!r} is no name of a kind: use small letters, digits and _"
    return None


def kind_mistake(kind: str, verifiers: Iterable[str]) -> str | None:
    """What is wrong with a problem's kind where these verifiers are the user's own."""
    own = sorted(verifiers)
    if kind in KINDS or kind in own:
        return None
    there = ", ".join([*KINDS, *own])
    return f"nothing judges problems of kind {kind!r}: take one of {there}, or name its verifier"
