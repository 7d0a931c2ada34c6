"""What each stage has to say of its result, beside its tables: the `details` of its manifest."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracestill.records.rates import Difference, PassAt1, Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFigures:
    """How many problems there are to distil from, and how many held out to evaluate on."""

    train: int
    heldout: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingFigures:
    """What sampling gave: `tokens` of completions, traces cut at max_tokens (`length`), requests
    that failed (`error`), their `cost`, and how many `problems` lack samples (`unfinished`).

    The last three are known only where sampling verifies: `correct` traces, problems `solved` by
    at least one, and the mean of the problems' unbiased pass rates.
    """

    tokens: int
    length: int
    error: int
    cost: float
    problems: int
    unfinished: int = 0
    uncounted: int = 0
    """Imported traces whose source says nothing of their tokens."""
    masked: dict[str, int] = field(default_factory=dict)
    """How often something of each kind was masked in what was sent."""
    correct: int | None = None
    solved: int | None = None
    pass_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterFigures:
    """What the filter's time went into: the `seconds` of each step, of all processes together, and
    those of the verdicts that were not there before (`judging`).
    """

    seconds: dict[str, float]
    judging: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthFigures:
    """Traces and tokens of one source, or of all, and those longer than `max_length`: shares in
    [0, 1], mean lengths in tokens (`mean_kept` of the others; None without any).
    """

    traces: int
    long_traces: int
    long_tokens: int
    share_of_traces: float
    share_of_tokens: float
    mean_kept: float | None
    mean_long: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlongFigures(LengthFigures):
    """Samples longer than `max_length` tokens, in all and by source, and what the `policy` did with
    them; `longest` is the longest sample's length.
    """

    policy: str
    max_length: int
    longest: int
    by_source: dict[str, LengthFigures]
    cut_tokens: int = 0
    """With policy `prefix`: tokens after the cuts, which are not trained on."""
    no_room: int = 0
    """With policy `prefix`: traces left out, since their prompt alone fills `max_length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFigures:
    """What the planner predicted of a training: memory in bytes by kind, hours, `mfu` in [0, 1];
    `why` has a line for each setting that was `auto`.
    """

    device: str
    fits: bool
    memory_bytes: dict[str, int]
    limit_bytes: int
    tokens_per_second: float | None
    hours: float | None
    mfu: float | None
    micro_batch: int | str
    gradient_checkpointing: bool | str
    quantize: str
    why: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A prediction and what was measured; `difference` is relative to the latter."""

    predicted: float
    actual: float
    difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """Greedy answers of the exported student: how many, how many ended by themselves, the `tokens`
    of the longest, and how many were stopped since the time for them was over.
    """

    generations: int
    ended: int
    tokens: int
    out_of_time: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFigures:
    """The exported student, and how near it is to the trained one.

    `logit_difference` is relative to the logits' spread, losses are nats per token;
    `..._original` are those of the adapter on the student's own weights, where it was trained on
    4-bit ones. `findings` are lines for the user to read.
    """

    dtype: str
    prompt_example: str
    parameters: int
    logit_difference: float
    loss_trained: float
    loss_merged: float
    answers: AnswerFigures
    findings: list[str]
    max_lora_rank: int | None = None
    adapter_kept: float | None = None
    """The share of the adapter's effect that the merged weights have."""
    logit_difference_original: float | None = None
    loss_original: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPolicyFigures:
    """On-policy distillation. Losses are divergences from the teacher in nats per sampled token, of
    the first and the last tenth of the steps; so is `ended_share`, of the last.
    """

    steps: int
    prompts: int
    sampled_tokens: int
    first_loss: float
    last_loss: float
    ended_share: float
    resumed_from_step: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFigures:
    """How the student was trained and exported."""

    samples: int
    heldout_samples: int
    tokens: int
    """Of the samples that are trained on, prompts included, per epoch."""
    trained_tokens: int
    """Of these, the ones that are not masked."""
    epochs: float
    """Those that were made."""
    rows: int
    fill: float
    """The share of the packed rows' tokens that are samples', in [0, 1]."""
    train_seconds: float
    steps: int
    loss: float | None
    trainable_parameters: int
    resumed_from_step: int
    micro_batch: int
    out_of_memory_at: list[int]
    """The optimiser steps at which memory ran out, and the micro-batch was halved."""
    unlearnable: list[str]
    """Why traces were left out, a line for each kind of fault."""
    export: ExportFigures
    hints: list[str] = field(default_factory=list)
    """What to change for a better training, a line each."""
    plan: PlanFigures | None = None
    predicted: dict[str, Predicted] = field(default_factory=dict)
    overlong: OverlongFigures | None = None
    on_policy: OnPolicyFigures | None = None
    ended: str = ""
    """With `epochs: auto`: why there were not more."""
    kept: str = ""
    """Which weights were exported, if not the last."""
    rank: int | None = None
    """The adapter's."""
    rates: list[str] = field(default_factory=list)
    """How `auto` chose the learning rate and the rank, a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures(PassAt1):
    """One model's evaluation. `truncated` answers reached max_tokens, `failed` requests brought no
    answer and are no part of any rate. What later versions added is None in earlier ones' figures.
    """

    by_task: dict[str, PassAt1]
    mean_tokens: float
    truncated: int
    failed: int = 0
    pass_at_k: dict[int, Rate] = field(default_factory=dict)
    """By k, where a problem has several answers: the chance that one of k is right."""
    cons_at_k: Rate | None = None
    """How often the answer is right that most of a problem's samples give; None with one sample a
    problem, and where answers can't be told apart by what they give (programs)."""
    closed: float | None = None
    """Of the answers that begin to reason, the share whose reasoning ends; None if none begins."""
    loops: int | None = None
    """Answers whose end is said over and over."""
    per_thousand_tokens: float | None = None
    """pass@1 relative to an answer's mean tokens, for 1,000 of them."""
    instructions: float | None = None
    """Of IFEval: the share of all instructions that the answers follow, each for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedFigures:
    """llama.cpp's answers to held-out problems with a file of the student, and by how much its
    pass@1 differs from that of `merged/` on the same problems (`merged`), with the 95% interval.
    """

    answers: ModelFigures
    merged: float
    difference: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """A GGUF file of the student, and how llama.cpp reads it.

    `logit_difference` is relative to the logits' spread, on the merged student's own greedy
    answers; `same` of `answers` greedy answers have its tokens, and `ended` ended by themselves.
    """

    kind: str
    file: str
    bytes: int
    logit_difference: float
    answers: int
    same: int
    ended: int
    tokens_per_second: float
    largest_gap: float | None = None
    """Of the answers that have other tokens: the most that llama.cpp's logit of its own token was
    above that of the merged student's, where they first part. None if none does.
    """
    pass_at_1: QuantisedFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFigures:
    """The student in GGUF. `merged` is the content of the folder that it was made of."""

    merged: str
    release: str
    files: list[GgufFile]
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """The student on a benchmark before and after its training, and the change of pass@1."""

    before: ModelFigures
    after: ModelFigures
    change: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationFigures:
    """The evaluation of each model, by its name, and what the student forgot, by benchmark."""

    results: dict[str, ModelFigures]
    forgetting: dict[str, Forgetting] = field(default_factory=dict)


Figures = ProblemFigures | SamplingFigures | FilterFigures | TrainingFigures | EvaluationFigures
