"""The student's tokenizer with the recipe's chat template, and the prompts that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.probe import Probed, probe
from tracestill.recipe.contract import Contract, read_contract, said, shipped
from tracestill.recipe.contract_keys import OWN
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.tokenizers import mended, template_fault


def load_tokenizer(
    student: str, revision: str | None, template: Path, trust_remote_code: bool = False
) -> Any:
    """Load the student's tokenizer and replace its chat template by the recipe's, if it is not to
    be its own.

    Raises:
        ValueError: there is no tokenizer, it loses white space, or it is Python code that the
            recipe does not trust; or there is no template.

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
    try:
        tokenizer = mended(tokenizer, student, revision)
    except ValueError as error:
        raise ValueError(f"finetune.student: {student}: {error}") from error
    own = str(template) == OWN
    text = _own_template(tokenizer) if own else template.read_text(encoding="utf-8")
    tokenizer.chat_template = text
    return tokenizer


def _own_template(tokenizer: Any) -> str:
    """The template that a tokenizer comes with, of several the default one."""
    found = tokenizer.chat_template
    if isinstance(found, dict):
        if "default" not in found:
            raise ValueError(
                "finetune.template: the student comes with the templates "
                f"{', '.join(found)}, of which none is the default: write one into a file and name "
                "that"
            )
        found = found["default"]
    if not found:
        turns = {"<|im_end|>": "chatml-think or qwen2.5", "<|eot_id|>": "llama-3"}
        known = {token.content for token in tokenizer.added_tokens_decoder.values()}
        fits = next((names for token, names in turns.items() if token in known), None)
        advice = f"{fits} would fit its tokens" if fits else "chatml-think is a plain one"
        raise ValueError(
            "finetune.template: the student comes with no chat template, as most base models do: "
            f"name a file, or a shipped one ({', '.join(shipped())}); {advice}"
        )
    return str(found)


def settle_contract(
    tokenizer: Any, settings: FinetuneSection, template: Path, student: str
) -> Probed:
    """The contract of a loaded tokenizer's template: that which lies beside it, or else what is
    found by trying it. The tokenizer is given the template that keeps it.

    Raises:
        ValueError: the template can't be rendered, or does not fit the recipe.

    """
    contract = read_contract(template, settings)
    if contract is None:
        endings = _generation_endings(student, settings, tokenizer)
        found = probe(tokenizer, tokenizer.chat_template, said(settings), endings)
        tokenizer.chat_template = found.template
    else:
        found = Probed(contract=contract, template=tokenizer.chat_template, notes=[])
    contract = found.contract
    if settings.system_prompt and not contract.system:
        raise ValueError(
            "finetune.system_prompt: the template shows no system turn: leave it out, or put what "
            "it says into problems.instruction"
        )
    if settings.mixed and contract.switch is None:
        raise ValueError(
            "finetune.mixed: the template has no variable that turns thinking off, such as "
            "enable_thinking; name it in finetune.contract.switch, or leave mixed out"
        )
    return found


def _generation_endings(student: str, settings: FinetuneSection, tokenizer: Any) -> list[str]:
    """The tokens with which the student's generation_config ends a generation, if it has one."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(student, revision=settings.revision).eos_token_id
    except OSError:
        return []
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return [token for token in map(tokenizer.convert_ids_to_tokens, ids) if token is not None]


def pad_id(tokenizer: Any, otherwise: int = 0) -> int:
    """The padding token's id, `otherwise` if the tokenizer has none."""
    found: int | None = tokenizer.pad_token_id
    return otherwise if found is None else found


def as_messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    """A problem as chat messages."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt}]


def prompt_text(
    tokenizer: Any,
    prompt: str,
    system: str | None = None,
    language: str | None = None,
    told: Mapping[str, bool] | None = None,
) -> str:
    """The text that the student is given before its turn, generation prompt included. The template
    is `told` further variables.

    Raises:
        ValueError: the template fails, or refuses such a chat.

    """
    text: str = _applied(
        tokenizer, as_messages(prompt, system), {"language": language, **(told or {})},
        tokenize=False,
    )  # fmt: skip
    return text


def prompt_ids(
    tokenizer: Any, chats: Sequence[list[dict[str, str]]], told: Mapping[str, Any]
) -> list[list[int]]:
    """The ids of each chat's prompt, as the tokenizer's own `apply_chat_template` makes them.

    Raises:
        ValueError: the template fails, or refuses such a chat.

    """
    ids: list[list[int]] = _applied(tokenizer, chats, told, tokenize=True)
    return ids


def _applied(tokenizer: Any, chats: Any, told: Mapping[str, Any], *, tokenize: bool) -> Any:
    import jinja2

    try:
        return tokenizer.apply_chat_template(
            chats, tokenize=tokenize, add_generation_prompt=True, return_dict=False, **told
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise ValueError(f"finetune.template: {template_fault(error)}") from error


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
