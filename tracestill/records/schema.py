"""The records that pass between the stages.

A row of a table is one record. Adding a field here adds a column everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["math", "choice", "code", "reasoning_gym", "ifeval", "open"]
# "skipped": never sent, since the prompt leaves no room for an answer.
Finish = Literal["stop", "length", "error", "skipped"]
Outcome = Literal["correct", "incorrect", "unverifiable", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with what is needed to judge an answer to it.

    `id` is a hash of the normalised prompt and the reference (`problem_id`); `kind` is a `Kind`, or
    one that a verifier of the recipe's own judges; `meta` holds what a verifier needs besides the
    reference and is stored as JSON.
    """

    id: str
    prompt: str
    reference: str
    kind: str
    source: str
    language: str = "en"
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What it counts for in results by task: a generated one's family, else its source."""
        return str(self.meta.get("family") or self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a token is drawn. `top_k` of -1 means no limit."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Who wrote a trace: the model (name or folder name), its content, engine and sampling."""

    model: str
    revision: str | None
    content: str
    engine: str
    engine_version: str
    quantisation: str | None
    provider: str
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One sampled answer of a teacher, as it came (`raw`, and `raw_reasoning` where the reasoning
    came in a field of its own) and as it was read.

    `reasoning` and `answer` are the two parts of `raw`; `reasoning` is None where the trace
    holds no readable reasoning. Tokens are counted by the teacher's tokenizer, `seconds` is the
    time from the request to its last token, `cost` is in the currency of the recipe's prices.
    """

    id: str
    problem_id: str
    sample: int
    raw: str
    raw_reasoning: str | None
    raw_token_ids: list[int] | None
    reasoning: str | None
    answer: str | None
    finish: Finish
    error: str | None
    prompt_tokens: int
    completion_tokens: int
    teacher: Teacher
    seconds: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceText:
    """What is read of a trace to judge it: neither what came raw nor who wrote it. Every field is a
    trace's own, so that this is read from a table of traces.
    """

    id: str
    problem_id: str
    sample: int
    reasoning: str | None
    answer: str | None
    finish: Finish
    error: str | None
    completion_tokens: int


AnyTrace = Trace | TraceText


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier said of a trace. `seconds` is the verifier's own time."""

    trace_id: str
    verifier: str
    outcome: Outcome
    extracted: str | None
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    """How often a problem's samples were correct. `pass_rate` is the unbiased estimate under the
    rule by which sampling stopped; None where it was ended before the rule did.
    """

    problem_id: str
    samples: int
    correct: int
    pass_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a student takes to a trace before it learns it: means over the `tokens` that it would
    learn of their `rank` among all that it might have written there (at most 100), and of their
    `surprisal` in nats; `local` is the trace's local naturalness in nats, None where that was not
    asked for. See `finetune.scoring`.
    """

    trace_id: str
    tokens: int
    rank: float
    surprisal: float
    local: float | None

    @property
    def rsr(self) -> float:
        """The rank-surprisal ratio; the lower, the better the trace suits the student."""
        return self.rank / max(self.surprisal, 1e-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Why a trace is not in the kept set. `detail` names the twin or the matching text."""

    trace_id: str
    step: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkItem:
    """A question of a benchmark, which training must not have seen. `id` is unique in it."""

    benchmark: str
    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a problem or trace (`id`) has of a benchmark's item: `kind` is `run` (a run of words),
    `whole` (a short item as a whole) or `renumbered` (the item with other numbers); `excerpt` is
    that part of the text, `item_text` the item's.
    """

    id: str
    benchmark: str
    item: str
    kind: str
    runs: int
    excerpt: str
    item_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A trace that no filter dropped. `prompt`, `reasoning` (empty where it has none) and `answer`
    are as the student learns them, `source` is the problem's task, and `content` is a hash of all
    that a student can learn of it.
    """

    trace_id: str
    problem_id: str
    prompt: str
    reasoning: str
    answer: str
    reference: str
    source: str
    language: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptContent:
    """Of a kept trace what a training depends on: nothing else makes it again."""

    trace_id: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTrace:
    """A kept trace that a stage of the training selects. `stage` counts from 0 among those stages
    of `finetune.stages` that select.
    """

    trace_id: str
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A trace that the student was given: trained on, or `heldout` to measure the loss on."""

    trace_id: str
    heldout: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """An answer on which verifiers disagree, or that a step of the filter put aside, for people to
    decide. `opinions` are the outcomes by verifier, or the step's reason with what it found; it is
    stored as JSON.
    """

    trace_id: str
    problem_id: str
    answer: str
    opinions: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A problem whose reference none of its samples gives, and what most of them (`agreeing` of
    `samples`) give instead, which counts as right.
    """

    problem_id: str
    reference: str
    answer: str
    agreeing: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A problem whose own reference, given as an answer, is not judged to be right."""

    problem_id: str
    outcome: Outcome
    detail: str
