"""What a training step takes, in bytes, from the student's shape.

Each term follows what autograd keeps in the modelling code of transformers and in peft's layers;
`finetune.planner.trace` runs that code and finds the same (docs/memory.md has both). A token's
numbers are written as multiples of widths: H hidden, I intermediate, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from finetune.config import FinetuneSection
from finetune.planner.shape import Linear, Shape

# As in finetune.loss: float32 logits of so many bytes at once.
_CHUNK = 256 * 2**20
# Assumed, not measured: what CUDA takes for its context and the libraries' kernels and workspaces,
# and the part by which the allocator's blocks exceed what is asked of it. A probe replaces both.
CONTEXT = int(0.7e9)
SLACK = 0.03
# Weights of 4 bits: half a byte, a byte of scale a block of 64, a float a block of 256 of those.
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# Layers whose inputs are still on the device while trl's offloading copies them.
_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is on a device at once: `tokens` of a micro-batch, of which `learnt` are learnt and
    whose longest sample has `longest`; and whether gradients of an earlier micro-batch lie there.
    """

    tokens: int
    learnt: int
    longest: int
    accumulates: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one device at the moment when they are most."""

    weights: int
    adapter: int
    optimiser: int
    gradients: int
    activations: int
    logits: int
    overhead: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def allocated(self) -> int:
        """What the allocator is asked for: without CUDA's context and the allocator's slack."""
        return self.total - self.overhead


def memory(
    shape: Shape, settings: FinetuneSection, load: Load, *, bfloat16: bool, cuda: bool = True
) -> Memory:
    """The most that a device holds in an optimiser step.

    `settings` is without `auto` where memory depends on it. `bfloat16`: whether products are
    computed in bfloat16.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    parts = _Parts(shape, settings, load, bfloat16)
    moments = [moment for moment in parts.moments() if moment is not None]
    gradients, activations, logits = max(moments, key=sum)
    allocated = parts.weights + parts.adapter + parts.optimiser
    allocated += gradients + activations + logits
    return Memory(
        weights=round(parts.weights),
        adapter=round(parts.adapter),
        optimiser=round(parts.optimiser),
        gradients=round(gradients),
        activations=round(activations),
        logits=round(logits),
        overhead=round(CONTEXT + SLACK * allocated) if cuda else 0,
    )


def trainable(shape: Shape, settings: FinetuneSection) -> int:
    """How many weights are trained."""
    if settings.method == "full":
        return shape.parameters
    chosen = shape.adapted(settings.lora.targets)
    each = sum(settings.lora.rank * (linear.inputs + linear.outputs) for linear in chosen)
    if settings.lora.dora:
        each += sum(linear.outputs for linear in chosen)
    return shape.layers * each


