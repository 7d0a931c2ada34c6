"""Models that the planner has no formulas for: their shape and memory, read off transformers' own
code on tensors without content.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from finetune.loss import CHUNK_BYTES
from finetune.multimodal import parts_beside
from finetune.planner.shape import Linear, Shape, is_known, read_shape, text_part
from finetune.planner.terms import Load, Moment, trainable
from finetune.planner.trace import as_config, few_layers, quietly, shortened, trace_step
from tracestill.recipe.finetune import FinetuneSection

# The tokens of the two micro-batches that are traced, and how many of either are learnt. Between
# and beyond them memory is linear but for the loss, whose logits are computed in chunks.
_TOKENS, _LEARNT = (512, 1024), 256
_NUMBER = re.compile(r"\.\d+\.")


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape of a student with this config.json: by the formulas' sizes, or traced.

    Raises:
        ValueError: a size is missing, the model can't be traced, or what traces is not installed.

    """
    try:
        shape = read_shape(config) if is_known(config) else trace_shape(config)
        if text_part(config) is not config:
            shape = replace(shape, beside=sum(parts_beside(as_config(config)).values()))
        return shape
    except ModuleNotFoundError as error:
        raise ValueError(
            f"finetune.student: the planner has no formulas for all of {config.get('model_type')}, "
            f"and can't trace it without {error.name}: install the extra `cpu` or `gpu`"
        ) from error


