"""Texts that a student would learn as something other than what they say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.sample import Example, Ids
from tracestill.recipe.contract import Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTokens:
    """The tokens that structure a chat, which no problem and no trace may contain.

    `texts` are their texts by id, `ids` a bool array of shape (vocabulary,), `pattern` matches any
    of the texts.
    """

    texts: dict[int, str]
    ids: npt.NDArray[np.bool_]
    pattern: re.Pattern[str]


def read_control(
    tokenizer: Any, contract: Contract, prompt: str, endings: Sequence[int]
) -> ControlTokens:
    """A tokenizer's control tokens: its special tokens, those that end a generation, and those that
    the template writes around an empty problem (`prompt`), such as R1's <｜User｜>, which its
    tokenizer takes for a plain token. The think tags are checked by themselves.
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
    return ControlTokens(texts=texts, ids=ids, pattern=pattern)


def why_unlearnable(
    example: Example, completion: str, ids: Ids, contract: Contract, control: ControlTokens
) -> tuple[str, str] | None:
    """The reason why a completion (its text and ids) can't be learnt, as a kind and in words; None
    if it can.
    """
    thinks = contract.think != "none"
    if thinks and not example.thinks:
        return "empty", "it has no reasoning: the student would learn not to think"
    if not example.answer.strip():
        return "no answer", "it has no answer: the student would learn to give none"
    opens, closes = contract.opens.strip(), contract.closes.strip()
    opened = completion.count(opens) - contract.opening.count(opens)
    if completion.count(closes) != int(thinks) or opened:
        return "tag", "it has a think tag inside its reasoning or answer"
    why = "which the student's tokenizer reads as a control token of the chat"
    found = ids[control.ids[ids]]
    if len(found):
        return "control", f"its text has {control.texts[int(found[0])]}, {why}"
    in_prompt = control.pattern.search(example.prompt)
    if in_prompt is not None:
        return "control in the problem", f"its problem has {in_prompt.group()}, {why}"
    return None
