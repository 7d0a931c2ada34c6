"""Traces rendered for the students of the tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from students import TEMPLATES

from finetune.render import Rendered, render
from finetune.sample import Example
from finetune.tokenizer import load_tokenizer
from tracestill.recipe.contract import read_contract
from tracestill.recipe.finetune import FinetuneSection


def settings(name: str, **values: Any) -> FinetuneSection:
    template = str(TEMPLATES / f"{name}.jinja")
    return FinetuneSection(**{"student": "x", "template": template, "max_length": 512, **values})


def loaded(students: dict[str, Path], name: str) -> Any:
    template = TEMPLATES / f"{name}.jinja"
    return load_tokenizer(str(students[name]), None, template, trust_remote_code=True)


def rendered(
    students: dict[str, Path], name: str, examples: list[Example], **values: Any
) -> tuple[Any, Rendered]:
    section = settings(name, **values)
    tokenizer = loaded(students, name)
    contract = read_contract(Path(section.template), section)
    return tokenizer, render(examples, tokenizer, contract, section)


def examples(count: int = 3, **values: Any) -> list[Example]:
    made = [
        Example(
            trace_id=f"t{n}",
            prompt=f"What is {n} + 12?\n",
            reasoning=f" Okay, so {n} + 12.\n\n    12 + {n} = {n + 12} — süß 😀.\n>",
            answer=f"\nThe final answer is \\boxed{{{n + 12}}}.\n",
            language=("en", "de")[n % 2],
        )
        for n in range(count)
    ]
    return [dataclasses.replace(one, **values) for one in made]
