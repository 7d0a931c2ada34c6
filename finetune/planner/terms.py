"""The terms of a training step's memory in bytes, from the student's shape.

Each follows what autograd keeps in transformers' modelling code and in peft's layers; the tests run
that code on fake tensors and find the same (docs/memory.md has both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.attention import LONG
from finetune.loss import CHUNK_BYTES
from finetune.planner.shape import Linear, Shape
from tracestill.recipe.finetune import FinetuneSection

# A 4-bit weight: half a byte, a scale byte per block of 64, a float per block of 256 of those.
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
_QUERIES = ("q_proj", "k_proj", "v_proj", "qkv_proj")
_GATES = ("gate_proj", "up_proj", "gate_up_proj")
# Layers whose inputs are still on the device while trl's offloading copies them.
_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A micro-batch on a device: its `tokens`, the `learnt` among them, those of its `longest`
    sample, and whether gradients of an earlier micro-batch are there.
    """

    tokens: int
    learnt: int
    longest: int
    accumulates: bool


Moment = tuple[float, float, float]
"""Bytes of gradients, of activations, and of logits and loss."""


def trainable(shape: Shape, settings: FinetuneSection) -> int:
    """The number of trained weights."""
    if settings.method == "full":
        return shape.parameters
    chosen = shape.adapted(settings.lora.targets)
    rank, dora = int(settings.lora.rank), int(settings.lora.dora)
    each = (rank * (one.inputs + one.outputs) + dora * one.outputs for one in chosen)
    return sum(one.count * weights for one, weights in zip(chosen, each, strict=True))


