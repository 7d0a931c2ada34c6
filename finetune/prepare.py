"""From kept traces to samples that are checked, with nothing loaded but tokenizer and config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.config import FinetuneSection
from finetune.contract import Contract, read_contract
from finetune.preflight import preflight
from finetune.render import Example, Rendered, load_tokenizer, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Samples that may be learnt, and what they were made and checked with. `config` is the
    student's own.
    """

    rendered: Rendered
    contract: Contract
    tokenizer: Any
    config: Any


def prepare(
    examples: Sequence[Example], settings: FinetuneSection, student: str, template: Path
) -> Checked:
    """Render the examples for a student and check every sample.

    Raises:
        ValueError: student, template or settings do not go together, or a sample would teach
            something else than its trace says; one line with the fix.

    """
    from transformers import AutoConfig

    contract = read_contract(template, settings)
    remote = settings.trust_remote_code
    tokenizer = load_tokenizer(student, settings.revision, template, remote)
    rendered = render(examples, tokenizer, contract, settings)
    config = AutoConfig.from_pretrained(
        student, revision=settings.revision, trust_remote_code=remote
    )
    rendered = preflight(
        rendered, examples, tokenizer, config, system=settings.system_prompt,
        max_length=settings.max_length, unlearnable=settings.unlearnable,
    )  # fmt: skip
    return Checked(rendered=rendered, contract=contract, tokenizer=tokenizer, config=config)
