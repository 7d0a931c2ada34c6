"""What a chat template promises: where a student's reasoning begins, and what ends its turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError

from tracestill.records.section import Section

if TYPE_CHECKING:
    from finetune.config import FinetuneSection

OPENS, CLOSES = "<think>\n", "\n</think>\n\n"


class Contract(Section):
    """The file NAME.yaml beside a template NAME.jinja."""

    models: list[str] = []
    """Which students it fits, for people."""
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
    """The languages between which the template tells by its variable `language`; none: it does
    not."""
    normalisation: Literal["NFC", "NFKC"] | None = None
    """The Unicode form into which a tokenizer without a fast counterpart puts what it reads. What
    fast ones do is known."""

    @property
    def prefill(self) -> str:
        """What of a completion the prompt holds already."""
        return self.opens if self.think == "prefilled" else ""

    @property
    def opening(self) -> str:
        """What a completion begins with, before the reasoning."""
        return self.opens if self.think == "generated" else ""


def read_contract(template: Path, settings: FinetuneSection) -> Contract:
    """The contract of a template, with the recipe's `think` and `stop` over its own. Where there is
    none the recipe's `stop` is enough.

    Raises:
        ValueError: there is none and the recipe names no stop token, or it holds a mistake.

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


def ending_ids(tokenizer: Any, contract: Contract) -> list[int]:
    """The ids of what ends a generation, for generation_config: the trained stop token's first.

    Raises:
        ValueError: one of them is no token of the student's vocabulary.

    """
    ids: list[int] = []
    for key, text in (("stop", contract.stop), *(("eos", text) for text in contract.eos)):
        found = tokenizer.convert_tokens_to_ids(text)
        if found is None or (found == tokenizer.unk_token_id and text != tokenizer.unk_token):
            where = "finetune.stop" if key == "stop" else "the contract's eos"
            raise ValueError(
                f"{where}: {text} is not one token of the student's vocabulary; name a token that "
                f"its tokenizer has, such as {tokenizer.eos_token}, or choose the template that "
                "fits the student"
            )
        if found not in ids:
            ids.append(int(found))
    return ids
