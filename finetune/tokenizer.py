"""The student's tokenizer with the recipe's chat template, and the prompts that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracestill.recipe.contract import Contract


def load_tokenizer(
    student: str, revision: str | None, template: Path, trust_remote_code: bool = False
) -> Any:
    """Load the student's tokenizer and replace its chat template by the recipe's.

    Raises:
        ValueError: there is no tokenizer, or it is Python code that the recipe does not trust.

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
    """The padding token's id, `otherwise` if the tokenizer has none."""
    found: int | None = tokenizer.pad_token_id
    return otherwise if found is None else found


def as_messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    """A problem as chat messages."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt}]


def prompt_text(
    tokenizer: Any, prompt: str, system: str | None = None, language: str | None = None
) -> str:
    """The text that the student is given before its turn, generation prompt included."""
    text: str = tokenizer.apply_chat_template(
        as_messages(prompt, system), tokenize=False, add_generation_prompt=True, language=language
    )
    return text


def ending_ids(tokenizer: Any, contract: Contract) -> list[int]:
    """The token ids that end a generation (generation_config's `eos_token_id`), the trained stop
    token's first.

    Raises:
        ValueError: one of them is not a token of the student's vocabulary.

    """
    ids: list[int] = []
    for key, text in (("stop", contract.stop), *(("eos", text) for text in contract.eos)):
        found = tokenizer.convert_tokens_to_ids(text)
        if found is None or (found == tokenizer.unk_token_id and text != tokenizer.unk_token):
            where = "finetune.stop" if key == "stop" else "the contract's eos"
            raise ValueError(
                f"{where}: {text} is not one token of the student's vocabulary; name a token that "
                f"its tokenizer has, such as {tokenizer.eos_token}, or choose the template that "
                "fits the student"
            )
        if found not in ids:
            ids.append(int(found))
    return ids
