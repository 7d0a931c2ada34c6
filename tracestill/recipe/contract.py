"""A chat template's contract: where the student's reasoning begins, and what ends its turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError

from tracestill.recipe.contract_keys import DAY, OWN, Think
from tracestill.recipe.section import Section
from tracestill.recipe.yaml_values import read_yaml

if TYPE_CHECKING:
    from tracestill.recipe.finetune import FinetuneSection

OPENS, CLOSES = "<think>\n", "\n</think>\n\n"
TEMPLATES = Path(__file__).parents[2] / "recipes" / "templates"


class Contract(Section):
    """The file NAME.yaml beside the template NAME.jinja, or what was found out by trying it."""

    models: list[str] = []
    """Which students it fits, for readers."""
    think: Think
    """Whether the template's generation prompt ends with `opens` (prefilled), the student writes it
    (generated), or it answers without reasoning (none)."""
    opens: str = Field(default=OPENS, pattern=r"\S")
    """The text before the reasoning, with its white space."""
    closes: str = Field(default=CLOSES, pattern=r"\S")
    """The text between the reasoning and the answer, with its white space."""
    stop: str = Field(min_length=1)
    """The token that ends a turn: the last one that is learnt."""
    eos: list[str] = []
    """Further tokens that end a generation, as the model's family has them."""
    bos: bool = False
    """Whether a prompt begins with the tokenizer's bos token."""
    system: bool = True
    """Whether the template shows a system turn."""
    past_reasoning: bool = False
    """Whether the template shows the reasoning of past turns."""
    switch: str | None = None
    """The template's variable that turns thinking on and off."""
    date: str | None = Field(default=None, pattern=DAY)
    """The day that the template prints in place of today's."""
    languages: list[str] = []
    """The languages that the template knows by its variable `language`; none if it ignores it."""
    normalisation: Literal["NFC", "NFKC"] | None = None
    """The Unicode form to which a slow tokenizer normalises its input; fast ones tell it."""

    @property
    def prefill(self) -> str:
        """The part of the completion that the generation prompt contains already."""
        return self.opens if self.think == "prefilled" else ""

    @property
    def opening(self) -> str:
        """The text that the student writes before its reasoning."""
        return self.opens if self.think == "generated" else ""

    def of_trace(self, thinks: bool, mixed: bool) -> Contract:
        """The contract for a trace: that of a `mixed` student's without reasoning asks for none."""
        if not mixed or thinks:
            return self
        return self.model_copy(update={"think": "none"})

    def told(self, mixed: bool) -> dict[str, bool]:
        """What the template is told beside the messages: for a mixed student, whether to think."""
        return {self.switch: self.think != "none"} if mixed and self.switch else {}

    def described(self) -> str:
        """The contract in a line to read."""
        opens = self.opens.strip()
        does = {
            "prefilled": f"the prompt opens {opens}",
            "generated": f"the student writes {opens}",
            "none": "the student answers without reasoning",
        }[self.think]
        others = f" ({', '.join(self.eos)} would too)" if self.eos else ""
        parts = [
            does,
            f"{self.stop} is learnt and ends a generation{others}",
            "a prompt begins with bos" if self.bos else "no bos of its own",
            "a system turn is shown" if self.system else "no system turn",
            f"past reasoning is {'kept' if self.past_reasoning else 'left out'}",
        ]
        if self.switch:
            parts.append(f"{self.switch} turns thinking on and off")
        if self.date:
            parts.append(f"the date is always {self.date}")
        return "; ".join(parts)


def shipped() -> list[str]:
    """The names of the templates that come with tracestill."""
    return sorted(path.stem for path in TEMPLATES.glob("*.jinja"))


def said(settings: FinetuneSection) -> dict[str, Any]:
    """The keys of the contract that a recipe sets."""
    values = {"think": settings.think, "stop": settings.stop, **settings.contract.model_dump()}
    return {name: value for name, value in values.items() if value is not None}


def read_contract(template: Path, settings: FinetuneSection) -> Contract | None:
    """The contract beside a template, overridden by the recipe's keys. None where there is none, as
    with a student's own template: then it is found out by trying.

    Raises:
        ValueError: the file is not a contract.

    """
    path = template.with_suffix(".yaml")
    if str(template) == OWN or not path.is_file():
        return None
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a contract is a mapping of keys such as think and stop")
    try:
        return Contract(**{**values, **said(settings)})
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{path}: {key}: {wrong['msg']}") from error


def languages(template: Path, settings: FinetuneSection) -> list[str]:
    """The languages that a template tells apart, as far as its contract or the recipe says so."""
    contract = read_contract(template, settings)
    return contract.languages if contract is not None else settings.contract.languages or []
