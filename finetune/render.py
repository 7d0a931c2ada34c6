"""Render kept traces to the token ids that the student is trained on, once, and check them.

The trainer gets `input_ids` and `labels`; no chat template runs after this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.config import FinetuneSection

OPEN, CLOSE = "<think>\n", "\n</think>\n\n"
IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A kept trace: what is asked, how the teacher reasoned, what it answered."""

    trace_id: str
    prompt: str
    reasoning: str
    answer: str
    system: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Token ids of one example. `labels` is as long as `input_ids`; it repeats the completion's
    ids, the stop token's last, and holds -100 on the prompt.
    """

    trace_id: str
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlong:
    """An example that was left out, since it is longer than `max_length`. Never cut."""

    trace_id: str
    tokens: int


def load_tokenizer(student: str, revision: str | None, template: Path) -> Any:
    """The student's tokenizer with the recipe's chat template in place of its own.

    Raises:
        ValueError: there is no tokenizer, or the template is not readable.

    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(student, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(f"finetune.student: no tokenizer in {student}: {error}") from error
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def prompt_text(tokenizer: Any, prompt: str, system: str | None = None) -> str:
    """What the student sees before its turn, as text."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def render(
    examples: Sequence[Example], tokenizer: Any, settings: FinetuneSection
) -> tuple[list[Sample], list[Overlong]]:
    """The examples as samples, in their order, and those that are too long.

    Prompt and completion are tokenised apart, as they are when the student answers: its prompt
    ends where its own tokens begin.

    Raises:
        ValueError: the template and the settings do not agree, or a sample would not teach
            what its trace says; the text names the trace and the fix.

    """
    if not examples:
        raise ValueError(
            "no trace was kept to train on; loosen the filter section, or sample more traces"
        )
    stop = _stop_id(tokenizer, settings.stop)
    prompts = [prompt_text(tokenizer, item.prompt, item.system) for item in examples]
    _check_think(prompts[0], settings)
    opening = "" if settings.think == "prefilled" else OPEN
    completions = [
        f"{opening}{item.reasoning.strip()}{CLOSE}{item.answer.strip()}" for item in examples
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    completion_ids = tokenizer(completions, add_special_tokens=False)["input_ids"]
    samples: list[Sample] = []
    overlong: list[Overlong] = []
    for item, before, text, after in zip(
        examples, prompt_ids, completions, completion_ids, strict=True
    ):
        if text.count("</think>") != 1 or text.count("<think>") > len(opening):
            raise ValueError(
                f"trace {item.trace_id} holds a think tag inside its reasoning or answer; "
                "let the filter drop malformed traces"
            )
        if stop in after:
            raise ValueError(
                f"trace {item.trace_id} holds the stop token {settings.stop} in its text; the "
                "student would learn to go on after it: drop the trace or choose another stop"
            )
        ids = [*before, *after, stop]
        if len(ids) > settings.max_length:
            overlong.append(Overlong(trace_id=item.trace_id, tokens=len(ids)))
            continue
        labels = [IGNORED] * len(before) + ids[len(before) :]
        samples.append(Sample(trace_id=item.trace_id, input_ids=ids, labels=labels))
    if not samples:
        raise ValueError(
            f"every trace is longer than finetune.max_length ({settings.max_length} tokens); "
            f"the shortest has {min(item.tokens for item in overlong)}"
        )
    return samples, overlong


def check_vocabulary(samples: Sequence[Sample], tokenizer: Any, config: Any) -> None:
    """Check the samples against the model that is to learn them.

    Raises:
        ValueError: the tokenizer is another model's, it can't write the traces, or the samples
            are longer than the model's context.

    """
    rows = config.get_text_config().vocab_size
    if len(tokenizer) > rows:
        raise ValueError(
            f"finetune.student: its tokenizer has {len(tokenizer):,} tokens, but the model only "
            f"{rows:,} embeddings: the tokenizer belongs to another model; put the right one into "
            "the student's folder"
        )
    unknown = tokenizer.unk_token_id
    longest = 0
    for sample in samples:
        longest = max(longest, len(sample.input_ids))
        if unknown is not None and unknown in sample.input_ids:
            raise ValueError(
                f"trace {sample.trace_id} has text that the student's tokenizer can't write (it "
                f"becomes {tokenizer.unk_token}); choose a student whose vocabulary covers it"
            )
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and longest > context:
        raise ValueError(
            f"a sample has {longest:,} tokens, but the student's context is {context:,}; "
            f"set finetune.max_length to {context} or choose another student"
        )


def _stop_id(tokenizer: Any, stop: str) -> int:
    ids: list[int] = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ValueError(
            f"finetune.stop: {stop} is not one token of the student's vocabulary (it becomes "
            f"{len(ids)}); name a token that its tokenizer has, such as {tokenizer.eos_token}"
        )
    return ids[0]


def _check_think(prompt: str, settings: FinetuneSection) -> None:
    prefilled = prompt.endswith(OPEN)
    if prefilled != (settings.think == "prefilled"):
        does = "opens" if prefilled else "does not open"
        right = "prefilled" if prefilled else "generated"
        raise ValueError(
            f"finetune.think is {settings.think}, but the template's generation prompt {does} "
            f"<think>: set finetune.think to {right}, or mend the template {settings.template}"
        )
