"""How a recipe's student is prompted, found out without a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.records.gguf import model_folder

if TYPE_CHECKING:
    from finetune.probe import Probed
    from tracestill.recipe.schema import Recipe


def student_contract(recipe: Recipe) -> Probed | None:
    """The contract of the student's template. None where it has to be tried and the student is not
    in a folder or a GGUF file: nothing is fetched for that.

    Raises:
        ValueError: the student has no tokenizer or no template, or they do not fit the recipe.

    """
    from tracestill.recipe.contract import read_contract

    settings = recipe.finetune
    template = Path(settings.template)
    contract = read_contract(template, settings)
    student = model_folder(settings.student)
    if contract is None and not Path(student).is_dir():
        return None
    from finetune.probe import Probed
    from finetune.tokenizer import load_tokenizer, settle_contract

    if contract is not None:
        return Probed(contract=contract, template=template.read_text(encoding="utf-8"), notes=[])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    tokenizer = load_tokenizer(student, settings.revision, template, settings.trust_remote_code)
    return settle_contract(tokenizer, settings, template, student)
