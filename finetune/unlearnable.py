"""Which texts would teach a student something else than they say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.contract import Contract

if TYPE_CHECKING:
    import numpy.typing as npt

    from finetune.encoding import Ids
    from finetune.render import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The tokens that rule a conversation, which no problem or trace may bring along.

    `texts` is how each is written, by id; `ids` an array of shape (tokens,) that is true for them.
    """

    texts: dict[int, str]
    ids: npt.NDArray[np.bool_]
    pattern: re.Pattern[str]


def read_control(
    tokenizer: Any, contract: Contract, prompt: str, endings: Sequence[int]
) -> Control:
    """A tokenizer's control tokens: its special ones, what ends a generation, and what the template
    writes around an empty problem (`prompt`), such as R1's <｜User｜>, a plain token to its
    tokenizer. The think tags are none: they have a check of their own.
    """
    plain = {contract.opens.strip(), contract.closes.strip()}
    texts = {index: str(tokenizer.convert_ids_to_tokens(index)) for index in endings}
    for index, token in tokenizer.added_tokens_decoder.items():
        text = token.content
        written = text.strip() != "" and text in prompt
        if text not in plain and index != tokenizer.unk_token_id and (token.special or written):
            texts[index] = text
    ids = np.zeros(max(len(tokenizer), *texts) + 1, dtype=np.bool_)
    ids[list(texts)] = True
    pattern = re.compile("|".join(map(re.escape, texts.values())))
    return Control(texts=texts, ids=ids, pattern=pattern)


def why_unlearnable(
    example: Example, completion: str, ids: Ids, contract: Contract, control: Control
) -> tuple[str, str] | None:
    """What makes a completion, its text and its ids, one that can't be learnt: the kind of mistake,
    and what it is in words; None if nothing does.
    """
    if not example.reasoning.strip():
        return "empty", "it has no reasoning: the student would learn not to think"
    opens, closes = contract.opens.strip(), contract.closes.strip()
    opened = completion.count(opens) - contract.opening.count(opens)
    if completion.count(closes) != 1 or opened:
        return "tag", "it has a think tag inside its reasoning or answer"
    told = "which the student's tokenizer reads as a token that rules the conversation"
    found = ids[control.ids[ids]]
    if len(found):
        return "control", f"its text has {control.texts[int(found[0])]}, {told}"
    asked = control.pattern.search(example.prompt)
    if asked is not None:
        return "control in the problem", f"its problem has {asked.group()}, {told}"
    return None
