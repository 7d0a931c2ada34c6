"""Configs that transformers 4 reads as well: people serve with older stacks than they train with.

transformers 5 renamed keys. Where 4 does not find one it takes its default without a word (RoPE's
theta), or ends in an error (a tokenizer class that it lacks). Both read these files alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OLDEST = "4.57"
"""The oldest transformers that exports are tested with."""

_OLD_CLASS = {"TokenizersBackend": "PreTrainedTokenizerFast"}  # 5 knows both names
_NEW_IN_ROPE = ("rope_theta", "partial_rotary_factor")  # which 4 has outside of the scaling


def keep_readable(folder: Path) -> None:
    """Add the names that transformers 4 knows to a saved model's or tokenizer's configs."""
    for name, mend in (("config.json", _mend_model), ("tokenizer_config.json", _mend_tokenizer)):
        path = folder / name
        if path.is_file():
            values = json.loads(path.read_text(encoding="utf-8"))
            mend(values)
            text = json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True)
            path.write_text(text + "\n", encoding="utf-8")


def _mend_model(values: dict[str, Any]) -> None:
    for part in (values, values.get("text_config")):
        if not isinstance(part, dict):
            continue
        if "dtype" in part:
            part["torch_dtype"] = part["dtype"]
        rope = part.get("rope_parameters")
        if not rope:
            continue
        if "full_attention" in rope:  # one for each kind of layers, as Gemma 3 has
            if local := rope.get("sliding_attention"):
                part["rope_local_base_freq"] = local["rope_theta"]
            rope = rope["full_attention"]
        for key in _NEW_IN_ROPE:
            if key in rope:
                part[key] = rope[key]
        if rope.get("rope_type", "default") != "default":
            part["rope_scaling"] = {k: v for k, v in rope.items() if k not in _NEW_IN_ROPE}


def _mend_tokenizer(values: dict[str, Any]) -> None:
    if values.get("tokenizer_class") in _OLD_CLASS:
        values["tokenizer_class"] = _OLD_CLASS[values["tokenizer_class"]]
    if values.get("tokenizer_class") in _OLD_CLASS.values():
        # In 4 this class makes token types too, which no language model's `generate` takes.
        values.setdefault("model_input_names", ["input_ids", "attention_mask"])
    values.pop("backend", None)
    # In 4 these are names with tokens; a list of tokens has the older name, which 5 reads too.
    if isinstance(values.get("extra_special_tokens"), list):
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
