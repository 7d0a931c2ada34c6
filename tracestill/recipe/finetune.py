"""The recipe's section `finetune`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tracestill.recipe.contract_keys import OWN, ContractKeys, Think
from tracestill.recipe.curriculum import Schedule, TrainingStage
from tracestill.recipe.on_policy import OnPolicy
from tracestill.recipe.replay import Replay
from tracestill.recipe.section import Section
from tracestill.recipe.selection import Select

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


Loss = Literal["nll", "dft"]
OverlongPolicy = Literal["drop", "error", "prefix"]
UnlearnablePolicy = Literal["auto", "error", "drop"]

# Keys that change a training's speed, memory and reports, but the weights no more than rounding
# does (and with dropout other random numbers): a complete training is not made again for them.
# `attention` and `liger` choose kernels for the same function; `launch` spreads the same steps. But
# `dtype` and `quantize` round the frozen weights, `unlearnable` and `overlong` decide which traces
# are trained on, and `trust_remote_code` which code runs.
NEUTRAL = frozenset(
    {"micro_batch", "gradient_checkpointing", "activation_offload", "attention", "liger", "launch",
     "checkpoint_every", "monitor", "report_to"}
)  # fmt: skip


# The batches, in rows, for which sweeps of learning rates were published: about 128.
SWEPT_BATCHES = range(96, 193)


class Lora(Section):
    """The adapter. The defaults follow "LoRA Without Regret" (Schulman et al., 2025)."""

    rank: Count | Auto = 32
    """`auto`: the least of 32, 64 and 128 at which the adapter has as many weights as there are
    tokens to learn, else 128."""
    alpha: int = Field(default=32, ge=1)
    """The adapter's product is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of an adapter's inputs that is left out at random."""
    targets: str | list[str] = "all-linear"
    """peft's `target_modules`."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski, 2023)."""
    dora: bool = False
    """Weight-decomposed adapters (Liu et al., 2024). vLLM can't load them; `merged/` is a model
    like any other."""


class Launch(Section):
    """The processes that train together, one a GPU."""

    gpus: int = Field(default=1, ge=1)
    """How many; without a GPU, processes on the CPU."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: each process holds the whole model; `fsdp`: weights and optimiser states are
    sharded."""

    @property
    def sharded(self) -> bool:
        """Whether no process holds the whole model."""
        return self.gpus > 1 and self.strategy == "fsdp"


class Monitor(Section):
    """Short generations during the training, on problems that are held out of it."""

    every: int = Field(default=100, ge=1)
    """Optimiser steps between two of them; there is one after the last step too."""
    problems: int = Field(default=20, ge=1)
    """How many held-out problems are answered."""
    max_tokens: int = Field(default=1024, ge=1)
    """Of each answer."""


