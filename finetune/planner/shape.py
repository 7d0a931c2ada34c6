"""The shape of a student, from its config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The architectures whose layers are laid out as `Shape.linears` and the formulas say.
_KNOWN = ("gemma", "llama", "mistral", "qwen2", "qwen3")
# The head size if a config.json does not give it; for others it is hidden size / heads.
_HEAD_SIZES = {"gemma": 256, "qwen3": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear map of a layer: its name as in peft's `target_modules`, and its sizes."""

    name: str
    inputs: int
    outputs: int
    bias: bool

    @property
    def weights(self) -> int:
        """The number of weights without the bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a dense decoder with grouped-query attention, a gated feed-forward net, and RMS
    norms before both.
    """

    architecture: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    tied: bool
    """Whether the output layer is the embedding."""
    head_norms: bool
    """Whether queries and keys are normalised per head, as in Qwen3."""
    linears: tuple[Linear, ...]
    """Of one layer."""

    @property
    def queries(self) -> int:
        """The width of a token's queries over all heads."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """The width of a token's keys over all heads, and of its values."""
        return self.kv_heads * self.head_size

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the output layer."""
        return self.vocabulary * self.hidden

    @property
    def layer_linear(self) -> int:
        """Weights of one layer's linear maps."""
        return sum(linear.weights for linear in self.linears)

    @property
    def small(self) -> int:
        """Weights of norms and biases."""
        biases = sum(linear.outputs for linear in self.linears if linear.bias)
        norms = 2 * self.hidden + (2 * self.head_size if self.head_norms else 0)
        return self.layers * (biases + norms) + self.hidden

    @property
    def parameters(self) -> int:
        """All weights, tied ones counted once."""
        tables = 1 if self.tied else 2
        return self.layers * self.layer_linear + tables * self.embedding + self.small

    def adapted(self, targets: str | list[str]) -> tuple[Linear, ...]:
        """A layer's linear maps that peft's `target_modules` names.

        Raises:
            ValueError: it names none.

        """
        chosen = tuple(linear for linear in self.linears if _targeted(linear.name, targets))
        if not chosen:
            names = ", ".join(linear.name for linear in self.linears)
            raise ValueError(f"finetune.lora.targets: {targets} names none of {names}")
        return chosen


def _targeted(name: str, targets: str | list[str]) -> bool:
    """As peft reads `target_modules`: a list has ends of names, a string is a pattern for the whole
    name.
    """
    if targets == "all-linear":
        return True
    part = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    path = f"model.layers.0.{part}.{name}"
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    return any(path == end or path.endswith(f".{end}") for end in targets)


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json gives.

    Raises:
        ValueError: the planner does not know the architecture, or a size is missing.

    """
    kind = str(config.get("model_type"))
    if kind not in _KNOWN:
        experts = ", a mixture of experts" if _experts(config) else ""
        raise ValueError(
            f"finetune.student: the planner knows no {kind}{experts}; it knows dense models of the "
            f"families {', '.join(_KNOWN)}"
        )
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        intermediate, layers = int(config["intermediate_size"]), int(config["num_hidden_layers"])
        vocabulary = int(config["vocab_size"])
    except KeyError as error:
        raise ValueError(f"finetune.student: its config.json has no {error}") from error
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_size = int(config.get("head_dim") or _HEAD_SIZES.get(kind) or hidden // heads)
    # Qwen2 has biases on queries, keys and values alone, whatever its config says.
    biased = bool(config.get("attention_bias", False))
    into, out = (True, False) if kind == "qwen2" else (biased, biased)
    gated = bool(config.get("mlp_bias", False)) and kind == "llama"
    queries, keys = heads * head_size, kv_heads * head_size
    sizes = (
        ("q_proj", hidden, queries, into),
        ("k_proj", hidden, keys, into),
        ("v_proj", hidden, keys, into),
        ("o_proj", queries, hidden, out),
        ("gate_proj", hidden, intermediate, gated),
        ("up_proj", hidden, intermediate, gated),
        ("down_proj", intermediate, hidden, gated),
    )
    return Shape(
        architecture=kind,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=vocabulary,
        context=int(config.get("max_position_embeddings") or 0),
        # What transformers assumes where the config is silent differs by family.
        tied=bool(config.get("tie_word_embeddings", kind == "gemma")),
        head_norms=kind == "qwen3",
        linears=tuple(
            Linear(name=name, inputs=inputs, outputs=outputs, bias=bias)
            for name, inputs, outputs, bias in sizes
        ),
    )


def _experts(config: Mapping[str, Any]) -> bool:
    return any("experts" in key and value for key, value in config.items())
