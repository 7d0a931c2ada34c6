"""Prompts with vendors' real tokenizers: our templates' beside the vendors'."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from own_students import vendor_template
from students import TEMPLATES

from finetune.tokenizer import as_messages, load_tokenizer, settle_contract
from tracestill.recipe.contract_keys import OWN
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.tokenizers import unwritten

pytestmark = pytest.mark.real

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
MODELS = _CACHE / "tracestill" / "real-models"

PROMPTS = [
    "What is 12 + 7?",
    "  What stands behind two spaces?\n",
    "One line.\nAnother.\n\n\nThe last, after two empty ones.",
    "\n\nA line end first,\r\nand one of Windows.",
    "Tabs:\ta\tb\n\tindented",
    "def f(x):\n    if x > 1:\n        return f(x - 1)\n    return 1\n",
    "Let $x^2 - 2x + 1 = 0$. Put the answer within \\boxed{}.",
    "\\begin{align}\n a &= b \\\\\n c &< d\n\\end{align}",
    "Größe, Straße, naïve, œuvre — „süß“",
    "cafe\u0301 and caf\u00e9: two forms of one word",
    "数学题：一个圆的半径是 3，求面积。",
    "次の計算をしなさい：１２＋７＝？",
    "كم يساوي ١٢ + ٧؟",
    "Сколько будет 12 + 7?",
    "😀 👩‍👩‍👧 🇩🇪 are how many symbols?",
    "non\u00a0breaking\u2009thin\u200bzero width",
    "<b>markup</b> & {{ braces }} {% for %} [INST] <<SYS>>",
    "1234567890 12,345.678 0x1F 1e-9 ½ ²",
    "a" * 300,
    "Is `</tool_response>` a tag? And ``` a fence?",
]
SYSTEMS = [None, "Be brief.", "Sei kurz.\n\nUnd rechne genau: ½ + ½."]
PAST = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It is 4."},
]
THOUGHT = {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nIt is 4."}
FROZEN = {"date_string": "26 Jul 2024"}

# Tokenizer, our template, the vendor's (its own, or one that trl has), and where they differ: none,
# "default" (chats without a system turn), "reasoning" (past turns with reasoning), "last" (a
# generation prompt of another kind), each with its reason.
CASES: list[tuple[str, str, str, dict[str, str]]] = [
    ("qwen3", OWN, OWN, {}),
    ("qwen3", "qwen3", OWN, {}),
    ("qwen3", "qwen2.5", "qwen2_5", {"reasoning": "the vendor's keeps past reasoning"}),
    ("qwen3", "chatml-think", "qwen2_5", {
        "default": "the vendor's has a system prompt of its own, ours none",
        "last": "ours opens the think block",
        "reasoning": "the vendor's keeps past reasoning",
    }),
    ("llama-3.1", OWN, OWN, {}),
    ("llama-3.1", "llama-3", "llama3_1", {"reasoning": "the vendor's keeps past reasoning"}),
    ("llama-3.1", "llama-3", "llama3_2", {"reasoning": "the vendor's keeps past reasoning"}),
    ("deepseek-v3", OWN, OWN, {}),
    ("deepseek-v3", "r1-distill", "deepseek_r1_distill", {
        "reasoning": "the vendor's leaves the line ends after past reasoning, ours does not",
    }),
    ("smollm2-135m-instruct", OWN, OWN, {}),
    ("smollm2-135m-instruct", "chatml-think", OWN, {
        "default": "the vendor's has a system prompt of its own, ours none",
        "last": "ours opens the think block",
        "reasoning": "the vendor's keeps past reasoning",
    }),
]  # fmt: skip


def folder(name: str) -> Path:
    """The real tokenizer of this name; skips where it was not fetched."""
    path = MODELS / name
    if not (path / "tokenizer.json").is_file():
        pytest.skip(f"{path} is not there: `make real-models` fetches it")
    return path


def ids_of(tokenizer: Any, chat: list[dict[str, str]], **told: Any) -> list[int]:
    made: list[int] = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False, **told
    )
    return made


@pytest.mark.parametrize(
    ("name", "template", "vendor", "differ"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_prompts_are_the_vendors(
    name: str, template: str, vendor: str, differ: dict[str, str]
) -> None:
    student = str(folder(name))
    place = Path(OWN) if template == OWN else TEMPLATES / f"{template}.jinja"
    ours = load_tokenizer(student, None, place)
    settings = FinetuneSection(student=student, template=str(place))
    notes = settle_contract(ours, settings, place, student).notes
    assert notes == []
    theirs = load_tokenizer(student, None, Path(OWN))
    if vendor != OWN:
        theirs.chat_template = vendor_template(vendor)
    seen: set[str] = set()
    for system in SYSTEMS:
        for prompt in PROMPTS:
            asked = as_messages(prompt, system)
            for kind, between in (("", []), ("", PAST), ("reasoning", [PAST[0], THOUGHT])):
                chat = [*asked[:-1], *between, asked[-1]]
                one, other = ids_of(ours, chat), ids_of(theirs, chat, **FROZEN)
                if one == other:
                    continue
                reasons = {kind, "" if system else "default", "last"} & differ.keys()
                assert reasons, (prompt, ours.decode(one), theirs.decode(other))
                if "last" in reasons:
                    assert ours.decode(one).endswith("<think>\n")
                seen |= reasons
            # What is asked is there, whatever the template.
            assert unwritten(ours.decode(ids_of(ours, asked)), [prompt]) is None
    assert seen == differ.keys(), "a listed difference is none"


def test_deepseeks_tokenizer_as_transformers_reads_it_loses_white_space(tmp_path: Path) -> None:
    """The reason why it is read from its tokenizer.json. Which class transformers takes depends on
    config.json too: beside a Llama's, or none, it is the one that tokenizer_config.json names.
    """
    from transformers import AutoTokenizer

    student = tmp_path
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (student / name).symlink_to(folder("deepseek-v3") / name)
    spoiled = AutoTokenizer.from_pretrained(student)
    text = "One two,\n\nthree."
    assert spoiled.decode(spoiled.encode(text, add_special_tokens=False)) != text
    mended = load_tokenizer(str(student), None, Path(OWN))
    assert mended.decode(mended.encode(text, add_special_tokens=False)) == text
