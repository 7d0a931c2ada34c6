"""The shape of a student, from its config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# The families whose layers are laid out as `Shape` and the formulas say, with the sizes that
# transformers takes where a config.json does not give them.
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma3_text": {"head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4,
                    "vocab_size": 262_208, "tie_word_embeddings": True},
    "granite": {},
    "llama": {},
    "ministral": {},
    "ministral3": {"head_dim": 128},
    "mistral": {},
    "olmo2": {},
    "olmo3": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "smollm3": {"tie_word_embeddings": True},
}  # fmt: skip
_AFTER, _BOTH = ("olmo2", "olmo3"), ("gemma3_text",)
_HEAD_NORMS, _WHOLE_NORMS = ("gemma3_text", "qwen3"), ("olmo2", "olmo3")
_FUSED = ("phi3",)
_ROTARY_KINDS = ("gemma3_text", "olmo3")
_NO_BIASES = ("ministral", "ministral3", "mistral")
_MLP_BIASES = ("granite", "llama", "smollm3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear map of a layer: its place, as peft's `target_modules` names it, its sizes, and how
    many layers have it.
    """

    path: str
    inputs: int
    outputs: int
    bias: bool
    count: int

    @property
    def name(self) -> str:
        """The last part of its place."""
        return self.path.rpartition(".")[2]

    @property
    def weights(self) -> int:
        """The number of weights of one of them, without the bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a dense decoder with grouped-query attention, a gated feed-forward net, and RMS
    norms; or of another model, whose memory is traced (`traced`), not computed from its sizes.
    """

    architecture: str
    hidden: int
    intermediate: int
    layers: int
    attending: int
    """How many of the layers have attention."""
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    tied: bool
    """Whether the output layer is the embedding."""
    norms: Literal["before", "after", "both"]
    """Where attention and feed-forward net have norms."""
    query_norms: Literal["none", "head", "whole"]
    """Whether queries and keys are normalised: by head, as in Qwen3, or whole, as in OLMo 2."""
    rotary_kinds: int
    """How many tables of rotary positions there are."""
    linears: tuple[Linear, ...]
    small: int
    """Weights of norms, biases and all else that is no linear map and no table."""
    traced: Mapping[str, Any] | None = None
    """The config.json of a model that the formulas do not know."""
    beside: int = 0
    """Weights of all that is beside the language model, as a vision tower: they lie there, and are
    neither trained nor used."""

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
    def linear_weights(self) -> int:
        """Weights of all layers' linear maps."""
        return sum(linear.weights * linear.count for linear in self.linears)

    @property
    def parameters(self) -> int:
        """All weights, tied ones counted once."""
        tables = 1 if self.tied else 2
        return self.linear_weights + tables * self.embedding + self.small

    def adapted(self, targets: str | list[str]) -> tuple[Linear, ...]:
        """The linear maps that peft's `target_modules` names.

        Raises:
            ValueError: it names none.

        """
        chosen = tuple(linear for linear in self.linears if _targeted(linear.path, targets))
        if not chosen:
            names = ", ".join(dict.fromkeys(linear.name for linear in self.linears))
            raise ValueError(f"finetune.lora.targets: {targets} names none of {names}")
        return chosen


def _targeted(path: str, targets: str | list[str]) -> bool:
    """As peft reads `target_modules`: a list has ends of names, a string is a pattern for the whole
    name.
    """
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    return any(path == end or path.endswith(f".{end}") for end in targets)


# Language models that transformers knows only within models that see, by what they are alone.
_WITHIN = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that describes the language model: of one that sees too, its
    `text_config`.
    """
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    outer = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    kind = inner.get("model_type")
    return {**outer, **inner, "model_type": _WITHIN.get(str(kind), kind)}


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether `read_shape` knows the architecture of a config.json."""
    return text_part(config).get("model_type") in FAMILIES


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json gives.

    Raises:
        ValueError: the planner does not know the architecture, or a size is missing.

    """
    config = text_part(config)
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise ValueError(f"finetune.student: the planner has no formulas for {kind}")
    # A null means what transformers takes too.
    config = {**FAMILIES[kind], **{k: v for k, v in config.items() if v is not None}}
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        intermediate, layers = int(config["intermediate_size"]), int(config["num_hidden_layers"])
        vocabulary = int(config["vocab_size"])
    except KeyError as error:
        raise ValueError(f"finetune.student: its config.json has no {error}") from error
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_size = int(config.get("head_dim") or hidden // heads)
    queries, keys = heads * head_size, kv_heads * head_size
    linears = tuple(
        Linear(
            path=f"model.layers.0.{part}.{name}",
            inputs=inputs,
            outputs=outputs,
            bias=bias,
            count=layers,
        )
        for part, name, inputs, outputs, bias in _maps(config, hidden, intermediate, queries, keys)
    )
    query_norms: Literal["none", "head", "whole"] = "none"
    if kind in _HEAD_NORMS:
        query_norms = "head"
    elif kind in _WHOLE_NORMS:
        query_norms = "whole"
    each = sum(linear.outputs for linear in linears if linear.bias)
    each += (4 if kind in _BOTH else 2) * hidden
    each += {"none": 0, "head": 2 * head_size, "whole": queries + keys}[query_norms]
    return Shape(
        architecture=kind,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        attending=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=vocabulary,
        context=int(config.get("max_position_embeddings") or 0),
        tied=bool(config.get("tie_word_embeddings", False)),
        norms="after" if kind in _AFTER else "both" if kind in _BOTH else "before",
        query_norms=query_norms,
        rotary_kinds=2 if kind in _ROTARY_KINDS else 1,
        linears=linears,
        small=layers * each + hidden,
    )


def _maps(
    config: Mapping[str, Any], hidden: int, intermediate: int, queries: int, keys: int
) -> list[tuple[str, str, int, int, bool]]:
    """Of each linear map of a layer: its part, its name, its sizes, whether it has a bias."""
    kind = config["model_type"]
    if kind in _FUSED:
        return [
            ("self_attn", "qkv_proj", hidden, queries + 2 * keys, False),
            ("self_attn", "o_proj", queries, hidden, False),
            ("mlp", "gate_up_proj", hidden, 2 * intermediate, False),
            ("mlp", "down_proj", intermediate, hidden, False),
        ]
    # Qwen2 has biases on queries, keys and values alone, whatever its config says.
    biased = bool(config.get("attention_bias", False)) and kind not in _NO_BIASES
    into, out = (True, False) if kind == "qwen2" else (biased, biased)
    gated = bool(config.get("mlp_bias", False)) and kind in _MLP_BIASES
    return [
        ("self_attn", "q_proj", hidden, queries, into),
        ("self_attn", "k_proj", hidden, keys, into),
        ("self_attn", "v_proj", hidden, keys, into),
        ("self_attn", "o_proj", queries, hidden, out),
        ("mlp", "gate_proj", hidden, intermediate, gated),
        ("mlp", "up_proj", hidden, intermediate, gated),
        ("mlp", "down_proj", intermediate, hidden, gated),
    ]
