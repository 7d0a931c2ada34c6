"""A chat template's contract: where the student's reasoning begins, and what ends its turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError

from tracestill.recipe.section import Section

if TYPE_CHECKING:
    from tracestill.recipe.finetune import FinetuneSection

OPENS, CLOSES = "<think>\n", "\n</think>\n\n"


class Contract(Section):
    """The file NAME.yaml beside the template NAME.jinja."""

    models: list[str] = []
    """Which students it fits, for readers."""
    think: Literal["prefilled", "generated"]
    """Whether the template's generation prompt ends with `opens`, or the student writes it."""
    opens: str = Field(default=OPENS, pattern=r"\S")
    """The text before the reasoning, with its white space."""
    closes: str = Field(default=CLOSES, pattern=r"\S")
    """The text between the reasoning and the answer, with its white space."""
    stop: str = Field(min_length=1)
    """The token that ends a turn: the last one that is learnt."""
    eos: list[str] = []
    """Further tokens that end a generation, as the model's family has them."""
    bos: bool = False
    """Whether the template writes the tokenizer's bos token, once, before everything."""
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


def read_contract(template: Path, settings: FinetuneSection) -> Contract:
    """The contract of a template, overridden by the recipe's `think` and `stop`. Without a contract
    file the recipe's `stop` is enough.

    Raises:
        ValueError: the file is not a contract, or there is none and the recipe names no stop token.

    """
    said = {
        name: value
        for name, value in (("think", settings.think), ("stop", settings.stop))
        if value is not None
    }
    path = template.with_suffix(".yaml")
    values: Any = {}
    if path.is_file():
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: a contract is a mapping of keys such as think and stop")
    elif "stop" not in said:
        raise ValueError(
            "finetune.stop: name the token that ends a turn, since the template "
            f"{template} has no contract {path.name} beside it that does"
        )
    else:
        values = {"think": "prefilled"}  # as R1's own; another template is refused with its fix
    try:
        return Contract(**{**values, **said})
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{path}: {key}: {wrong['msg']}") from error