class FinetuneSection(Section):
    """The student and how it is trained."""

    student: str
    """A hub id, or a folder or GGUF file: a path that begins with `.`, `/` or `~`, relative to the
    recipe."""
    revision: str | None = None
    """A commit, tag or branch of the student's repository on the hub; what is newest if null."""
    trust_remote_code: bool = False
    """Run Python that comes with the student, as some tokenizers need. Read it first."""
    template: str = OWN
    """The chat template that the student learns: `own` (the one that it comes with), the name of a
    shipped one, or a .jinja file, relative to the recipe. Its contract, where its reasoning begins
    and what ends it, lies beside the file (the same name, .yaml), or is found by trying it."""
    think: Think | None = None
    """Whether the template's generation prompt already opens `<think>` (`prefilled`) or the student
    does (`generated`); by default as in the contract. With `none` the student learns answers
    alone, and traces need no reasoning."""
    mixed: bool = False
    """Train a student that thinks only when asked: traces without reasoning are learnt too, with
    the template's switch (`enable_thinking`) off."""
    stop: str | None = None
    """The token that ends a turn; it is trained, and becomes generation_config's eos. By default
    as in the template's contract."""
    contract: ContractKeys = ContractKeys()
    """What else the template's contract says, where it is not right or not found."""
    system_prompt: str | None = None
    """The system prompt, in training and wherever the student is run later."""

    max_length: int = Field(default=16384, ge=2)
    """The longest sample, and the length of a packed row, in tokens."""
    overlong: OverlongPolicy = "drop"
    """What becomes of longer samples: `drop` leaves them out and counts them; `error` stops;
    `prefix` trains on their first `max_length` tokens, without a stop token."""
    unlearnable: UnlearnablePolicy = "auto"
    """What becomes of traces with text that the student can't learn as it is, since its tokenizer
    can't write it, or reads a token in it that ends a turn: `error` stops and counts them; `drop`
    leaves them out and counts them; `auto` leaves out up to one in a hundred, and else stops."""
    packing: bool = True
    """Put several samples into a row, without attention between them."""
    holdout: float = Field(default=0.02, ge=0, lt=0.5)
    """The share of the problems whose traces are held out: their loss is measured."""

    method: Literal["lora", "full"] = "lora"
    """`lora` trains an adapter, `full` all weights."""
    quantize: Literal["none", "nf4", "auto"] = "none"
    """Hold the frozen weights in 4 bits (QLoRA, Dettmers et al., 2023); `auto`: if they do not fit
    otherwise."""
    lora: Lora = Lora()
    """The adapter of `method: lora`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The dtype of frozen weights and of products. `auto` is bfloat16 on a GPU, and on a CPU that
    multiplies it in hardware for the adapter of a student whose hidden size is 512 or more; else it
    is float32. Trained weights are float32 always."""
    attention: Literal["auto", "packed", "flash", "sdpa", "eager"] = "auto"
    """`packed`: torch's own kernels, one sample at a time; `flash`: the package flash-attn; `auto`:
    flash if it is installed, else packed if the model allows it, else sdpa."""
    liger: bool | Auto = "auto"
    """Liger's kernels, if liger-kernel is installed and there is a GPU."""

    learning_rate: float | Auto = "auto"
    """`auto`: 2e-5 for all weights; for an adapter the best of a published sweep where one covers
    the student and the batch (about 128 rows), else 2e-4."""
    schedule: Schedule | Auto = "auto"
    """How the learning rate goes on after its warm-up. `auto`: it falls as a cosine; with `epochs:
    auto` it is constant, and falls linearly over the last epoch."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The share of the steps over which the learning rate rises; with `epochs: auto`, of those of
    the first epoch."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's, of the trained weights."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm are scaled down to it."""
    loss: Loss = "nll"
    """`nll`: the negative log-likelihood of each token; `dft`: that times the token's probability,
    so that what the student finds improbable counts less (Wu et al., 2025, arXiv 2508.05629)."""
    epochs: Annotated[float, Field(gt=0)] | Auto = 3.0
    """How often each trace is learnt from. `auto`: until the training token accuracy rises no
    more and the held-out loss falls no more, for two epochs, and one more epoch in which the rate
    falls to zero."""
    most_epochs: int = Field(default=16, ge=2)
    """The most epochs that `epochs: auto` makes."""
    keep: Literal["last", "best", "average"] = "last"
    """Which weights are exported: those of the last step, of the best checkpoint (by the monitor's
    pass rate, or without a monitor by the held-out loss), or the mean of the last checkpoints."""
    average_of: int = Field(default=3, ge=2)
    """How many checkpoints `keep: average` averages."""
    stages: list[TrainingStage] = []
    """Train in stages, one after the other, each on a selection of the kept traces. Where a stage
    says nothing it is as said here. The optimiser is carried over; the learning rate rises and
    falls in each."""
    replay: Replay | None = None
    """Learn general data beside the traces, in every stage."""
    batch_size: int = Field(default=8, ge=1)
    """Packed rows per optimiser step, all devices together."""
    micro_batch: Count | Auto = "auto"
    """Rows on a device at once; it changes memory and speed, not the gradient. `auto`: as many as
    are fastest and fit."""
    gradient_checkpointing: bool | Auto = "auto"
    """Recompute activations instead of keeping them; `auto`: if they do not fit."""
    activation_offload: bool = False
    """Keep activations in the host's memory until they are needed."""

    launch: Launch = Launch()
    checkpoint_every: int = Field(default=100, ge=1)
    """Optimiser steps between checkpoints."""
    monitor: Monitor | None = None
    """Measure during the training whether the student closes its thinking, ends its answers, and is
    right."""
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = []
    """Trackers that get the metrics too. TensorBoard's events are in the run's
    `finetune/tensorboard`. W&B and Trackio may send them away, which `egress.allow` must permit."""
    on_policy: OnPolicy | None = None

    def warnings(self) -> list[str]:
        """What to know before training with these settings, a line each."""
        if self.method == "lora" and self.lora.dora:
            return [
                "finetune.lora.dora: vLLM can't load such an adapter; serve merged/ instead, a "
                "model like any other"
            ]
        return []

    @field_validator("overlong", mode="before")
    @classmethod
    def _not_split(cls, value: Any) -> Any:
        if value == "split":
            raise ValueError(
                "split is no more, as most of its pieces began in the middle of the reasoning; "
                "write prefix, which trains on the first max_length tokens, or drop"
            )
        return value

    @property
    def selections(self) -> list[Select]:
        """Those of the stages that select, in order."""
        return [stage.select for stage in self.stages if stage.select is not None]

    @property
    def longest(self) -> float:
        """The most epochs that the training makes."""
        return float(self.most_epochs) if self.epochs == "auto" else self.epochs

    @property
    def known_schedule(self) -> Schedule:
        """The schedule of a training whose steps are known beforehand."""
        return "cosine" if self.schedule == "auto" else self.schedule

    @property
    def unused(self) -> set[str]:
        """The keys that change nothing here, since others leave no use for them."""
        used = {"most_epochs": self.epochs == "auto", "average_of": self.keep == "average"}
        return {name for name, counts in used.items() if not counts}

    @property
    def is_swept(self) -> bool:
        """Whether the rate or the rank is looked up in the tables of published sweeps."""
        if self.method == "full":
            return False
        by_batch = self.learning_rate == "auto" and self.batch_size in SWEPT_BATCHES
        return by_batch or self.lora.rank == "auto"

    @property
    def neutral(self) -> frozenset[str]:
        """The keys of `NEUTRAL`, without those that decide here which weights are kept."""
        deciding = {
            "last": set[str](), "best": {"checkpoint_every", "monitor"},
            "average": {"checkpoint_every"},
        }  # fmt: skip
        return NEUTRAL - deciding[self.keep]

    @property
    def needs_reasoning(self) -> bool:
        """Whether a trace must have reasoning to be learnt."""
        return self.think != "none" and not self.mixed

    @model_validator(mode="after")
    def _fits(self) -> FinetuneSection:
        if self.mixed and self.think == "none":
            raise ValueError("mixed: with think: none the student never thinks; leave one out")
        if self.method == "full" and self.quantize == "nf4":
            raise ValueError(
                "quantize: weights in 4 bits can't be trained; set method: lora, or quantize: none"
            )
        if self.monitor is not None and self.holdout == 0:
            raise ValueError("monitor: it asks held-out problems; set holdout above 0")
        if self.keep == "best" and self.holdout == 0:
            raise ValueError("keep: best goes by held-out traces; set holdout above 0")
        if self.epochs == "auto" and self.schedule != "auto":
            raise ValueError(
                f"schedule: {self.schedule} needs to know the end beforehand, which epochs: auto "
                "does not; leave schedule out, or give epochs as a number"
            )
        if self.stages and self.epochs == "auto":
            raise ValueError(
                "stages: each needs its epochs as a number, and epochs: auto says none; give "
                "finetune.epochs or each stage's"
            )
        if self.quantize == "nf4" and self.launch.sharded:
            raise ValueError(
                "quantize: weights in 4 bits can't be sharded; set launch.strategy: ddp, or "
                "quantize: none"
            )
        if self.on_policy is not None and self.launch.gpus > 1:
            raise ValueError("on_policy: it runs in one process; set launch.gpus: 1")
        return self
