"""Traces as the texts from which trl's DPOTrainer learns what it would have learnt in training.

trl tokenises `prompt` and `prompt + completion`, special tokens of the tokenizer's own added, and
appends the tokenizer's eos token where a text does not end with it. Chat messages would go through
the template instead, which may delete the reasoning of the last turn. So the texts are those of the
student's training, and what trl makes of them is compared with the training's ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetune.encoding import all_cores, encode
from finetune.render import check_generation_prompts, completion_text, example_prompt
from finetune.sample import Example, Ids
from finetune.tokenizer import ending_ids, load_tokenizer, prompt_text, settle_contract
from finetune.unlearnable import ControlTokens, read_control, why_unlearnable
from tracestill.recipe.contract import Contract
from tracestill.recipe.finetune import FinetuneSection


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentText:
    """A trace as text: what the student is given, and what it should say, with its stop token.
    `tokens` counts both. `same` says whether trl's token ids are those of the student's training.
    """

    prompt: str
    completion: str
    tokens: int
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A student's tokenizer with its template, and the contract between them. `notes` say what to
    change of the exported student's tokenizer before trl reads the texts.
    """

    tokenizer: Any
    contract: Contract
    settings: FinetuneSection
    endings: list[int]
    control: ControlTokens
    notes: list[str] = field(default_factory=list)


def open_reader(settings: FinetuneSection, student: str, template: Path) -> Reader:
    """Load what makes a student's texts; no weights.

    Raises:
        ValueError: student, template and settings do not fit together; one line with the fix.

    """
    tokenizer = load_tokenizer(student, settings.revision, template, settings.trust_remote_code)
    found = settle_contract(tokenizer, settings, template, student)
    endings = ending_ids(tokenizer, found.contract)
    notes, stop = [], found.contract.stop
    # The export sets the tokenizer's eos to the stop token, unless the template uses the other.
    if "eos_token" in tokenizer.chat_template and tokenizer.eos_token != stop:
        notes.append(
            f"the texts end with {stop}, but trl would put the tokenizer's own eos token, "
            f"{tokenizer.eos_token}, behind it: set tokenizer.eos_token = {stop!r} for trl"
        )
    return Reader(
        tokenizer=tokenizer,
        contract=found.contract,
        settings=settings,
        endings=endings,
        control=read_control(tokenizer, found.contract, prompt_text(tokenizer, ""), endings),
        notes=notes,
    )


def student_texts(
    reader: Reader, examples: Sequence[Example], whole: Sequence[bool]
) -> list[StudentText | None]:
    """Each example as text; None where the student can't learn it, as its training would refuse
    it. One that is not `whole` was cut at its limit: it ends in the middle, without a stop token.

    Raises:
        ValueError: the template does not go with the contract, or fails.

    """
    if not examples:
        return []
    settings, tokenizer = reader.settings, reader.tokenizer
    check_generation_prompts(examples, tokenizer, reader.contract, settings)
    contracts = [reader.contract.of_trace(one.thinks, settings.mixed) for one in examples]
    prompts = [example_prompt(one, tokenizer, reader.contract, settings) for one in examples]
    texts = [
        completion_text(one, own)[0] if ends else _cut_text(one, own)
        for one, own, ends in zip(examples, contracts, whole, strict=True)
    ]
    stop = reader.contract.stop
    said = [text + stop if ends else text for text, ends in zip(texts, whole, strict=True)]
    given = _without_own_bos(tokenizer, prompts)
    with all_cores():
        ids, prompt_ids = encode(tokenizer, texts), encode(tokenizer, prompts)
        read = tokenizer(text=[a + b for a, b in zip(given, said, strict=True)])["input_ids"]
    made: list[StudentText | None] = []
    for row, (example, own) in enumerate(zip(examples, contracts, strict=True)):
        if whole[row]:
            fault = why_unlearnable(example, texts[row], ids[row], own, reader.control) is not None
        else:
            fault = _spoilt(example, ids[row], own, reader.control)
        end = np.array(reader.endings[:1] if whole[row] else [], np.int32)
        wanted = np.concatenate([prompt_ids[row], ids[row], end])
        text = StudentText(
            prompt=given[row],
            completion=said[row],
            tokens=len(wanted),
            same=np.array_equal(wanted, read[row]),
        )
        made.append(None if fault else text)
    return made


def _without_own_bos(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """The prompts without the bos token with which they begin, where the tokenizer puts one before
    every text by itself.
    """
    bos = tokenizer.bos_token
    if bos is None or tokenizer(text="a")["input_ids"][0] != tokenizer.bos_token_id:
        return list(prompts)
    return [prompt.removeprefix(bos) for prompt in prompts]


def _cut_text(example: Example, contract: Contract) -> str:
    """A completion as far as it came: within its reasoning, or within its answer."""
    reasoning, answer = example.reasoning.strip(), example.answer.strip()
    if contract.think == "none":
        return answer
    return contract.opening + reasoning + (contract.closes + answer if answer else "")


def _spoilt(example: Example, ids: Ids, contract: Contract, control: ControlTokens) -> bool:
    """Whether a cut completion says nothing, or has what structures a chat in it."""
    tags = (contract.opens.strip(), contract.closes.strip())
    said = example.reasoning + example.answer
    blank = not (example.answer if contract.think == "none" else example.reasoning).strip()
    inside = any(tag in said for tag in tags)
    return (
        blank
        or inside
        or bool(control.ids[ids].any())
        or control.pattern.search(example.prompt) is not None
    )
