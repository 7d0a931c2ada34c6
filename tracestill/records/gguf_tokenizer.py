"""The tokenizer of a GGUF file, as its model's makers had it.

The file has tokens, merges, and the name of a way to split text before merging. transformers knows
some of these names, splits by GPT-2's rule where it knows none, and loses special tokens with
letters beyond ASCII: a student would be trained on tokens that it never saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # llama.cpp's types of tokens

# By llama.cpp's names (src/llama-vocab.cpp). Digits one by one, then GPT-2's rule:
_DIGITS = {
    "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2",
}  # fmt: skip
# GPT-2's rule alone:
_PLAIN = {
    "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "mellum",
    "gigachat",
}  # fmt: skip
# Rules that another name has, which transformers knows:
_SAME = {
    "stablelm2": "qwen2", "hunyuan": "qwen2", "solar-open": "qwen2", "glm4": "llama-bpe",
    "chatglm-bpe": "llama-bpe",
}  # fmt: skip
# One after the other:
_STEPS: dict[str, tuple[str, ...]] = {
    "deepseek-v3": (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
}
# Where llama.cpp takes a word that is a token as it is, and where it begins a text with bos, if the
# file does not say.
_WHOLE_WORDS = {
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "tekken",
}  # fmt: skip
# Whose makers' tokenizers compose letters (NFC), which the file does not say.
_COMPOSED = {"qwen2", "qwen35"}


def gguf_tokenizer(file: Path, metadata: dict[str, Any]) -> Any:
    """The tokenizer of a GGUF file (a `PreTrainedTokenizerFast`), from its metadata with the arrays
    of tokens and merges, with its chat template.

    Raises:
        ValueError: it is of a kind that can't be restored; one line with the fix.

    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    def said(key: str) -> Any:
        return metadata.get(f"tokenizer.ggml.{key}")

    kind, split = said("model"), said("pre")
    if kind == "gpt2":
        backend = _byte_level(file, metadata)
    elif kind == "llama":
        backend, _ = convert_gguf_tokenizer(*get_gguf_tokenizer(str(file))[:2])
    else:
        raise ValueError(
            f"{file} has a tokenizer of the kind {kind}, which is not restored; name the model's "
            "original folder or hub id instead"
        )
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    special = {
        name: said("tokens")[token]
        for name, key in names.items()
        if (token := said(f"{key}_token_id")) is not None
    }
    begins = said("add_bos_token")
    if begins is None:
        begins = kind == "llama" or split in _WHOLE_WORDS
    if begins and (bos := special.get("bos_token")):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, said("bos_token_id"))],
        )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **special
    )
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    return tokenizer


def _byte_level(file: Path, metadata: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    split = metadata.get("tokenizer.ggml.pre")
    vocabulary = {
        token: index
        for index, (token, type_) in enumerate(zip(tokens, types, strict=True))
        if type_ in (_NORMAL, _CONTROL, _USER_DEFINED)  # not what fills holes
    }
    merges = [tuple(pair.split(" ")) for pair in metadata.get("tokenizer.ggml.merges", ())]
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            # llama.cpp passes over a merge into no token, which files without merges have one of.
            merges=[pair for pair in merges if "".join(pair) in vocabulary],
            ignore_merges=split in _WHOLE_WORDS,
        )
    )
    if split in _COMPOSED:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _splits(file, split)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [
            AddedToken(token, normalized=False, special=type_ == _CONTROL)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ in (_CONTROL, _USER_DEFINED)
        ]
    )
    return backend


def _splits(file: Path, name: str | None) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    name = _SAME.get(name or "", name)
    if name in _DIGITS:
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    if name in _PLAIN:
        return ByteLevel(add_prefix_space=False)
    if name in _STEPS:
        rules = _STEPS[name]
    elif name in GGUF_PRE_TOKENIZER_SPLITS:
        rules = (GGUF_PRE_TOKENIZER_SPLITS[name],)
    else:
        raise ValueError(
            f"{file} splits text by the rule {name}, which is not known here; name the model's "
            "original folder or hub id instead"
        )
    parts = [Split(Regex(rule), behavior="isolated") for rule in rules]
    return Sequence([*parts, ByteLevel(add_prefix_space=False, use_regex=False)])


def split_name(tokenizer: Any) -> str | None:
    """llama.cpp's name for the rule by which a tokenizer splits text, None if there is none here.
    Without merges every rule gives the same.
    """
    import json

    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    has = json.loads(tokenizer.backend_tokenizer.to_str())
    if not has["model"].get("merges"):
        return "gpt-2"
    names: list[str] = ["smollm", "gpt-2", *_STEPS, *GGUF_PRE_TOKENIZER_SPLITS]
    for name in names:
        rule = json.loads(_splits(Path(), name).__getstate__())
        if _plainly(rule) == _plainly(has["pre_tokenizer"]):
            return name
    return None


def _plainly(rule: Any) -> Any:
    """A rule without what changes no token."""
    if isinstance(rule, dict):
        return {k: _plainly(v) for k, v in rule.items() if k != "trim_offsets"}
    return [_plainly(part) for part in rule] if isinstance(rule, list) else rule
