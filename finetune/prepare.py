"""From kept traces to checked samples; no weights are loaded, only tokenizer and config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.render import Rendered, render
from finetune.sample import Example
from finetune.sample_checks import check_samples
from finetune.student import load_config
from finetune.tokenizer import load_tokenizer, settle_contract
from tracestill.recipe.finetune import FinetuneSection

_UNBOUNDED = 2**31  # tokens: longer than any sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Checked samples, with the tokenizer that made them and the student's own config; `notes` are
    what to know of the template.
    """

    rendered: Rendered
    tokenizer: Any
    config: Any
    notes: list[str]


def prepare(
    examples: Sequence[Example], settings: FinetuneSection, student: str, template: Path
) -> Prepared:
    """Render examples for a student (a hub id or a folder) and check every sample.

    Raises:
        ValueError: student, template and settings do not fit together, or a sample would not teach
            what its trace says; one line with the fix.

    """
    tokenizer = load_tokenizer(student, settings.revision, template, settings.trust_remote_code)
    found = settle_contract(tokenizer, settings, template, student)
    rendered = render(examples, tokenizer, found.contract, settings)
    config = load_config(student, settings)
    rendered = check_samples(
        rendered, examples, tokenizer, config, system=settings.system_prompt,
        max_length=settings.max_length, unlearnable=settings.unlearnable, mixed=settings.mixed,
    )  # fmt: skip
    return Prepared(rendered=rendered, tokenizer=tokenizer, config=config, notes=found.notes)


def sample_lengths(
    examples: Sequence[Example], settings: FinetuneSection, student: str, template: Path
) -> list[tuple[int, int] | None]:
    """Of each example the tokens of its sample, and how many of them are learnt, however long it
    is; None where it can't be learnt.

    Raises:
        ValueError: student, template and settings do not fit together, or no example can be learnt.

    """
    tokenizer = load_tokenizer(student, settings.revision, template, settings.trust_remote_code)
    found = settle_contract(tokenizer, settings, template, student)
    whole = settings.model_copy(update={"max_length": _UNBOUNDED, "unlearnable": "drop"})
    samples = render(examples, tokenizer, found.contract, whole).samples
    known = {sample.trace_id: (len(sample.input_ids), sample.learnt) for sample in samples}
    return [known.get(example.trace_id) for example in examples]
