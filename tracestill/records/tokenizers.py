"""Tokenizers that write what they are given, and what a chat template says where it fails."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_PROBE = "One two,\nthree: 4 + 5."
_SPACE = re.compile(r"\s+")
_SHOWN = 20  # characters


def mended(tokenizer: Any, model: str, revision: str | None) -> Any:
    """The tokenizer, or where its class loses white space the one that the model's tokenizer.json
    describes.

    transformers 5 builds some classes anew instead of reading tokenizer.json: with LlamaTokenizer
    named in tokenizer_config.json, a byte-level vocabulary (DeepSeek-V3's, R1-Distill-Llama's) has
    no token for a space, and all of them vanish.

    Raises:
        ValueError: neither keeps white space.

    """
    if keeps_space(tokenizer):
        return tokenizer
    from transformers import PreTrainedTokenizerFast

    name = type(tokenizer).__name__
    if getattr(tokenizer, "is_fast", False):
        plain = PreTrainedTokenizerFast.from_pretrained(model, revision=revision)
        if keeps_space(plain):
            return plain
    became = _round_trip(tokenizer, _PROBE)
    raise ValueError(
        f"its tokenizer, read as the class {name}, loses white space: {_PROBE!r} becomes "
        f"{became!r}; put a tokenizer.json of the model beside it, and the class "
        "PreTrainedTokenizerFast into its tokenizer_config.json"
    )


def keeps_space(tokenizer: Any) -> bool:
    """Whether words stay apart, and lines, on the way to ids and back."""
    return _SPACE.findall(_round_trip(tokenizer, _PROBE).strip()) == _SPACE.findall(_PROBE)


def _round_trip(tokenizer: Any, text: str) -> str:
    return decoded(tokenizer, tokenizer.encode(text, add_special_tokens=False))


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of ids, special tokens included, spaces left as they are."""
    whole: dict[str, Any] = {"skip_special_tokens": False}
    if hasattr(tokenizer, "clean_up_tokenization_spaces"):
        whole["clean_up_tokenization_spaces"] = False
    text: str = tokenizer.decode(list(ids), **whole)
    return text


def unwritten(written: str, parts: Sequence[str]) -> str | None:
    """What the text of a prompt's ids (`written`) does not say as it stands, in words: the first of
    `parts`, such as a problem, that it lacks, outer white space and Unicode's composed forms aside.
    None: it has them all.
    """
    for part in parts:
        part = part.strip()
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFKC", part))
        if any(form in written for form in forms):
            continue
        low, high = 0, len(part)  # the longest beginning that is there
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if part[:middle] in written else (low, middle - 1)
        begin = max(0, low - _SHOWN // 2)
        at = written.find(part[:low]) + begin if low else 0
        return (
            f"{part[begin : begin + _SHOWN]!r} becomes {written[at : at + _SHOWN]!r}, which is all "
            "that the tokenizer can write of it"
        )
    return None


def template_fault(error: Exception) -> str:
    """What a chat template's error says, in one line with its place."""
    import jinja2

    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"it is no Jinja template, line {error.lineno}: {said}"
    if type(error) is jinja2.TemplateError:  # by the template's own raise_exception
        return f"it refuses the chat: {said}"
    return f"it fails: {said}"
