"""The keys of a chat template's contract that a recipe can set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracestill.recipe.section import Section

OWN = "own"
"""The name of the template that comes with a student."""
Think = Literal["prefilled", "generated", "none"]
DAY = r"^\d{4}-\d\d-\d\d$"


class ContractKeys(Section):
    """What a recipe says of the contract, beside `think` and `stop`; null: as the template's
    contract says, or as is found out by trying the template.
    """

    opens: str | None = Field(default=None, pattern=r"\S")
    """The text before the reasoning, with its white space."""
    closes: str | None = Field(default=None, pattern=r"\S")
    """The text between the reasoning and the answer, with its white space."""
    eos: list[str] | None = None
    """Further tokens that end a generation."""
    bos: bool | None = None
    """Whether a prompt begins with the tokenizer's bos token."""
    system: bool | None = None
    """Whether the template shows a system turn."""
    past_reasoning: bool | None = None
    """Whether it shows the reasoning of past turns."""
    switch: str | None = None
    """The template's variable that turns thinking on and off, such as `enable_thinking`."""
    date: str | None = Field(default=None, pattern=DAY)
    """The day, such as 2024-07-26, that a template which prints today's date prints always."""
    languages: list[str] | None = None
    """The languages that the template knows by its variable `language`."""
    normalisation: Literal["NFC", "NFKC"] | None = None
    """The Unicode form to which a slow tokenizer normalises its input."""
