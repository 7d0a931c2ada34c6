"""A chat as the token ids that a model in this process reads."""

from __future__ import annotations

from typing import Any

from generate.engine import Request
from tracestill.records.tokenizers import decoded, template_fault, unwritten


def render_prompt(
    tokenizer: Any, request: Request, chat_template: str | None, model: str
) -> tuple[list[int], str]:
    """The prompt's token ids, and the part of it that belongs to the model's turn. `chat_template`
    stands in place of the tokenizer's own, where there is one.

    Raises:
        ValueError: the chat template fails, or refuses such a chat.

    """
    import jinja2

    told = {"language": request.language} if request.language else {}
    try:
        text: str = tokenizer.apply_chat_template(
            request.messages,
            chat_template=chat_template,
            tokenize=False,
            add_generation_prompt=True,
            **told,
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise ValueError(
            f"the chat template of {model} can't be used: {template_fault(error)}; if that is the "
            "system turn, put what it says into problems.instruction"
        ) from error
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids, "<think>" if text.rstrip().endswith("<think>") else ""


def why_unsent(tokenizer: Any, ids: list[int], request: Request) -> str | None:
    """Why a prompt would not say what the request does; None if it does."""
    said = [message["content"] for message in request.messages if message["role"] == "user"]
    wrong = unwritten(decoded(tokenizer, ids), said)
    return wrong and f"the prompt can't be sent as it is: {wrong}"
