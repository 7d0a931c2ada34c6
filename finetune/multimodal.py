"""Checkpoints that see or hear too, as students of text: the language model is trained, all beside
it is left alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a processor reads beside the tokenizer's files and the chat template.
_PROCESSOR = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
# Before a template that reads no other content: makes a list of parts of each message's text.
LISTS_OF_PARTS = (
    "{%- set said = namespace(all=[]) -%}{%- for m in messages -%}{%- if m.content is string -%}"
    "{%- set said.all = said.all + [dict(m, content=[{'type': 'text', 'text': m.content}])] -%}"
    "{%- else -%}{%- set said.all = said.all + [m] -%}{%- endif -%}{%- endfor -%}"
    "{%- set messages = said.all -%}"
)


def model_class(config: Any) -> Any:
    """The class of transformers that loads a student with all its weights, those that see too."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    whole = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    if whole is None or (
        whole not in (getattr(config, "architectures", None) or ())
        and config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    ):
        return AutoModelForCausalLM
    return AutoModelForImageTextToText


def load_model(path: str, *, revision: str | None, trust_remote_code: bool, **how: Any) -> Any:
    """A model with all its weights; `how` goes to the `from_pretrained` of its class."""
    from transformers import AutoConfig

    where = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = AutoConfig.from_pretrained(path, **where)
    return model_class(config).from_pretrained(path, **where, **how)


def has_more_than_text(config: Any) -> bool:
    """Whether a model with this config is more than a language model."""
    return config.get_text_config() is not config


def parts_beside(config: Any) -> dict[str, int]:
    """The weights of each part beside the language model, by the part's name in the whole model;
    of a language model alone none.
    """
    import torch
    from transformers.initialization import no_init_weights

    if not has_more_than_text(config):
        return {}
    with torch.device("meta"), no_init_weights():
        model = model_class(config).from_config(config)
    return beside(model)


def beside(model: Any) -> dict[str, int]:
    """The same of a loaded model, whose layers may have adapters."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    found: dict[str, int] = {}

    def walk(module: Any, path: str) -> None:
        for name, child in module.named_children():
            whole = f"{path}{name}"
            if child is decoder or child is head:
                continue
            if any(part is decoder for part in child.modules()):
                walk(child, f"{whole}.")
            else:
                found[whole] = sum(parameter.numel() for parameter in child.parameters())

    if has_more_than_text(model.config) and decoder is not model:
        walk(model, "")
    return found


def pattern(parts: Mapping[str, int]) -> str | None:
    """A regular expression for the names of all modules in these parts, None if there are none."""
    if not parts:
        return None
    return rf"({'|'.join(map(re.escape, parts))})(\..*)?"


def freeze_beside(model: Any) -> None:
    """Take the gradient from all that is not the language model."""
    for part in beside(model):
        model.get_submodule(part).requires_grad_(False)


def saved_name(model: Any, name: str) -> str:
    """The name under which transformers, and by it vLLM, keeps a weight of a model that is more
    than a language model: some have other names in files than in memory.
    """
    import torch
    from transformers.core_model_loading import WeightRenaming, revert_weight_conversion

    conversions = getattr(model, "_weight_conversions", None) or ()
    if not has_more_than_text(model.config) or not conversions:
        return name
    if not all(isinstance(one, WeightRenaming) for one in conversions):
        return name
    (renamed,) = revert_weight_conversion(model, {name: torch.empty(0)})
    return str(renamed)


def copy_processor(student: str, revision: str | None, folder: Path) -> None:
    """Copy the files of the student's processor, if it has one, into a folder."""
    from transformers.utils import cached_file

    for name in _PROCESSOR:
        found = cached_file(
            student, name, revision=revision, _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        if found is not None:
            shutil.copyfile(found, folder / name)
