"""Render kept traces to the token ids that the student is trained on, once.

The trainer gets `input_ids` and `labels`; no chat template runs after this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.config import FinetuneSection
from finetune.contract import Contract, ending_ids
from finetune.encoding import Seams, ahead, all_cores, encode
from finetune.findings import Findings
from finetune.overlong import Overlong, Tally, pieces
from finetune.unlearnable import read_control, why_unlearnable

if TYPE_CHECKING:
    from finetune.encoding import Ids

IGNORED = -100
BATCH = 256  # examples that are tokenised at once; a token takes some 100 bytes meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A kept trace: what is asked, how the teacher reasoned, what it answered.

    `source` and `language` are its problem's.
    """

    trace_id: str
    prompt: str
    reasoning: str
    answer: str
    source: str = ""
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Token ids of one example: the prompt's, then the completion's, the stop token's last.

    `input_ids` is an int32 array of shape (tokens,). The first `prompt` of them are not learnt;
    from `answer` on they are what follows the reasoning.
    """

    trace_id: str
    input_ids: Ids
    prompt: int
    answer: int

    @property
    def labels(self) -> Ids:
        """The ids where they are learnt and -100 where not, as long as `input_ids`."""
        labels = self.input_ids.copy()
        labels[: self.prompt] = IGNORED
        return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What a student is trained on.

    `samples` are in the order of their examples; one that was split has several with the same
    `trace_id`, one after the other. `endings` are the ids that end a generation, the trained stop
    token's first: generation_config's `eos_token_id`. `refused` is why examples have no samples,
    where the settings let those be left out.
    """

    samples: list[Sample]
    overlong: Overlong
    contract: Contract
    endings: list[int]
    refused: Findings = field(default_factory=Findings)

    @property
    def dropped(self) -> dict[str, int]:
        """How many examples were left out, by reason."""
        counts = {"overlong": self.overlong.dropped, "unlearnable": len(self.refused.traces)}
        return {reason: count for reason, count in counts.items() if count}


def load_tokenizer(
    student: str, revision: str | None, template: Path, trust_remote_code: bool = False
) -> Any:
    """The student's tokenizer with the recipe's chat template in place of its own.

    Raises:
        ValueError: there is no tokenizer, or none that may be run.

    """
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        own = get_tokenizer_config(student, revision=revision).get("auto_map")
        if own and not trust_remote_code:  # transformers would take the nearest of its own
            raise ValueError(
                "it is Python that comes with the model: read it, then set "
                "finetune.trust_remote_code to true"
            )
        tokenizer = AutoTokenizer.from_pretrained(
            student, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"finetune.student: no tokenizer in {student}: {why}") from error
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def pad_id(tokenizer: Any, otherwise: int = 0) -> int:
    """The token id that fills rows up, `otherwise` where the tokenizer has none."""
    found: int | None = tokenizer.pad_token_id
    return otherwise if found is None else found


def as_messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    """A problem as a chat."""
    told = [{"role": "system", "content": system}] if system else []
    return [*told, {"role": "user", "content": prompt}]


def prompt_text(
    tokenizer: Any, prompt: str, system: str | None = None, language: str | None = None
) -> str:
    """What the student sees before its turn, as text."""
    text: str = tokenizer.apply_chat_template(
        as_messages(prompt, system), tokenize=False, add_generation_prompt=True, language=language
    )
    return text