class Terms:
    """The terms, and their sums at several moments of a step. H, I, Q, K in comments and
    docs/memory.md are the widths of hidden states, feed-forward net, queries and keys.
    """

    def __init__(self, shape: Shape, settings: FinetuneSection, load: Load, bfloat16: bool) -> None:
        self.shape, self.load = shape, load
        self.full = settings.method == "full"
        self.nf4 = settings.quantize == "nf4"
        self.checkpointing = settings.gradient_checkpointing is True
        self.offload = settings.activation_offload
        self.rank, self.dropout = int(settings.lora.rank), settings.lora.dropout > 0
        self.mixed = bfloat16
        self.together = bfloat16 and load.longest < LONG  # a row's samples are attended at once
        # Bytes of a number in products, and in the residual stream, which has the embedding's
        # dtype: float32 with full fine-tuning.
        self.product = 2 if bfloat16 else 4
        self.stream = 4 if self.full else self.product
        self.adapted: tuple[Linear, ...] = (
            shape.linears if self.full else shape.adapted(settings.lora.targets)
        )
        self.names = {linear.name for linear in self.adapted}
        self.all_names = {linear.name for linear in shape.linears}

        many = trainable(shape, settings)
        shared = settings.launch.gpus if settings.launch.strategy == "fsdp" else 1
        replicated = settings.launch.gpus > 1 and settings.launch.strategy == "ddp"
        if self.full:
            self.weights, self.adapter = 4.0 * (shape.parameters + shape.beside), 0.0
        else:
            self.weights, self.adapter = self._frozen(), 4.0 * many
        # AdamW: a first and a second moment in float32.
        self.optimiser = 8.0 * many / shared
        # DDP has a copy of each gradient in its buckets.
        self.gradients = 4.0 * many / shared * (2 if replicated else 1)
        if shared > 1:
            # The layer that computes and the prefetched one are whole, as are the tables.
            whole = 2 * self.weights / shape.layers if shape.layers else 0.0
            self.weights = self.weights / shared + whole
            self.adapter /= shared

    def _frozen(self) -> float:
        shape = self.shape
        tables = (1 if shape.tied else 2) * shape.embedding
        linear = _NF4 if self.nf4 else self.product
        return shape.linear_weights * linear + (tables + shape.small + shape.beside) * self.product

    # ----- per token, in bytes -----

    def _inputs(self, group: Sequence[str], width: int) -> float:
        """The copies of an input of `width` that the trained linear maps of `group` keep."""
        count = len(self.names & set(group))
        if not count:
            return 0.0
        kept = float(self.product * width)
        if self.full:
            # Autocast makes a copy for each map, unless the input is in bfloat16 already.
            return kept * (count if self.mixed and self.stream == 4 else 1)
        if self.dropout:
            # For each a mask of bytes, and what it leaves.
            return count * (kept + width)
        # peft casts the input to the adapter's float32, and autocast back, for each map; its 4-bit
        # layer does not, and the maps share the input.
        return kept * (count if self.mixed and not self.nf4 else 1)

    def _norm(self, width: int, groups: int, dtype: int) -> float:
        """An RMS norm over `groups` of `width` numbers: its input in float32, the inverse root, and
        if its weight is trained, the normalised input.
        """
        trained = dtype * width * groups if self.full else 0
        return 4.0 * width * groups + 4.0 * groups + trained

    def _norms_of_half(self) -> float:
        """What the norms of attention keep, or those of the feed-forward net: of the input, of the
        output, or of both.
        """
        return self._norm(self.shape.hidden, 1, 4) * (2 if self.shape.norms == "both" else 1)

    def attention_kept(self) -> float:
        """What attention and its norm keep."""
        shape, size = self.shape, self.product
        kept = self._norms_of_half()
        kept += self._inputs(_QUERIES, shape.hidden)
        if shape.query_norms == "head":
            for groups in (shape.heads, shape.kv_heads):
                kept += self._norm(shape.head_size, groups, size)
        if shape.query_norms == "whole":
            kept += self._norm(shape.queries, 1, 4) + self._norm(shape.keys, 1, 4)
        if "qkv_proj" in self.all_names:
            kept += size * (shape.queries + shape.keys)  # values are a view of the joint output
        # Flash attention: queries, keys, values, output, and its normalisers.
        kept += size * (2 * shape.queries + 2 * shape.keys) + 4 * shape.heads
        if not (self.full or (self.nf4 and not self.dropout) or not self.mixed):
            kept += self._inputs(("o_proj",), shape.queries)
        elif "o_proj" in self.names and not self.together and self.load.longest < self.load.tokens:
            kept += size * shape.queries  # the samples' outputs, put together
        return kept + self._ranks((*_QUERIES, "o_proj"))

    def mlp_kept(self) -> float:
        """What the feed-forward net and its norm keep: both factors and the activation's output."""
        shape = self.shape
        kept = self._norms_of_half()
        kept += self._inputs(_GATES, shape.hidden)
        kept += 3 * self.product * shape.intermediate
        kept += self._inputs(("down_proj",), shape.intermediate)
        return kept + self._ranks((*_GATES, "down_proj"))

    def _ranks(self, group: Sequence[str]) -> float:
        """What adapters keep between their two factors."""
        if self.full:
            return 0.0
        return float(self.product * self.rank * len(self.names & set(group)))

    def mlp_slopes(self) -> float:
        """What the feed-forward net's backward pass holds beyond what is kept."""
        shape = self.shape
        wide, narrow = self.product * shape.intermediate, self.stream * shape.hidden
        if not self.full and self.mixed and not self.nf4 and "down_proj" in self.names:
            # The gradient of the input of `down_proj`: the adapter's in bfloat16, in float32 and in
            # bfloat16 again, beside the frozen map's; and the layer's own, on its ways.
            # With dropout the one in float32 twice.
            return (5.0 if self.dropout else 3.0) * wide + 5 * narrow
        # Of the two factors; the input of `down_proj` is free by then.
        return 2.0 * wide + narrow

    def attention_slopes(self) -> float:
        """The same of attention, in flash attention's backward pass."""
        shape, size = self.shape, self.product
        slopes = float(size * (3 * shape.queries + 4 * shape.keys) + 2 * self.stream * shape.hidden)
        part = 1.0 if self.together else self.load.longest / max(1, self.load.tokens)
        inside = 4 * shape.queries + 4 * shape.heads  # the queries' gradient is summed in float32
        if shape.heads != shape.kv_heads:
            inside += 2 * size * shape.queries  # keys' and values' per query head
        return slopes + part * inside

    # ----- in all -----

    def _unfolded(self) -> float:
        """The largest weight while it is dequantised, or its gradient computed."""
        largest = max(linear.weights for linear in self.shape.linears)
        if self.nf4:
            return largest * (self.product + 4 / 64)
        if self.full:
            return largest * (6.0 if self.mixed else 4.0)  # in bfloat16, then in float32
        return 0.0

    def _casts(self) -> float:
        """Autocast's copies in bfloat16 of the trained linear weights, during the forward pass."""
        if not self.mixed:
            return 0.0
        many = self.shape.linear_weights if self.full else self.adapter / 4
        return 2.0 * many

    def _ends(self) -> float:
        """What is kept outside the layers: rotary tables, ids."""
        tables = 2.0 * self.stream * self.shape.head_size * self.shape.rotary_kinds
        return self.load.tokens * (tables + 40)

    def _loss(self) -> float:
        """While the loss is computed: the last norm, the hidden states and the learnt ones, their
        gradient, a chunk of logits in float32 beside the same in the products' dtype; with full
        fine-tuning the output layer in that dtype and its gradient.
        """
        shape, load = self.shape, self.load
        step = max(1, CHUNK_BYTES // (4 * shape.vocabulary))
        chunk = 4.0 * shape.vocabulary * min(step, load.learnt)
        states = load.tokens * self._norm(shape.hidden, 1, 4)
        states += (load.tokens + 2 * load.learnt) * self.stream * shape.hidden
        logits = chunk * (1.5 if self.mixed else 1)
        if not self.full:
            return states + logits
        # The output layer in bfloat16 and its gradient so far; then what a chunk adds.
        there, adds = (6.0, 6.0) if self.mixed else (4.0, 4.0)
        return states + logits + (there + adds) * shape.embedding

    def _stay(self) -> float:
        """The output layer's gradient, which stays."""
        return 4.0 * self.shape.embedding if self.full else 0.0

    def _embedding_slopes(self) -> float:
        """At the end: the embedding's gradient, and its sum with what there is of it."""
        if not self.full:
            return 0.0
        times = 8.0 if self.shape.tied else 4.0 * self.load.accumulates
        return times * self.shape.embedding

    def moments(self) -> list[Moment]:
        """Gradients, activations and logits at each moment that can be the peak."""
        shape, load = self.shape, self.load
        layer = load.tokens * (self.attention_kept() + self.mlp_kept())
        inputs = float(load.tokens * self.stream * shape.hidden)
        ends = self._ends()
        earlier = self.gradients if load.accumulates else 0.0
        if self.checkpointing:
            held = inputs * (min(_IN_FLIGHT, shape.layers) if self.offload else shape.layers)
            # In float32 a layer's input is kept by its first norm already.
            again = layer - (inputs if self.stream == 4 else 0.0)
            casts = self._casts() / shape.layers
        else:
            held, again, casts = layer * shape.layers, 0.0, self._casts()
        mlp = load.tokens * self.mlp_slopes() + self._unfolded()
        half = load.tokens * (self.attention_slopes() - self.mlp_kept()) + self._unfolded()
        first = again or layer
        return [
            (earlier, held + ends + self._casts(), self._loss()),
            (earlier, held + ends + casts + again + max(mlp, half), self._stay()),
            # In the first layer's backward pass all gradients are there.
            (self.gradients, inputs + first + casts + max(mlp, half), 0.0),
            (self.gradients, 0.0, self._embedding_slopes()),
        ]
