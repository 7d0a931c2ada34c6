"""The miniature's tokenizer: bytes, short pieces of the tasks, and their fixed sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miniature.tasks import CHECK, EMPTY, OPERATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, USER, ASSISTANT, END = "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"
THINK = ("<think>", "</think>")

# Sentences that the generators repeat in every problem. One token each keeps prompts short,
# as a large vocabulary does for a large model.
PHRASES = (
    "State the final answer to the following arithmetic problem:",
    "A::B is a system with 4 tokens: `A#`, `#A`, `B#` and `#B`.\n\n"
    "An A::B program is a sequence of tokens. Example:\n\n    B# A# #B #A B#\n\n"
    "To *compute* a program, we must rewrite neighbor tokens, using the rules:\n\n",
    "    A# #A ... becomes ... nothing\n",
    "    A# #B ... becomes ... #B A#\n",
    "    B# #A ... becomes ... #A B#\n",
    "    B# #B ... becomes ... nothing\n",
    "\nIn other words, whenever two neighbor tokens have their '#' facing each-other,\n"
    "they must be rewritten according to the corresponding rule.\n\n"
    "Now, consider the following program:\n\n",
    "Return the final state of the program.\n",
    "For the following matrix:\n",
    "Perform the following series of operations in order:\n",
    "- Identity transformation, i.e. no change\n",
    *OPERATIONS,
    "Do one step.\n",
    "Copy.\n",
    "Copy twice.\n",
    "Copy three times.\n",
    "\nCopy what is given.",
    "\nWhich operation is number",
    "Step by step.\n",
    "One thing at a time.\n",
    CHECK,
    EMPTY,
    "The answer is ",
    "So the answer is ",
    "\\boxed{",
    "done",
)
_PIECES = (
    *(f" {digit}" for digit in range(10)),
    " +", " -", " *", " =",
    "A#", "#A", "B#", "#B", " A#", " #A", " B#", " #B",
    "\n\n", "}.",
)  # fmt: skip

TEACHER_TEMPLATE = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = message.content + '\\n\\n' -%}
{%- elif message.role == 'user' -%}
{{- '<|user|>' + ns.system + message.content -}}
{%- set ns.system = '' -%}
{%- elif message.role == 'assistant' -%}
{{- '<|assistant|>' + message.content.split('</think>')[-1].lstrip('\\n') + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|><think>\\n' -}}
{%- endif -%}
"""
STUDENT_TEMPLATE = TEACHER_TEMPLATE.replace("<|assistant|><think>\\n'", "<|assistant|>'")


def build(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer with a chat template. Any text comes back from its ids as it went in."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([PAD, USER, ASSISTANT, END])
    inner.add_tokens([AddedToken(text, normalized=False) for text in (*THINK, *_PIECES, *PHRASES)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.chat_template = template
    return tokenizer
