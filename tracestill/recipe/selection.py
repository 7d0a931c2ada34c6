"""The filter's step `select`: which of the traces that reached it are kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tracestill.recipe.functions import PATTERN, is_function
from tracestill.recipe.section import Section

Order = Literal[
    "first", "random", "shortest", "longest", "pass_rate", "student_pass_rate", "rsr", "surprisal",
    "naturalness", "branches", "diverse",
]  # fmt: skip
Group = Literal["source", "language", "kind", "difficulty", "length"]
Draw = Literal["top", "halving", "weighted"]
Tokenizer = Literal["teacher", "student"]
BranchWords = list[Annotated[str, Field(pattern="^[a-z]+$")]]
BRANCH_WORDS = ["wait", "hmm", "alternatively", "actually"]

OwnOrder = Annotated[str, Field(pattern=PATTERN)]

NO_VALUE = ("first", "random", "diverse")  # orders of which there is no window
RATES = ("pass_rate", "student_pass_rate")
SCORED = ("rsr", "surprisal", "naturalness")  # by a pass of the student


class Among(Section):
    """The traces that a selection is about; the others pass it."""

    sources: list[str] | None = None
    """Those of problems from these sources (of generated ones the family)."""
    min_tokens: int | None = Field(default=None, ge=1)
    """Those of at least so many tokens."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Those of at most so many tokens."""
    pass_rate: tuple[float, float] | None = None
    """Those of problems with a pass rate of the teacher from the first to the second."""


class Select(Section):
    """Keep only so many traces, those that come first in an order."""

    by: Order | OwnOrder = "first"
    """`first` (the lowest sample index), `random` (by a hash of a trace's identity), `shortest`,
    `longest`, `pass_rate` (of the teacher on the problem; the hardest first), `student_pass_rate`
    (of the student before training, sampled for it), `rsr` (rank-surprisal ratio, lowest first),
    `surprisal` (lowest first), `naturalness` (local naturalness, highest first), `branches` (branch
    words per 1,000, fewest first), `diverse` (within a problem, least like those before first). Or
    a function of your own, `FILE.py:FUNCTION` relative to the recipe, that gives a number for a
    problem and a trace (lowest first)."""
    reverse: bool = False
    """The other way round."""
    keep: tuple[float | None, float | None] | None = None
    """The lowest and the highest value that pass: pass rates in [0, 1], tokens for `shortest` and
    `longest`, else as in `by`; null is no bound."""
    per_problem: int | None = Field(default=None, ge=1)
    """At most so many of a problem."""
    problems: int | None = Field(default=None, ge=1)
    """The traces of so many problems, those whose first trace comes first."""
    share: float | None = Field(default=None, gt=0, le=1)
    """At most this share of them."""
    total: int | None = Field(default=None, ge=1)
    """At most so many in all."""
    tokens: int | None = Field(default=None, ge=1)
    """At most so many tokens in all, of reasoning and answer in the student's tokenizer."""
    balance: Group | None = None
    """Take as many of each `source`, `language`, `kind`, `difficulty` (pass rate in quarters) or
    `length` (doubling), as far as there are."""
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """How many of a group of `balance`, relative to the others; 1 where none is given."""
    draw: Draw = "top"
    """`top` takes those that come first; `halving` draws, each trace with half the chance of the
    one before it in its group; `weighted` draws by 1 - pass rate."""
    seed: int = 0
    """Of random orders and draws."""
    among: Among = Among()
    count: Tokenizer = "teacher"
    """Whose tokens `shortest`, `longest`, `among` and `balance: length` count."""
    branch_words: BranchWords = BRANCH_WORDS
    """The words that `branches` counts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        limits = (self.keep, self.per_problem, self.problems, self.share, self.total, self.tokens)
        if all(limit is None for limit in limits):
            raise ValueError(
                "select: say how many are kept, with per_problem, problems, share, total or "
                "tokens, or which, with keep"
            )
        if self.keep is not None and self.by in NO_VALUE:
            raise ValueError(f"select: keep: {self.by} has no value to be between two bounds")
        if self.by == "diverse" and self.per_problem is None:
            raise ValueError("select: diverse: it compares traces of a problem: set per_problem")
        if self.draw == "weighted" and self.by not in RATES:
            raise ValueError(f"select: draw: weighted goes by a pass rate, not by {self.by}")
        if self.weights and self.balance is None:
            raise ValueError("select: weights: say of which groups, with balance")
        return self

    @property
    def scored(self) -> bool:
        """Whether the student has to read the traces."""
        return self.by in SCORED

    @property
    def own(self) -> bool:
        """Whether a function of the user's gives the values."""
        return is_function(self.by)

    @property
    def counted(self) -> bool:
        """Whether the student's tokenizer has to."""
        return self.tokens is not None or self.count == "student"

    @property
    def asks_student(self) -> bool:
        """Whether it depends on the student in any way."""
        return self.scored or self.counted or self.by == "student_pass_rate"


class StudentSampling(Section):
    """How the student is sampled for `student_pass_rate`."""

    samples: int = Field(default=8, ge=1)
    """Of each problem."""
    max_tokens: int = Field(default=4096, ge=1)
    """The longest answer, reasoning included."""
    temperature: float = Field(default=0.6, ge=0)
    """How freely tokens are drawn; 0 takes the likeliest."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Tokens are drawn from the likeliest ones, until their probabilities sum to this."""
