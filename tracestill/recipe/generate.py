"""The recipe's section `generate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tracestill.recipe.models import NEUTRAL as NEUTRAL_MODEL
from tracestill.recipe.models import LocalModel, ServedModel, engine_of
from tracestill.recipe.rules import KindName
from tracestill.recipe.section import Section

# Keys that change no trace: traces that are there are reused when one of them changes. A budget
# that ended the sampling counts all the same (`Manifest.cut_short`).
NEUTRAL = NEUTRAL_MODEL | {"prices", "budget", "canary"}


class Prices(Section):
    """What a million tokens cost, in any one currency."""

    prompt: float = Field(default=0.0, ge=0)
    """Of a million tokens of prompts."""
    completion: float = Field(default=0.0, ge=0)
    """Of a million tokens of answers."""


class Samples(Section):
    """Sampling that stops where a problem has enough."""

    min: int = Field(default=1, ge=1)
    """How many traces every problem gets."""
    max: int = Field(ge=1)
    """How many a hard one gets at most."""
    until_correct: int | None = Field(default=None, ge=1)
    """A problem with so many verified traces gets no more; null: each gets `max`."""
    give_up: int | None = Field(default=None, ge=1)
    """A problem with none verified among so many traces gets no more; null: only at `max`."""
    step: int = Field(default=1, ge=1)
    """How many more samples of a problem are requested at once."""

    @model_validator(mode="after")
    def _ordered(self) -> Samples:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, more than max, {self.max}")
        if self.until_correct is None and self.min < self.max:
            raise ValueError("say `until_correct`, or write one number: `samples: 4`")
        return self


def _fixed(value: Any) -> Any:
    if isinstance(value, int) and value >= 1 and not isinstance(value, bool):
        return {"min": value, "max": value}
    if not isinstance(value, dict | Samples):
        raise ValueError("write a number from 1, or rules such as {max: 8, until_correct: 1}")
    return value


class Budget(Section):
    """What a run may spend in all, resumed ones included; null: any."""

    tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and completions, failed attempts included."""
    money: float | None = Field(default=None, gt=0)
    """In the currency of `prices`."""
    hours: float | None = Field(default=None, gt=0)
    """Hours of sampling."""
    then: Literal["stop", "go_on"] = "stop"
    """At the cap, stop the run, or continue to the next stage with what there is."""

    @property
    def is_capped(self) -> bool:
        """Whether there is any cap."""
        return (self.tokens, self.money, self.hours) != (None, None, None)


Reasoning = Literal["marked", "solution"]


class _Sampled(Section):
    """How a teacher is sampled."""

    system_prompt: str | None = None
    """A system turn before each problem; null: none."""
    reasoning: Reasoning = "marked"
    """Where a trace's reasoning is: `marked` by think tags or in a field of its own; with
    `solution` what precedes the final answer too, where a teacher marks none."""
    samples: Annotated[Samples, BeforeValidator(_fixed, json_schema_input_type=int | Samples)] = (
        Samples(min=1, max=1)
    )
    """How many traces a problem gets: a number, or rules that decide while sampling."""
    temperature: float = Field(default=0.6, ge=0)
    """How freely tokens are drawn; 0 takes the likeliest."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Tokens are drawn from the likeliest ones, until their probabilities sum to this."""
    top_k: int = Field(default=-1, ge=-1)
    """How many tokens are candidates; -1 means all."""
    max_tokens: int = Field(default=16384, ge=1)
    """The longest answer, reasoning included."""
    prices: Prices = Prices()
    budget: Budget = Budget()
    canary: bool = True
    """Stop where at least 45 of the first 50 traces can't be used: failed, truncated, malformed or
    without reasoning. A run that is resumed with as many traces in its journal is not stopped."""


class LocalTeacher(LocalModel, _Sampled):
    """A teacher that vLLM runs in this process."""


class ServedTeacher(ServedModel, _Sampled):
    """A teacher behind an OpenAI-compatible endpoint."""


LayoutName = Literal[
    "openr1-math-220k",
    "mixture-of-thoughts",
    "openthoughts-114k",
    "openthoughts-114k-metadata",
    "openthoughts3-1.2m",
    "s1k-1.1",
    "limo",
    "bespoke-stratos-17k",
    "am-deepseek-r1-distilled",
    "openmathreasoning",
    "multilingual-thinking",
    "nemotron-post-training",
    "llama-nemotron-post-training",
    "qwq-longcot-130k",
    "table",
]


class ImportTeacher(Section):
    """Traces that exist already, with their problems, from a data set."""

    engine: Literal["import"]
    layout: LayoutName
    """The data set whose columns the rows have; `table` for any other, with `columns`."""
    path: str | None = None
    """A Parquet or JSONL file (.jsonl.gz and .jsonl.zst too), a folder of them, or a glob;
    relative to the recipe."""
    dataset: str | None = None
    """The data set's id on the hub, from where it is streamed; null: the layout's own, where there
    is no `path`."""
    config: str | None = None
    """The data set's configuration on the hub; null: the one that the layout is of."""
    split: str | None = None
    """The data set's split on the hub; null: the one that has the traces."""
    revision: str | None = None
    """A commit, tag or branch of the data set; it is also part of who a trace is by."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For a table, its column for each of `prompt`, `response`, `reasoning`, `reference`, `source`,
    `language`, `tokens`, `finish`, `teacher`; those that are not named have these names. The
    first two must be there. A list of responses makes as many traces."""
    reasoning: Reasoning = "marked"
    """Where a trace's reasoning is: `marked` by think tags or in a column of its own; with
    `solution` what precedes the final answer too, where a row marks none."""
    kind: KindName | None = None
    """How answers are judged; null: as the layout knows, and in a table as mathematics where
    there is a reference, else by agreement or a judge."""
    teacher: str | None = None
    """The model that wrote the traces; null: the data set's."""
    size: int | None = Field(default=None, ge=1)
    """Stop reading before the problem after so many; null: read all."""

    @model_validator(mode="after")
    def _one_place(self) -> ImportTeacher:
        if self.path is not None and self.dataset is not None:
            raise ValueError("name `path` or `dataset`, not both")
        if self.layout == "table" and self.path is None and self.dataset is None:
            raise ValueError("say where the table is: `path`, or `dataset` for one on the hub")
        if self.columns and self.layout != "table":
            raise ValueError("`columns` are for `layout: table`; other layouts know theirs")
        return self


GenerateSection = Annotated[
    Annotated[LocalTeacher, Tag("vllm")]
    | Annotated[ServedTeacher, Tag("openai")]
    | Annotated[ImportTeacher, Tag("import")],
    Discriminator(engine_of),
]
"""The teacher and how it is sampled."""
