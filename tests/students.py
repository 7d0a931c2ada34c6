"""Small students: for each family a tokenizer with its special tokens and quirks, a model of random
weights. The real ones are checked where a hub can be reached.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ROOT

TEMPLATES = ROOT / "recipes" / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a family's tokenizer is: `special` tokens, `added` ones that are plain to it."""

    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    bos: str | None = None
    eos: str = "<|endoftext|>"
    normalised: bool = True


_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "chatml-think": Family(special=_QWEN),
    "qwen2.5": Family(special=_QWEN),  # a base model: its eos is not what ends a turn
    "qwen2.5-math": Family(special=_QWEN),
    "qwen3": Family(special=_QWEN, added=("<think>", "</think>"), eos="<|im_end|>"),
    "llama-3": Family(
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                 "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        normalised=False,
    ),
    "r1-distill": Family(
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        added=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
    ),
    "teuken": Family(bos="<s>", eos="</s>"),
    "miniature": Family(),
}  # fmt: skip

# What an R1 trace is made of, so that merges lie across every seam that a template could have.
TEXT = [
    "Okay, so I need to find the sum of 12 and 7.\nWait, let me check.\n\n12 + 7 = 19.\n",
    "<think>\n</think>\n\nThe final answer is \\boxed{19}.\n",
    "System: A chat.\nUser: Hallo, wie geht es dir?\nAssistant: Mir geht es gut.\n",
    "user\nassistant\nsystem\nYou are a helpful assistant.\n",
    "for i in range(3):\n    print(i)\n\n>\n\n>\n\n\n",
]


def words() -> Iterator[str]:
    """Text to train a tokenizer on."""
    for number in range(200):
        yield TEXT[number % len(TEXT)].replace("12", str(number))


def make_student(name: str, folder: Path) -> Path:
    """A student's folder: configuration and tokenizer, no weights."""
    if name == "miniature":
        return ROOT / "miniature" / "student"
    folder.mkdir(parents=True, exist_ok=True)
    family = FAMILIES[name]
    tokenizer = _write_teuken(folder) if name == "teuken" else fast_tokenizer(family)
    tokenizer.save_pretrained(folder)
    if name == "teuken":
        _mend_teuken(folder)
    config = json.loads((ROOT / "miniature" / "student" / "config.json").read_text())
    config |= {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,  # as real ones: more rows than tokens
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": 2048,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def fast_tokenizer(family: Family) -> Any:
    """A byte-level tokenizer with a family's tokens."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    if family.normalised:
        inner.normalizer = normalizers.NFC()
    # GPT-2's way of taking words apart, but that line ends stay with the sign before them.
    split = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        words(),
        trainers.BpeTrainer(
            vocab_size=600,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    inner.add_special_tokens([AddedToken(text, normalized=False) for text in family.special])
    inner.add_tokens([AddedToken(text, normalized=False) for text in family.added])
    if family.bos:
        begin = (family.bos, inner.token_to_id(family.bos))
        inner.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A $B", special_tokens=[begin]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.eos,
        clean_up_tokenization_spaces=bool(family.bos),  # spoils text that is decoded
    )


# Teuken's tokenizer comes as Python: slow, `encode` by sentencepiece alone, and templates that are
# set whenever it is loaded, whatever template was saved.
CODE = '''\
"""A sentencepiece tokenizer in Python, with Teuken's ways."""

from pathlib import Path

import sentencepiece
from transformers import PreTrainedTokenizer


class PieceTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "tokenizer.model"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file, **kwargs):
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=vocab_file)
        self.vocab_file = vocab_file
        super().__init__(**kwargs)
        self.chat_template = {"DE": "Guten Tag", "default": "Good day"}

    @property
    def vocab_size(self):
        return self.pieces.get_piece_size()

    def get_vocab(self):
        return {self.pieces.id_to_piece(i): i for i in range(self.vocab_size)}

    def encode(self, text, **kwargs):
        return self.pieces.encode(text)

    def decode(self, token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False):
        return self.pieces.decode([int(i) for i in token_ids])

    def _tokenize(self, text, **kwargs):
        return self.pieces.encode_as_pieces(text)

    def _convert_token_to_id(self, token):
        return self.pieces.piece_to_id(token)

    def _convert_id_to_token(self, index):
        return self.pieces.id_to_piece(index)

    def convert_tokens_to_string(self, tokens):
        return self.pieces.decode_pieces(tokens)

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        return [self.bos_token_id, *token_ids_0]

    def save_vocabulary(self, save_directory, filename_prefix=None):
        target = Path(save_directory) / "tokenizer.model"
        if not target.exists():
            target.write_bytes(Path(self.vocab_file).read_bytes())
        return (str(target),)
'''


def _write_teuken(folder: Path) -> Any:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=words(),
        model_writer=model,
        vocab_size=700,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=3,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "piece_tokenizer.py").write_text(CODE)
    namespace: dict[str, Any] = {}
    exec(CODE, namespace)
    return namespace["PieceTokenizer"](
        str(folder / "tokenizer.model"),
        unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
    )  # fmt: skip


def _mend_teuken(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {
        "tokenizer_class": "PieceTokenizer",
        "auto_map": {"AutoTokenizer": ["piece_tokenizer.PieceTokenizer", None]},
    }
    path.write_text(json.dumps(config))
