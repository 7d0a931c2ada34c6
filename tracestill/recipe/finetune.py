"""The recipe's section `finetune`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tracestill.recipe.contract_keys import OWN, ContractKeys, Think
from tracestill.recipe.curriculum import Schedule, TrainingStage
from tracestill.recipe.section import Section
from tracestill.recipe.selection import Select

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


Loss = Literal["nll", "dft"]
OverlongPolicy = Literal["drop", "error", "prefix"]

# Keys that change a training's speed, memory and reports, but the weights no more than rounding
# does (and with dropout other random numbers): a complete training is not made again for them.
# `attention` and `liger` choose kernels for the same function; `launch` spreads the same steps. But
# `dtype` and `quantize` round the frozen weights, `unlearnable` and `overlong` decide which traces
# are trained on, and `trust_remote_code` which code runs.
NEUTRAL = frozenset(
    {"micro_batch", "gradient_checkpointing", "activation_offload", "attention", "liger", "launch",
     "checkpoint_every", "monitor", "report_to"}
)  # fmt: skip


class Lora(Section):
    """The adapter. The defaults follow "LoRA Without Regret" (Schulman et al., 2025)."""

    rank: int = Field(default=32, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
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


class OnPolicy(Section):
    """On-policy distillation after the training on traces: the student samples, and learns the
    teacher's distribution on its own samples (Agarwal et al., 2024). Both must have the same
    vocabulary.
    """

    teacher: str
    """A hub id or a folder, as for `student`; `trust_remote_code` holds for it too. It is loaded
    beside the student."""
    revision: str | None = None
    steps: int = Field(default=100, ge=1)
    """Optimiser steps."""
    prompts: int = Field(default=8, ge=1)
    """Prompts per optimiser step, each sampled once."""
    max_tokens: int = Field(default=2048, ge=1)
    """Of each sample. Samples that reach it are learnt from all the same."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of both distributions when they are compared."""
    learning_rate: float | Auto = "auto"
    """`auto`: 1e-4 for an adapter, 1e-5 for all weights."""
    beta: float = Field(default=1.0, ge=0, le=1)
    """The divergence: 0 is forward KL, 1 reverse KL, between them generalised Jensen-Shannon."""

    @field_validator("teacher")
    @classmethod
    def _has_weights(cls, teacher: str) -> str:
        if "://" in teacher:
            raise ValueError(
                "a served teacher does not give its distribution over the whole vocabulary; name a "
                "hub id or a folder with its weights, or leave on_policy out: its traces teach "
                "without it"
            )
        return teacher


class FinetuneSection(Section):
    """The student and how it is trained."""

    student: str
    """A hub id, or a folder or GGUF file: a path that begins with `.`, `/` or `~`, relative to the
    recipe."""
    revision: str | None = None
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
    unlearnable: Literal["error", "drop"] = "error"
    """What becomes of traces with text that the student can't learn as it is, since its tokenizer
    can't write it, or reads a token in it that ends a turn: `error` stops and counts them; `drop`
    leaves them out and counts them."""
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
    """`auto`: 2e-4 for an adapter, 2e-5 for all weights."""
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The share of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    loss: Loss = "nll"
    """`nll`: the negative log-likelihood of each token; `dft`: that times the token's probability,
    so that what the student finds improbable counts less (Wu et al., 2025, arXiv 2508.05629)."""
    epochs: float = Field(default=3.0, gt=0)
    stages: list[TrainingStage] = []
    """Train in stages, one after the other, each on a selection of the kept traces. Where a stage
    says nothing it is as said here. The optimiser is carried over; the learning rate rises and
    falls in each."""
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
        if self.quantize == "nf4" and self.launch.sharded:
            raise ValueError(
                "quantize: weights in 4 bits can't be sharded; set launch.strategy: ddp, or "
                "quantize: none"
            )
        if self.on_policy is not None and self.launch.gpus > 1:
            raise ValueError("on_policy: it runs in one process; set launch.gpus: 1")
        return self
