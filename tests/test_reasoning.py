"""Every shape in which a teacher's reasoning comes, to reasoning and answer."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from generate.reasoning import Split, closing_token, split_reasoning, think_tokens

THINK = "<think>\n"
FENCE = "```\n"

# Each: what it is, the text, what comes with it, and the reasoning, the answer and the shape.
CASES: list[tuple[str, str, dict[str, Any], str | None, str | None, str]] = [
    # -- tags in the text
    ("both tags", "<think>\na b\n</think>\n\n4", {}, "a b", "4", "tags"),
    ("tags on one line", "<think>a b</think>4", {}, "a b", "4", "tags"),
    ("white space first", "\n <think>a</think>4", {}, "a", "4", "tags"),
    ("stop inside the block", "<think>\na b", {}, "a b", None, "tags"),
    ("stop right after the block", "<think>a</think>", {}, "a", "", "tags"),
    ("empty block", "<think>\n\n</think>\n\n4", {}, "", "4", "tags"),
    ("only the opening tag", "<think>", {}, "", None, "tags"),
    ("text before the block", "Sure.\n<think>a</think>4", {}, "Sure.\n<think>a", "4", "tags"),
    # -- prefilled by the template
    ("prefilled", "a b\n</think>\n\n4", {"prefill": THINK}, "a b", "4", "prefilled"),
    ("prefilled, not told", "a b\n</think>\n\n4", {}, "a b", "4", "prefilled"),
    ("prefilled and empty", "\n\n</think>\n\n4", {"prefill": THINK}, "", "4", "prefilled"),
    ("prefilled and cut", "a b", {"prefill": THINK}, "a b", None, "prefilled"),
    ("prefilled, nothing came", "", {"prefill": THINK}, "", None, "prefilled"),
    ("a prefill that closed its block", "4", {"prefill": "<think>\n\n</think>"}, None, "4",
     "missing"),
    # -- missing
    ("no reasoning", "4", {}, None, "4", "missing"),
    ("nothing at all", "", {}, None, "", "missing"),
    ("an answer about the tag", "It ends with `</think>`.", {}, None, "It ends with `</think>`.",
     "missing"),
    ("an answer with the tag in a block", f"See\n{FENCE}</think>\n{FENCE}", {}, None,
     f"See\n{FENCE}</think>\n{FENCE}".strip(), "missing"),
    ("a word in brackets is no tag", "a <thinker> b [think] c", {}, None, "a <thinker> b [think] c",
     "missing"),
    # -- a field of its own
    ("field", "4", {"raw_reasoning": "a"}, "a", "4", "field"),
    ("field, no answer yet", "", {"raw_reasoning": "a"}, "a", None, "field"),
    ("empty field", "4", {"raw_reasoning": ""}, "", "4", "field"),
    ("empty field, tags in the text", "<think>a</think>4", {"raw_reasoning": ""}, "a", "4", "tags"),
    ("tags in the field", "4", {"raw_reasoning": "<think>\na\n</think>\n"}, "a", "4", "field"),
    ("field, the answer names the tag", "The </think> tag.", {"raw_reasoning": "a"}, "a",
     "The </think> tag.", "field"),
    # -- doubled
    ("field and the same block", "<think>\na\n</think>4", {"raw_reasoning": "a"}, "a", "4",
     "doubled"),
    ("field and another block", "<think>b</think>4", {"raw_reasoning": "a"}, "a\n\nb", "4",
     "doubled"),
    ("field and a stray closing tag", "</think>\n\n4", {"raw_reasoning": "a"}, "a", "4", "doubled"),
    ("field and a cut block", "<think>\nb", {"raw_reasoning": "a"}, "a\n\nb", None, "doubled"),
    ("prefilled and opened again", "<think>\na\n</think>4", {"prefill": THINK}, "a", "4",
     "doubled"),
    ("opened twice", "<think>\n<think>\na</think>4", {}, "a", "4", "doubled"),
    ("closed twice", "<think>a</think>\n</think>\n4", {}, "a", "4", "doubled"),
    ("opened and closed twice", "<think><think>a</think></think>4", {}, "a", "4", "doubled"),
    ("an empty block before the real one", "<think>\n\n</think>\n\n<think>\na</think>4", {}, "a",
     "4", "doubled"),
    ("two blocks that touch", "<think>a</think>\n<think>b</think>4", {}, "a\n\nb", "4", "doubled"),
    ("the second block is cut", "<think>a</think>\n<think>b", {}, "a\n\nb", None, "doubled"),
    # -- several closing tags: the first
    ("nested", "<think>a<think>b</think>c</think>4", {}, "a<think>b", "c</think>4", "tags"),
    ("two blocks apart", "<think>a</think>b<think>c</think>4", {}, "a", "b<think>c</think>4",
     "tags"),
    ("a tag in the answer", "<think>a</think>End it with </think>.", {}, "a",
     "End it with </think>.",
     "tags"),
    ("both tags in the answer", "a</think>Use <think> and </think>.", {"prefill": THINK}, "a",
     "Use <think> and </think>.", "prefilled"),
    # -- tags in code
    ("in backticks in the reasoning", "<think>it ends with `</think>`, so</think>4", {},
     "it ends with `</think>`, so", "4", "tags"),
    ("in backticks in the answer", "<think>a</think>Write `</think>`.", {}, "a",
     "Write `</think>`.", "tags"),
    ("in two backticks", "<think>as `` a`</think> `` is</think>4", {}, "as `` a`</think> `` is",
     "4",
     "tags"),
    ("in a block in the reasoning", f"<think>so\n{FENCE}x</think>\n{FENCE}a\n</think>4", {},
     f"so\n{FENCE}x</think>\n{FENCE}a", "4", "tags"),
    ("in a block with a language", "<think>so\n```xml\n</think>\n```\na</think>4", {},
     "so\n```xml\n</think>\n```\na", "4", "tags"),
    ("in a block of tildes", "<think>so\n~~~\n</think>\n~~~\na</think>4", {},
     "so\n~~~\n</think>\n~~~\na", "4", "tags"),
    ("in a longer fence", "<think>so\n````\n```\n</think>\n````\na</think>4", {},
     "so\n````\n```\n</think>\n````\na", "4", "tags"),
    ("a block that the reasoning leaves open", f"<think>a\n{FENCE}x = 1\n</think>\n4", {},
     "a\n```\nx = 1", "4", "tags"),
    ("such a block, and one in the answer", f"<think>a\n{FENCE}x\n</think>\n{FENCE}y\n{FENCE}", {},
     "a\n```\nx", f"{FENCE}y\n```", "tags"),
    ("a lone backtick", "<think>5` and\n</think>\nit's `4`", {}, "5` and", "it's `4`", "tags"),
    ("only quoted, then cut", "<think>it ends with `</think>`, so", {},
     "it ends with `</think>`, so", None, "tags"),
    # -- by token ids
    ("ids decide", "a </think> b </think>4", {"prefill": THINK, "closed_at": 13}, "a </think> b",
     "4", "prefilled"),
    ("ids over code", "<think>`</think>4", {"closed_at": 8}, "`", "4", "tags"),
    ("ids: none closes", "<think>a </think> b", {"closed_at": -1}, "a </think> b", None, "tags"),
    ("ids: no reasoning", "a </think> b", {"closed_at": -1}, None, "a </think> b", "missing"),
    ("ids: a block that is reopened", "<think></think>\n<think>a</think>4", {"closed_at": 24},
     "a", "4", "doubled"),
    ("ids that are not of this text", "<think>a</think>4", {"closed_at": 3}, "a", "4", "tags"),
    # -- other teachers' tags, and what surrounds their answers
    ("OpenThoughts", "<|begin_of_thought|>\n\na\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n4"
     "\n\n<|end_of_solution|>", {}, "a", "4", "tags"),
    ("OpenThoughts, cut in the answer", "<|begin_of_thought|>a<|end_of_thought|>"
     "<|begin_of_solution|>4 is", {}, "a", "4 is", "tags"),
    ("Kimi", "◁think▷a◁/think▷4", {}, "a", "4", "tags"),
    ("Magistral", "[THINK]a[/THINK]4", {}, "a", "4", "tags"),
    ("Seed-OSS", "<seed:think>a</seed:think>4", {}, "a", "4", "tags"),
    ("MiniMax-M3", "<mm:think>a</mm:think>4", {}, "a", "4", "tags"),
    ("Claude's way", "<thinking>\na\n</thinking>\n4", {}, "a", "4", "tags"),
    ("Gemini", "<thought>a</thought>4", {}, "a", "4", "tags"),
    ("Command A", "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", {}, "a",
     "4", "tags"),
    ("gpt-oss",
     "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>4",
     {}, "a", "4", "tags"),
    ("gpt-oss, cut", "<|channel|>analysis<|message|>a", {}, "a", None, "tags"),
    ("Hunyuan", "<think>\na\n</think>\n<answer>\n4\n</answer>", {}, "a", "4", "tags"),
    ("Ernie", "<think>\na\n</think>\n\n<response>\n4\n</response>", {}, "a", "4", "tags"),
    ("more than a wrapper", "<think>a</think><answer>4</answer> or 5", {}, "a",
     "<answer>4</answer> or 5", "tags"),
    ("another family's tag inside", "<think>a</thinking>b</think>4", {}, "a</thinking>b", "4",
     "tags"),
    # -- unicode and other variants
    ("full-width brackets", "＜think＞a＜/think＞4", {}, "a", "4", "tags"),
    ("full-width slash too", "＜think＞a＜／think＞4", {}, "a", "4", "tags"),
    ("CJK brackets", "〈think〉a〈/think〉4", {}, "a", "4", "tags"),
    ("mixed brackets", "<think>a＜/think＞4", {}, "a", "4", "tags"),
    ("full-width bars", "<｜begin_of_thought｜>a<｜end_of_thought｜>4", {}, "a", "4", "tags"),
    ("capitals", "<THINK>a</Think>4", {}, "a", "4", "tags"),
    ("spaces inside", "< think >a</ think >4", {}, "a", "4", "tags"),
    # -- stops that were left in the text
    ("ChatML's stop", "<think>a</think>4<|im_end|>", {}, "a", "4", "tags"),
    ("DeepSeek's stop", "<think>a</think>4\n<｜end▁of▁sentence｜>\n", {}, "a", "4", "tags"),
    ("two stops", "4<|im_end|>\n<|endoftext|>", {}, None, "4", "missing"),
    ("a stop in the reasoning", "<think>a<|im_end|>", {}, "a", None, "tags"),
    ("a stop in the field", "4</s>", {"raw_reasoning": "a<|end|>"}, "a", "4", "field"),
    ("a stop around a wrapper", "<think>a</think><answer>4</answer><|eot_id|>", {}, "a", "4",
     "tags"),
    ("only a stop", "<|im_end|>", {}, None, "", "missing"),
    ("not at the end", "<|im_end|> ends it", {}, None, "<|im_end|> ends it", "missing"),
    ("a stop in code", "It is `</s>`", {}, None, "It is `</s>`", "missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "given", "reasoning", "answer", "shape"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_reasoning_and_answer(
    raw: str, given: dict[str, Any], reasoning: str | None, answer: str | None, shape: Any
) -> None:
    assert split_reasoning(raw, **given) == Split(reasoning=reasoning, answer=answer, shape=shape)


_PIECES = [
    "<think>", "</think>", "＜/think＞", "[THINK]", "[/THINK]", "`", "``", "```", "\n```\n", "~~~",
    "\n", "  ", "word", "x=1", "é", "◁think▷", "◁/think▷", "</", "<", ">", "<answer>", "</answer>",
    "<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>", "<|end_of_solution|>",
]  # fmt: skip
_TAG = re.compile(
    r"[<＜]/?think[>＞]|\[/?THINK\]|</?answer>|<\|\w+\|>|◁/?think▷|\s+", re.IGNORECASE
)


def test_no_text_is_lost() -> None:
    """Whatever the tags, the two parts hold the text, in its order, and a tag only where it was."""
    rng = random.Random(4)
    for _ in range(20_000):
        raw = "".join(rng.choices(_PIECES, k=rng.randrange(12)))
        prefill = rng.choice(["", THINK])
        field = rng.choice([None, None, "", "".join(rng.choices(_PIECES, k=3))])
        closed = rng.choice([None, None, -1, raw.find("</think>")])
        split = split_reasoning(raw, prefill, raw_reasoning=field, closed_at=closed)
        parts = f"{split.reasoning or ''} {split.answer or ''}"
        bare = _TAG.sub("", raw)
        # A block may say what the field says: it is kept once.
        if _TAG.sub("", field or "") and split.shape == "doubled":
            assert bare in _TAG.sub("", field or "") + bare
            assert _TAG.sub("", parts) in (_TAG.sub("", field or "") + bare, bare)
        else:
            assert _TAG.sub("", parts) == _TAG.sub("", field or "") + bare
        assert parts.count("`") <= (raw + (field or "")).count("`")
        assert split.reasoning == (split.reasoning or "").strip() or split.reasoning is None
        assert (split.shape == "missing") == (split.reasoning is None)


def test_the_same_text_gives_the_same_parts_by_ids_and_by_text() -> None:
    """Where tags are tags only, ids and text agree."""
    rng = random.Random(5)
    words = ["a", "b\n", " ", "c."]
    for _ in range(2000):
        inside = "".join(rng.choices(words, k=rng.randrange(8)))
        after = "".join(rng.choices(words, k=rng.randrange(8)))
        raw = f"{inside}</think>{after}"
        by_text = split_reasoning(raw, THINK)
        assert split_reasoning(raw, THINK, closed_at=len(inside)) == by_text
        assert split_reasoning(raw, THINK, closed_at=len(inside)).reasoning == inside.strip()


@pytest.mark.parametrize(
    "piece",
    ["word ", "`a` ", "` ", "<think>", "</think>", "</think><think>", "``` \n", "`</think>` ", "< ",
     "\n", "[THINK", "~~~\n</think>\n", "<|im_end|>\n"],
)  # fmt: skip
def test_a_long_text_takes_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        text = "<think>" + piece * (length // len(piece))
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            split_reasoning(text)
            split_reasoning(text, raw_reasoning=text)
            best = min(best, time.process_time() - begin)
        return best

    # Eight times the text; in quadratic time it took 64 times as long. A busy machine adds some.
    assert seconds(400_000) < max(0.2, 40 * seconds(50_000))


class Tokenizer:
    """A transformers tokenizer as far as tags are concerned: some texts are a token."""

    unk_token_id = 0

    def __init__(self, tokens: dict[str, int]) -> None:
        self.tokens = tokens

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [self.tokens[text]] if text in self.tokens else [ord(char) for char in text]


def test_think_tokens() -> None:
    assert think_tokens(Tokenizer({"<think>": 1, "</think>": 2})) == (1, 2)
    assert think_tokens(Tokenizer({"[THINK]": 1, "[/THINK]": 2})) == (1, 2)
    assert think_tokens(Tokenizer({"</think>": 2})) == (None, 2)
    assert think_tokens(Tokenizer({"<think>": 1})) is None
    assert think_tokens(Tokenizer({"</think>": 0})) is None  # unknown to it


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 5, 2, 6], 2),
        ([5, 2, 6], 1),
        ([5, 6], None),
        ([1, 5], None),
        ([], None),
        ([1, 5, 2, 6, 2], 2),  # the first
        ([1, 5, 2, 6, 1, 6, 2], 2),
        ([1, 2, 9, 1, 5, 2, 6], 5),  # 9 is white space: the block continues
        ([1, 2, 1, 5, 2, 6], 4),
        ([1, 5, 2, 9, 1, 5], None),
        ([1, 1, 5, 2, 2, 6], 3),
    ],
)
def test_closing_token(ids: list[int], expected: int | None) -> None:
    def decode(ids: list[int]) -> str:
        return "".join("\n" if i == 9 else "x" for i in ids)

    assert closing_token(ids, 1, 2, decode) == expected
