"""Tell a whole answer from one that broke off, where the endpoint does not say why it ended."""

from __future__ import annotations

from generate.messages import Message
from generate.reasoning import split_reasoning
from generate.tags import without_stop

# With what a text ends that is not in the middle of something; a number or a word could go on.
_ENDS = (*".!?。！？।؟…)]}$*`>|»”\"'",)


def is_whole(said: Message, completion_tokens: int, max_tokens: int) -> bool:
    """Whether a message that came without a `finish_reason` is all that the model had to say.

    It is where it took fewer tokens than it might have, its reasoning is closed, and the answer
    after that ends as one does: with a control token that ends a turn, or with a mark that ends a
    sentence, a formula or a block, while no brace and no code block is left open.
    """
    split = split_reasoning(said.text, raw_reasoning=said.reasoning)
    if completion_tokens >= max_tokens or not split.reasoning or not split.answer:
        return False
    if without_stop(said.text) != said.text:
        return True
    left_open = split.answer.count("{") > split.answer.count("}") or split.answer.count("```") % 2
    return split.answer.endswith(_ENDS) and not left_open
