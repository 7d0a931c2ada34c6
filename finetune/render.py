"""Render kept traces to the token ids that the student is trained on.

This happens once: the trainer is given `input_ids` and labels, and no chat template runs after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetune.encoding import TagFinder, ahead, all_cores, encode
from finetune.findings import Findings
from finetune.overlong import RenderedLength, overlong_figures
from finetune.sample import Example, Ids, Sample
from finetune.tokenizer import ending_ids, prompt_text
from finetune.unlearnable import read_control, why_unlearnable
from tracestill.recipe.contract import Contract
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.figures import OverlongFigures

BATCH = 256  # examples tokenised at once; a token takes some 100 bytes meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The samples of a training, in the order of their examples.

    `endings` are the token ids that end a generation, the trained stop token's first. `refused`
    says why examples have no sample, where the recipe lets them be left out.
    """

    samples: list[Sample]
    overlong: OverlongFigures
    contract: Contract
    endings: list[int]
    refused: Findings = field(default_factory=Findings)

    @property
    def dropped(self) -> dict[str, int]:
        """How many examples were left out, by reason."""
        long = self.overlong
        counts = {
            "overlong": long.long_traces if long.policy == "drop" else long.no_room,
            "unlearnable": len(self.refused.traces),
        }
        return {reason: count for reason, count in counts.items() if count}


def render(
    examples: Sequence[Example], tokenizer: Any, contract: Contract, settings: FinetuneSection
) -> Rendered:
    """Render examples to samples. Those longer than `max_length` are left out whole, or with
    `overlong: prefix` cut there.

    Prompt and completion are tokenised separately, as at inference, where the student's own tokens
    begin after those of its prompt. White space around reasoning and answer is the contract's.

    Raises:
        ValueError: the template and the settings disagree, or a sample would not teach what its
            trace says; the message names the trace and the fix.

    """
    if not examples:
        raise ValueError(
            "no trace was kept to train on; loosen the filter section, or sample more traces"
        )
    endings = ending_ids(tokenizer, contract)
    check_generation_prompts(examples, tokenizer, contract, settings)
    control = read_control(tokenizer, contract, prompt_text(tokenizer, ""), endings)
    refused = Findings()
    lengths: list[RenderedLength] = []
    samples: list[Sample] = []
    closing = TagFinder(tokenizer, contract.closes.strip())
    stop = np.array(endings[:1], dtype=np.int32)

    def encoded(part: Sequence[Example]) -> tuple[list[Ids], list[Ids], list[tuple[str, int]]]:
        texts = [
            completion_text(example, contract.of_trace(example.thinks, settings.mixed))
            for example in part
        ]
        prompts = _prompts(part, tokenizer, contract, settings)
        return prompts, encode(tokenizer, [text for text, _ in texts]), texts

    parts = (examples[begin : begin + BATCH] for begin in range(0, len(examples), BATCH))
    with all_cores():
        for part, made in ahead(encoded, parts):
            for example, prompt, completion, (text, end) in zip(part, *made, strict=True):
                own = contract.of_trace(example.thinks, settings.mixed)
                wrong = why_unlearnable(example, text, completion, own, control)
                if wrong is not None:
                    kind, what = wrong
                    refused.add(kind, example.trace_id, what)
                    continue
                ids = np.concatenate([prompt, completion, stop])
                lengths.append(
                    RenderedLength(
                        trace_id=example.trace_id,
                        source=example.source,
                        prompt=len(prompt),
                        tokens=len(ids),
                    )
                )
                cut = len(ids) > settings.max_length
                if cut and (settings.overlong != "prefix" or len(prompt) >= settings.max_length):
                    continue
                ids = ids[: settings.max_length]
                begin = closing.after(completion, text, end) if end else 0
                answer = min(len(prompt) + begin, len(ids))
                samples.append(
                    Sample(
                        trace_id=example.trace_id,
                        input_ids=ids,
                        prompt=len(prompt),
                        answer=answer,
                        cut=cut,
                    )
                )
    refused.settle(settings.unlearnable, len(examples))
    return Rendered(
        samples=samples,
        overlong=overlong_figures(lengths, settings.overlong, settings.max_length),
        contract=contract,
        endings=endings,
        refused=refused,
    )


def _prompts(
    examples: Sequence[Example], tokenizer: Any, contract: Contract, settings: FinetuneSection
) -> list[Ids]:
    """The prompts' ids; examples of the same problem share an array."""

    def key(example: Example) -> tuple[str, str, bool]:
        return example.prompt, example.language, example.thinks

    texts = {}
    for example in examples:
        if key(example) not in texts:
            texts[key(example)] = example_prompt(example, tokenizer, contract, settings)
    ids = dict(zip(texts, encode(tokenizer, list(texts.values())), strict=True))
    return [ids[key(example)] for example in examples]


def example_prompt(
    example: Example, tokenizer: Any, contract: Contract, settings: FinetuneSection
) -> str:
    """The text that the student is given before it answers an example's problem.

    Raises:
        ValueError: the template fails.

    """
    told = contract.of_trace(example.thinks, settings.mixed).told(settings.mixed)
    return prompt_text(tokenizer, example.prompt, settings.system_prompt, example.language, told)


def completion_text(example: Example, contract: Contract) -> tuple[str, int]:
    """The completion without its stop token, and where in it the closing tag ends; 0 where there is
    to be none.
    """
    if contract.think == "none":
        return example.answer.strip(), 0
    reasoning = contract.opening + example.reasoning.strip()
    end = len(reasoning) + len(contract.closes.rstrip())
    return reasoning + contract.closes + example.answer.strip(), end


def check_generation_prompts(
    examples: Sequence[Example], tokenizer: Any, contract: Contract, settings: FinetuneSection
) -> None:
    """Check the prompt of the first example, and of a mixed student of the first of each kind.

    Raises:
        ValueError: the template's generation prompt does not go with the contract.

    """
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(contract.of_trace(example.thinks, settings.mixed).think, example)
    for example in first.values():
        own = contract.of_trace(example.thinks, settings.mixed)
        prompt = example_prompt(example, tokenizer, contract, settings)
        _check_generation_prompt(prompt, own, settings)


def _check_generation_prompt(prompt: str, contract: Contract, settings: FinetuneSection) -> None:
    opens, closes = contract.opens.strip(), contract.closes.strip()
    end = prompt.rstrip()
    opened = end.endswith(opens)
    closed = end.endswith(closes) and end.removesuffix(closes).rstrip().endswith(opens)
    if closed and contract.think != "none":
        raise ValueError(
            f"the generation prompt of {settings.template} ends with a closed think block, "
            f"{prompt[-30:]!r}: the student would learn to open a second one; choose a template "
            "whose prompt leaves it open, or set finetune.think to none to train on answers alone"
        )
    if opened and contract.think == "none":
        what = "a trace without reasoning" if settings.mixed else "think: none"
        raise ValueError(
            f"finetune.think: the generation prompt of {settings.template} opens {opens}, which "
            f"does not go with {what}: choose a template whose prompt does not"
        )
    if opened != (contract.think == "prefilled"):
        does = "opens" if opened else "does not open"
        right = "prefilled" if opened else "generated"
        raise ValueError(
            f"finetune.think is {contract.think}, but the template's generation prompt {does} "
            f"{opens}: set finetune.think to {right}, or change the template {settings.template}"
        )
    if not prompt.endswith(contract.prefill):
        raise ValueError(
            f"the generation prompt of {settings.template} ends with {prompt[-20:]!r}, but its "
            f"contract's `opens` is {contract.opens!r}: make them the same"
        )