class _Parts:
    """The terms, and the moments at which they add up."""

    def __init__(self, shape: Shape, settings: FinetuneSection, load: Load, bfloat16: bool) -> None:
        self.shape, self.load = shape, load
        self.full = settings.method == "full"
        self.nf4 = settings.quantize == "nf4"
        self.checkpointing = settings.gradient_checkpointing is True
        self.offload = settings.activation_offload
        self.rank, self.dropout = settings.lora.rank, settings.lora.dropout > 0
        self.mixed = bfloat16
        # Bytes of a number in products, and of one in the stream between layers, which has the
        # dtype of the embedding: float32 where all is trained.
        self.product = 2 if bfloat16 else 4
        self.stream = 4 if self.full else self.product
        self.adapted: tuple[Linear, ...] = (
            shape.linears if self.full else shape.adapted(settings.lora.targets)
        )
        self.names = {linear.name for linear in self.adapted}

        many = trainable(shape, settings)
        shared = settings.launch.gpus if settings.launch.strategy == "fsdp" else 1
        replicated = settings.launch.gpus > 1 and settings.launch.strategy == "ddp"
        if self.full:
            self.weights, self.adapter = 4.0 * shape.parameters, 0.0
        else:
            self.weights, self.adapter = self._frozen(), 4.0 * many
        # AdamW: a first and a second moment in float32.
        self.optimiser = 8.0 * many / shared
        # DDP holds each gradient a second time, in the buckets that it sends.
        self.gradients = 4.0 * many / shared * (2 if replicated else 1)
        if shared > 1:
            # The layer that computes and the one fetched ahead are whole, as are the tables.
            whole = 2 * self.weights / shape.layers if shape.layers else 0.0
            self.weights = self.weights / shared + whole
            self.adapter /= shared

    def _frozen(self) -> float:
        shape = self.shape
        tables = (1 if shape.tied else 2) * shape.embedding
        linear = _NF4 if self.nf4 else self.product
        return shape.layers * shape.layer_linear * linear + (tables + shape.small) * self.product

    # ----- of a token, in bytes -----

    def _inputs(self, group: Sequence[str], width: int) -> float:
        """The copies of an input of `width` that the trained maps of `group` keep."""
        count = len(self.names & set(group))
        if not count:
            return 0.0
        kept = float(self.product * width)
        if self.full:
            # Autocast makes a copy for each map; an input of products is one already.
            return kept * (count if self.mixed and self.stream == 4 and len(group) > 1 else 1)
        if self.dropout:
            # A mask of bytes and what is left, for each.
            return count * (kept + width)
        # peft turns the input into the adapter's float32, autocast back, for each map; its layer
        # for 4 bits leaves the input as it is, and the maps share it.
        return kept * (count if self.mixed and not self.nf4 else 1)

    def _norm(self, width: int, groups: int, dtype: int) -> float:
        """A norm over `groups` of `width` numbers: its input in float32, the root's inverse, and
        where its weight is trained, what that is multiplied with.
        """
        trained = dtype * width * groups if self.full else 0
        return 4.0 * width * groups + 4.0 * groups + trained

    def attention_kept(self) -> float:
        """Of the first half of a layer."""
        shape, size = self.shape, self.product
        kept = self._norm(shape.hidden, 1, 4)
        kept += self._inputs(("q_proj", "k_proj", "v_proj"), shape.hidden)
        if shape.head_norms:
            for groups in (shape.heads, shape.kv_heads):
                kept += self._norm(shape.head_size, groups, size)
        # Flash attention: queries, keys, values, what comes out, and its normalisers.
        kept += size * (2 * shape.queries + 2 * shape.keys) + 4 * shape.heads
        if not (self.full or (self.nf4 and not self.dropout) or not self.mixed):
            kept += self._inputs(("o_proj",), shape.queries)
        elif "o_proj" in self.names:
            kept += size * shape.queries  # the samples' outputs, put together
        return kept + self._ranks(("q_proj", "k_proj", "v_proj", "o_proj"))

    def mlp_kept(self) -> float:
        """Of the second half: what enters the activation, what leaves it, and its factor."""
        shape = self.shape
        kept = self._norm(shape.hidden, 1, 4)
        kept += self._inputs(("gate_proj", "up_proj"), shape.hidden)
        kept += 3 * self.product * shape.intermediate
        kept += self._inputs(("down_proj",), shape.intermediate)
        return kept + self._ranks(("gate_proj", "up_proj", "down_proj"))

    def _ranks(self, group: Sequence[str]) -> float:
        """Between an adapter's two halves."""
        if self.full:
            return 0.0
        return float(self.product * self.rank * len(self.names & set(group)))

    def mlp_slopes(self) -> float:
        """What the second half's way back holds beyond what is kept, less what is free by then."""
        shape = self.shape
        wide, narrow = self.product * shape.intermediate, self.stream * shape.hidden
        if not self.full and self.mixed and not self.nf4 and "down_proj" in self.names:
            # The gradient of what enters `down_proj`: the adapter's in bfloat16, in float32 and in
            # bfloat16 again, beside the frozen map's; and the layer's own, on its ways.
            # Dropout makes the one in float32 again.
            return (5.0 if self.dropout else 3.0) * wide + 5 * narrow
        # Of the activation's product and of its two factors, the input of `down_proj` being free.
        return 2.0 * wide + narrow

    def attention_slopes(self) -> float:
        """The same of the first half, while flash attention goes back."""
        shape, size = self.shape, self.product
        slopes = float(size * (3 * shape.queries + 4 * shape.keys) + 2 * self.stream * shape.hidden)
        part = self.load.longest / max(1, self.load.tokens)
        inside = 4 * shape.queries + 4 * shape.heads  # the queries' gradient is added in float32
        if shape.heads != shape.kv_heads:
            inside += 2 * size * shape.queries  # keys' and values' once a query head
        return slopes + part * inside

    # ----- of all -----

    def _unfolded(self) -> float:
        """The largest weight, as it is unfolded or its gradient made."""
        largest = max(linear.weights for linear in self.shape.linears)
        if self.nf4:
            return largest * (self.product + 4 / 64)
        if self.full:
            return largest * (6.0 if self.mixed else 4.0)  # in bfloat16, then in float32
        return 0.0

    def _casts(self) -> float:
        """The trained weights of linear maps in bfloat16, which autocast keeps while the forward
        pass lasts.
        """
        if not self.mixed:
            return 0.0
        many = self.shape.layers * self.shape.layer_linear if self.full else self.adapter / 4
        return 2.0 * many

    def _ends(self) -> float:
        """What is kept outside the layers: the tables of rotation, ids."""
        return self.load.tokens * (2.0 * self.stream * self.shape.head_size + 40)

    def _loss(self) -> float:
        """While the loss is computed: the last norm, the states and those that are learnt, their
        gradient, a chunk of logits in float32 and its exponentials; and where the output layer is
        trained, its weights for products and its gradient, which grows chunk by chunk.
        """
        shape, load = self.shape, self.load
        step = max(1, _CHUNK // (4 * shape.vocabulary))
        chunk = 4.0 * shape.vocabulary * min(step, load.learnt)
        states = load.tokens * self._norm(shape.hidden, 1, 4)
        states += (load.tokens + 2 * load.learnt) * self.stream * shape.hidden
        exponentials = 2.0 * chunk
        if not self.full:
            return states + exponentials
        # The output layer in bfloat16 and its gradient so far; then what a chunk adds to it.
        there, adds = (6.0, 6.0) if self.mixed else (4.0, 4.0)
        product = chunk * (1.5 if self.mixed else 1) + adds * shape.embedding
        return states + there * shape.embedding + max(exponentials, product)

    def _stay(self) -> float:
        """The head's gradient, from the loss on."""
        return 4.0 * self.shape.embedding if self.full else 0.0

    def _embedding_slopes(self) -> float:
        """At the very end: the embedding's gradient, and its sum with what is there of it."""
        if not self.full:
            return 0.0
        times = 8.0 if self.shape.tied else 4.0 * self.load.accumulates
        return times * self.shape.embedding

    def moments(self) -> list[tuple[float, float, float]]:
        """Gradients, activations and logits at each moment that can be the one with the most."""
        shape, load = self.shape, self.load
        layer = load.tokens * (self.attention_kept() + self.mlp_kept())
        inputs = float(load.tokens * self.stream * shape.hidden)
        ends = self._ends()
        earlier = self.gradients if load.accumulates else 0.0
        if self.checkpointing:
            held = inputs * (min(_IN_FLIGHT, shape.layers) if self.offload else shape.layers)
            # In float32 a layer's input is what its first norm keeps.
            again = layer - (inputs if self.stream == 4 else 0.0)
            casts = self._casts() / shape.layers
        else:
            held, again, casts = layer * shape.layers, 0.0, self._casts()
        mlp = load.tokens * self.mlp_slopes() + self._unfolded()
        half = load.tokens * (self.attention_slopes() - self.mlp_kept()) + self._unfolded()
        first = again or layer  # what the layer that goes back first keeps
        return [
            (earlier, held + ends + self._casts(), self._loss()),
            (earlier, held + ends + casts + again + max(mlp, half), self._stay()),
            # At the other end only the first layer is left, and all gradients are there.
            (self.gradients, inputs + first + casts + max(mlp, half), 0.0),
            (self.gradients, 0.0, self._embedding_slopes()),
        ]