def trace_shape(config: Mapping[str, Any]) -> Shape:
    """The shape of any model that transformers knows, from its modules.

    Raises:
        ValueError: transformers does not know the architecture, or can't build it.

    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    config = text_part(config)
    known = as_config(config)
    kind = config["model_type"]
    if experts := [key for key in config if "expert" in key and config[key]]:
        raise ValueError(
            f"finetune.student: {kind} is a mixture of experts ({experts[0]}), whose memory and "
            "speed are not planned; what is trained here is dense"
        )
    try:
        with quietly(), torch.device("meta"), no_init_weights():
            model = AutoModelForCausalLM.from_config(known, attn_implementation="sdpa")
            model.tie_weights()
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"finetune.student: transformers can't build {kind}: {why}") from error
    text = known.get_text_config()
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    linears = _linears(model, tables[1])
    total = sum(parameter.numel() for parameter in model.parameters())
    vocabulary, hidden = tables[0].weight.shape
    tied = tables[0].weight is tables[1].weight
    heads = int(getattr(text, "num_attention_heads", 1))
    layers = int(text.num_hidden_layers)
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * layers
    return Shape(
        architecture=kind,
        hidden=hidden,
        intermediate=int(getattr(text, "intermediate_size", 4 * hidden)),
        layers=layers,
        attending=sum("attention" in kind and "linear" not in kind for kind in kinds),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_size=int(getattr(text, "head_dim", None) or hidden // heads),
        vocabulary=vocabulary,
        context=int(getattr(text, "max_position_embeddings", 0) or 0),
        tied=tied,
        norms="before",
        query_norms="none",
        rotary_kinds=1,
        linears=linears,
        small=total
        - sum(one.weights * one.count for one in linears)
        - (1 if tied else 2) * vocabulary * hidden,
        traced=dict(config),
    )


def _linears(model: Any, head: Any) -> tuple[Linear, ...]:
    """The model's linear maps but the output layer; those of several layers that have the same
    place and sizes are one.
    """
    import torch

    found: dict[tuple[Any, ...], list[str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            sizes = (module.in_features, module.out_features, module.bias is not None)
            found.setdefault((_NUMBER.sub(".0.", path, count=1), *sizes), []).append(path)
    return tuple(
        Linear(path=paths[0], inputs=inputs, outputs=outputs, bias=bias, count=len(paths))
        for (_, inputs, outputs, bias), paths in found.items()
    )


def traced_moments(
    shape: Shape, settings: FinetuneSection, load: Load, *, bfloat16: bool
) -> list[Moment]:
    """Gradients and activations at the moments that can be the peak, as `Terms.moments`.

    Steps of a few layers and tokens are traced. In both passes a model's memory is the gradients
    that are there, plus a share that grows with the layers, with the tokens and with both.

    Raises:
        ValueError: the model can't be traced.

    """
    assert shape.traced is not None
    few = few_layers(shape.traced)
    traced = [
        _step(shortened(shape.traced, layers), settings, tokens, bfloat16)
        for layers in few
        for tokens in _TOKENS
    ]
    gradients = 4.0 * trainable(shape, settings)
    earlier = gradients if load.accumulates else 0.0
    forward = _plane(few, [one.forward for one in traced])
    backward = _plane(few, [one.backward for one in traced])
    kept = forward.at(shape.layers, load.tokens) + _more_loss(shape, settings, load, bfloat16)
    whole = backward.at(shape.layers, load.tokens)
    last = backward.at(min(1, shape.layers), load.tokens)
    return [(earlier, kept, 0.0), (earlier, whole, 0.0), (gradients, last, 0.0)]


def _more_loss(shape: Shape, settings: FinetuneSection, load: Load, bfloat16: bool) -> float:
    """What the loss of a micro-batch takes beyond that of the traced ones: learnt hidden states and
    their gradients, and logits in float32 and in the products' dtype up to a chunk.
    """
    chunk = max(1, CHUNK_BYTES // (4 * shape.vocabulary))
    stream = 2 if bfloat16 and settings.method == "lora" else 4
    logits = (
        (6.0 if bfloat16 else 4.0)
        * shape.vocabulary
        * (min(chunk, load.learnt) - min(chunk, _LEARNT))
    )
    return logits + 2.0 * stream * shape.hidden * (load.learnt - _LEARNT)


@dataclass(frozen=True, slots=True)
class _Passes:
    """The peaks of the passes of a traced step beyond what rests and the gradients, in bytes."""

    forward: float
    backward: float


def _step(
    config: Mapping[str, Any], settings: FinetuneSection, tokens: int, bfloat16: bool
) -> _Passes:
    said = settings.model_dump(
        include={"method", "quantize", "gradient_checkpointing", "activation_offload", "lora"}
    )
    return _traced(json.dumps(dict(config)), json.dumps(said), tokens, bfloat16)


@functools.cache
def _traced(config: str, settings: str, tokens: int, bfloat16: bool) -> _Passes:
    values = json.loads(config)
    chosen = FinetuneSection(student="", template="", **json.loads(settings))
    try:
        with quietly():
            traced = trace_step(
                values, chosen, [[tokens]], prompt=tokens - _LEARNT, bfloat16=bfloat16
            )
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"finetune.student: a step of {values['model_type']} can't be traced: {why}"
        ) from error
    there = traced.resting + traced.gradients
    return _Passes(forward=traced.forward - there, backward=traced.backward - there)


@dataclass(frozen=True, slots=True)
class _Plane:
    """`constant + by_layer * layers + by_token * tokens + by_both * layers * tokens`."""

    constant: float
    by_layer: float
    by_token: float
    by_both: float

    def at(self, layers: int, tokens: int) -> float:
        """Its value, never negative."""
        value = self.constant + self.by_layer * layers
        return max(0.0, value + (self.by_token + self.by_both * layers) * tokens)


def _plane(layers: tuple[int, int], values: list[float]) -> _Plane:
    """Through the values at both numbers of layers and both of tokens, in that order."""
    low, high = _TOKENS
    slopes = [(values[place + 1] - values[place]) / (high - low) for place in (0, 2)]
    bases = [values[place] - slope * low for place, slope in zip((0, 2), slopes, strict=True)]
    more = layers[1] - layers[0]
    by_layer = (bases[1] - bases[0]) / more if more else 0.0
    by_both = (slopes[1] - slopes[0]) / more if more else 0.0
    return _Plane(
        constant=bases[0] - by_layer * layers[0],
        by_layer=by_layer,
        by_token=slopes[0] - by_both * layers[0],
        by_both=by_both,
    )