def render(
    examples: Sequence[Example], tokenizer: Any, contract: Contract, settings: FinetuneSection
) -> Rendered:
    """The examples as samples; none is ever cut.

    Prompt and completion are tokenised apart, as they are when the student answers: its prompt
    ends where its own tokens begin. White space around reasoning and answer is the contract's.

    Raises:
        ValueError: the template and the settings do not agree, or a sample would not teach
            what its trace says; the text names the trace and the fix.

    """
    if not examples:
        raise ValueError(
            "no trace was kept to train on; loosen the filter section, or sample more traces"
        )
    endings = ending_ids(tokenizer, contract)
    first = examples[0]
    _check_seam(
        prompt_text(tokenizer, first.prompt, settings.system_prompt, first.language),
        contract,
        settings,
    )
    control = read_control(tokenizer, contract, prompt_text(tokenizer, ""), endings)
    tally = Tally(settings.overlong, settings.max_length)
    refused = Findings()
    samples: list[Sample] = []
    seams = Seams(tokenizer, contract.closes.strip())
    stop = np.array(endings[:1], dtype=np.int32)

    def encoded(part: Sequence[Example]) -> tuple[list[Ids], list[Ids], list[tuple[str, int]]]:
        texts = [_completion(example, contract) for example in part]
        prompts = _prompts(part, tokenizer, settings.system_prompt)
        return prompts, encode(tokenizer, [text for text, _ in texts]), texts

    parts = (examples[begin : begin + BATCH] for begin in range(0, len(examples), BATCH))
    with all_cores():
        for part, made in ahead(encoded, parts):
            for example, asked, said, (text, end) in zip(part, *made, strict=True):
                wrong = why_unlearnable(example, text, said, contract, control)
                if wrong is not None:
                    kind, what = wrong
                    refused.add(kind, example.trace_id, what)
                    continue
                answer = seams.after(said, text, end)
                after = np.concatenate([said, stop])
                if not tally.add(example.trace_id, example.source, len(asked) + len(after)):
                    samples.append(_sample(example, asked, after, answer))
                elif settings.overlong == "split":
                    samples += _split(example, asked, after, answer, settings.max_length)
    if settings.unlearnable == "error" or len(refused.traces) == len(examples):
        refused.check()
    return Rendered(
        samples=samples,
        overlong=tally.result(),
        contract=contract,
        endings=endings,
        refused=refused,
    )


def _sample(example: Example, before: Ids, after: Ids, answer: int) -> Sample:
    return Sample(
        trace_id=example.trace_id,
        input_ids=np.concatenate([before, after]),
        prompt=len(before),
        answer=len(before) + answer,
    )


def _split(
    example: Example,
    before: Ids,
    after: Ids,
    answer: int,
    max_length: int,
) -> Iterator[Sample]:
    room = max_length - len(before)
    if room < 1:
        raise ValueError(
            f"trace {example.trace_id}: its prompt alone has {len(before):,} tokens and can't be "
            f"split; raise finetune.max_length ({max_length}), or set finetune.overlong to drop"
        )
    for begin, end in pieces(after, room):
        yield _sample(example, before, after[begin:end], min(max(answer, begin), end) - begin)


def _prompts(examples: Sequence[Example], tokenizer: Any, system: str | None) -> list[Ids]:
    """The prompts' ids; those that several examples share are one array."""
    asked = list(dict.fromkeys((example.prompt, example.language) for example in examples))
    texts = [prompt_text(tokenizer, prompt, system, language) for prompt, language in asked]
    ids = dict(zip(asked, encode(tokenizer, texts), strict=True))
    return [ids[example.prompt, example.language] for example in examples]


def _completion(example: Example, contract: Contract) -> tuple[str, int]:
    """What is learnt but for the stop token, and where in it the closing tag ends."""
    reasoning = contract.opening + example.reasoning.strip()
    end = len(reasoning) + len(contract.closes.rstrip())
    return reasoning + contract.closes + example.answer.strip(), end


def _check_seam(prompt: str, contract: Contract, settings: FinetuneSection) -> None:
    """Whether the prompt ends as the contract says."""
    opened = prompt.rstrip().endswith(contract.opens.strip())
    if opened != (contract.think == "prefilled"):
        does = "opens" if opened else "does not open"
        right = "prefilled" if opened else "generated"
        raise ValueError(
            f"finetune.think is {contract.think}, but the template's generation prompt {does} "
            f"{contract.opens.strip()}: set finetune.think to {right}, or mend the template "
            f"{settings.template}"
        )
    if not prompt.endswith(contract.prefill):
        raise ValueError(
            f"the generation prompt of {settings.template} ends with {prompt[-20:]!r}, but its "
            f"contract's `opens` is {contract.opens!r}: make them the same"
        )
