"""The recipe's section `finetune`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tracestill.records.section import Section

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


# Keys that change how fast and in how much memory the student learns, not what: a training goes on
# when they change, and one that is complete is not made again.
NEUTRAL = frozenset(
    {"micro_batch", "gradient_checkpointing", "activation_offload", "checkpoint_every", "monitor",
     "report_to", "liger"}
)  # fmt: skip


class Lora(Section):
    """The adapter. The defaults follow "LoRA Without Regret" (Schulman and others, 2025)."""

    rank: int = Field(default=32, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """peft's `target_modules`."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski, 2023)."""
    dora: bool = False
    """Weight-decomposed adapters (Liu and others, 2024). vLLM can't load them; merged they are
    like any other model."""


class Launch(Section):
    """The processes that train together, one a GPU."""

    gpus: int = Field(default=1, ge=1)
    """How many; without a GPU, processes on the CPU."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: each holds the whole model; `fsdp`: they share its weights and optimiser states."""

    @property
    def sharded(self) -> bool:
        return self.gpus > 1 and self.strategy == "fsdp"


class Monitor(Section):
    """Short generations while the student trains, of problems that `holdout` keeps out of it."""

    every: int = Field(default=100, ge=1)
    """Optimiser steps between looks; the last step is one of them."""
    problems: int = Field(default=20, ge=1)
    """How many held-out problems are tried."""
    max_tokens: int = Field(default=1024, ge=1)
    """Of each answer."""


class OnPolicy(Section):
    """After the traces: the student samples, and learns the teacher's distribution on what it
    sampled itself (Agarwal and others, 2024). Both must have the same vocabulary.
    """

    teacher: str
    """A hub id, or a folder as for `student`; `trust_remote_code` holds for it too. It is loaded
    beside the student."""
    revision: str | None = None
    steps: int = Field(default=100, ge=1)
    """Optimiser steps."""
    prompts: int = Field(default=8, ge=1)
    """Problems an optimiser step, each sampled once."""
    max_tokens: int = Field(default=2048, ge=1)
    """Of each sample. What was sampled of one that does not end is learnt from all the same."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of both distributions when they are compared."""
    learning_rate: float | Auto = "auto"
    """`auto`: 1e-4 for an adapter, a tenth of it for all weights."""
    beta: float = Field(default=1.0, ge=0, le=1)
    """Which divergence: 0 forward KL, 1 reverse KL, between them the generalised Jensen-Shannon
    divergence."""

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
    """The student and how it learns."""

    student: str
    """A hub id, or a folder: a path that begins with `.`, `/` or `~`, relative to the recipe."""
    revision: str | None = None
    trust_remote_code: bool = False
    """Run Python that comes with the student, as some tokenizers need. Read it first."""
    template: str
    """The chat template (a .jinja file, relative to the recipe) that the student learns. The
    contract beside it (the same name, .yaml) says where its reasoning begins and what ends it."""
    think: Literal["prefilled", "generated"] | None = None
    """Whether the template's generation prompt already opens `<think>`; by default as in the
    template's contract."""
    stop: str | None = None
    """The token that ends a turn; it is trained, and becomes generation_config's eos. By default
    as in the template's contract."""
    system_prompt: str | None = None
    """What the student is told before each problem, in training and wherever it is run later."""

    max_length: int = Field(default=16384, ge=2)
    """The longest sample, and the length of a packed row, in tokens."""
    overlong: Literal["drop", "error", "split"] = "drop"
    """What becomes of longer samples: left out and counted; an error; or split into pieces, each
    of which begins with the prompt and goes on where the last one ended. None is ever cut."""
    unlearnable: Literal["error", "drop"] = "error"
    """What becomes of traces whose text the student can't learn as it is: its tokenizer can't write
    it, or reads a token that ends a turn in it. An error that counts them; or left out and counted.
    """
    packing: bool = True
    """Put several samples into a row, without attention from one to another."""
    holdout: float = Field(default=0.02, ge=0, lt=0.5)
    """The part of the problems whose traces are not trained on but measured: the loss of each of
    their tokens, the same whatever the packing."""

    method: Literal["lora", "full"] = "lora"
    """An adapter, or all weights."""
    quantize: Literal["none", "nf4", "auto"] = "none"
    """Hold the frozen weights in 4 bits (QLoRA, Dettmers and others, 2023); `auto`: where they do
    not fit otherwise."""
    lora: Lora = Lora()
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The frozen weights' dtype; `auto` is bfloat16 on a GPU and float32 without. What is trained
    stays float32."""
    attention: Literal["auto", "packed", "flash", "sdpa", "eager"] = "auto"
    """`packed`: torch's own kernels, one sample at a time; `flash`: flash attention, if it is
    installed; `auto`: flash where it is there, else packed where the model allows it, else sdpa."""
    liger: bool | Auto = "auto"
    """Liger's kernels, if liger-kernel is installed and there is a GPU."""

    learning_rate: float | Auto = "auto"
    """`auto`: 2e-4 for an adapter, a tenth of it for all weights."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The part of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    epochs: float = Field(default=3.0, gt=0)
    batch_size: int = Field(default=8, ge=1)
    """Rows an optimiser step, all devices together."""
    micro_batch: Count | Auto = "auto"
    """Rows on a device at once. It changes memory and speed, not what is learnt; `auto`: as many
    as fit."""
    gradient_checkpointing: bool | Auto = "auto"
    """Compute activations again instead of keeping them; `auto`: where they do not fit."""
    activation_offload: bool = False
    """Keep activations in the host's memory until they are needed."""

    launch: Launch = Launch()
    checkpoint_every: int = Field(default=100, ge=1)
    """Optimiser steps between checkpoints."""
    monitor: Monitor | None = None
    """Look during the training whether the student's thinking closes, whether its answers end and
    are right."""
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = []
    """Where else the metrics go. TensorBoard's events are in the run's `finetune/tensorboard`. W&B
    and Trackio may send them away, which `egress.allow` must permit."""
    on_policy: OnPolicy | None = None

    def warnings(self) -> list[str]:
        """What to know before a training with these settings, a line each."""
        if self.method == "lora" and self.lora.dora:
            return [
                "finetune.lora.dora: vLLM can't load such an adapter; serve merged/ instead, a "
                "model like any other"
            ]
        return []

    @model_validator(mode="after")
    def _fits(self) -> FinetuneSection:
        if self.method == "full" and self.quantize == "nf4":
            raise ValueError(
                "quantize: weights in 4 bits can't be trained; set method: lora, or quantize: none"
            )
        if self.monitor is not None and self.holdout == 0:
            raise ValueError("monitor: it tries held-out problems; set holdout above 0")
        if self.quantize == "nf4" and self.launch.sharded:
            raise ValueError(
                "quantize: weights in 4 bits can't be shared among processes; set launch.strategy: "
                "ddp, or quantize: none"
            )
        if self.on_policy is not None and self.launch.gpus > 1:
            raise ValueError("on_policy: it runs in one process; set launch.gpus: 1")
        return self
