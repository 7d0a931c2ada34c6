"""The steps of a recipe's section `filter`, each with its settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from tracestill.recipe.models import Country, Regex
from tracestill.recipe.section import Section
from tracestill.recipe.selection import BRANCH_WORDS, BranchWords, Select, Tokenizer
from tracestill.records.private import PrivateKind

Keep = Literal["correct", "unverifiable"]
Preference = Literal["verified", "shortest", "longest", "first"]
Topic = Literal["refusal", "evasive", "political", "identity", "skipped_reasoning"]
Action = Literal["drop", "keep", "queue", "judge"]


class Refusal(Section):
    """Drop refusals, evasions, and canned statements on politics or on who the teacher is."""

    action: Action = "drop"
    """`drop`; `keep`: only count; `queue`: drop, and list in `disputes` for people to decide;
    `judge`: ask the model of `filter.judge`, and drop what it does not deny."""
    topics: list[Topic] | None = None
    """Which of those that are shipped count; null: all."""
    patterns: dict[Annotated[str, Field(pattern="^[a-z][a-z_]*$")], list[Regex]] = Field(
        default_factory=dict
    )
    """Regular expressions of your own, under one of these topics or another, which always count."""


class Private(Section):
    """Find personal data and secrets in reasoning and answer that their problem does not hold."""

    kinds: list[PrivateKind] = ["email", "phone", "iban", "key"]
    """What is looked for: e-mail addresses, phone numbers, IBANs, and keys, tokens and private
    keys."""
    phone_countries: list[Country] = []
    """Countries, such as DE, whose phone numbers are also found without `+` and country code."""
    action: Literal["keep", "drop"] = "keep"
    """`keep`: only count; `drop`."""


class Form(Section):
    """Drop what no student could learn from: failed, truncated, malformed, empty."""


class Bounds(Section):
    """The fewest and the most tokens."""

    min_tokens: int | None = Field(default=None, ge=1)
    """The fewest; null: no bound."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most; null: no bound."""


class Length(Bounds):
    """Drop traces by their tokens."""

    count: Tokenizer = "teacher"
    """Whose tokens: the completion's as the teacher counts, or those of reasoning and answer in the
    student's tokenizer."""
    sources: dict[str, Bounds] = Field(default_factory=dict)
    """Other bounds for problems from some sources (of generated ones the family)."""

    @property
    def most(self) -> int | None:
        """The most tokens that pass, of any source; None if there is no bound."""
        bounds = [self.max_tokens, *(one.max_tokens for one in self.sources.values())]
        said = [bound for bound in bounds if bound is not None]
        return max(said) if len(said) == len(bounds) else None


class Verify(Section):
    """Drop traces by their verdict; verdicts are recorded without this step too."""

    keep: list[Keep] = ["correct"]
    """The outcomes that pass."""


class Quality(Section):
    """Drop traces whose reasoning is degenerate or unreadable. null switches a measure off."""

    max_repeated: float | None = Field(default=0.3, ge=0, le=1)
    """The share of runs of 20 words that came before."""
    max_run: int | None = Field(default=20, ge=1)
    """How often one run of 20 words may come."""
    max_loops: float | None = Field(default=3.0, ge=1)
    """How often the end of a reasoning may be said in a row."""
    max_repeated_lines: float | None = Field(default=0.7, ge=0, le=1)
    """The share of lines of at least 5 words that came before."""
    min_compression: float | None = Field(default=0.05, ge=0, le=1)
    """The least size of the last 4 kB as compressed (zstd, level 1), relative to theirs."""
    max_branches: float | None = Field(default=None, ge=0)
    """The most branch words per 1,000 words."""
    branch_words: BranchWords = BRANCH_WORDS
    """The words by which a reasoning turns to another thought."""
    readable: bool = True
    """Drop what has control characters, unreadable ones or endless words in it."""
    supported: bool = True
    """Drop a trace whose answer is a whole number that neither its reasoning mentions nor the
    answer before its end."""


class Language(Section):
    """Drop traces in another language than they should be in, or that switch."""

    allow: list[str] | None = None
    """The languages (ISO 639-1) that traces may be in; null: that of their problem."""
    pieces: int = Field(default=4, ge=1)
    """Of how many pieces of 300 characters the language is asked."""
    max_foreign: float = Field(default=0.0, ge=0, le=1)
    """The share of them that may be in another."""
    max_letters: float = Field(default=0.02, ge=0, le=1)
    """The share of characters that may be of a script that none of the languages has."""


class Contamination(Section):
    """Drop traces of problems that share a run of words with a held-out problem."""

    ngram: int = Field(default=13, ge=2)
    """How many words in a row must be shared."""


class Exact(Section):
    """Drop traces that say what another of the same problem says, but for white space."""

    keep: list[Preference] = ["verified", "first"]
    """Which one stays: what comes first by these, one after the other."""


class Near(Section):
    """Drop near duplicates: by MinHash over word n-grams, then by the exact similarity."""

    threshold: float = Field(default=0.9, gt=0, le=1)
    """The Jaccard similarity from which two traces count as duplicates."""
    ngram: int = Field(default=5, ge=1)
    """How many words make a shingle."""
    on: Literal["trace", "problem"] = "trace"
    """Compare reasoning with answer, or the problems' prompts; problems that differ in a number are
    not duplicates."""
    within: Literal["problem", "all"] = "problem"
    """Compare the traces of one problem, or all."""
    keep: list[Preference] = ["verified", "first"]
    """Which one stays: what comes first by these, one after the other."""


class Semantic(Section):
    """Drop what means the same as another, by the embeddings of a static model (model2vec)."""

    model: str
    """The static model: a folder (relative to the recipe) or a hub id."""
    threshold: float = Field(default=0.9, gt=0, le=1)
    """The cosine similarity from which two texts count as duplicates."""
    on: Literal["problem", "trace"] = "problem"
    """Compare the problems' prompts, where problems that differ in a number are not duplicates, or
    reasoning with answer, of all problems."""
    keep: list[Preference] = ["verified", "first"]
    """Which one stays: what comes first by these, one after the other."""


class Pattern(Section):
    """Drop traces by regular expressions."""

    on: Literal["prompt", "reasoning", "answer"] = "answer"
    """Where they are looked for."""
    drop: list[Regex] = Field(min_length=1)
    """Regular expressions, one of which is enough."""


class Step(Section):
    """One step: its name, or its name with settings (`near: {threshold: 0.8}`)."""

    refusal: Refusal | None = None
    form: Form | None = None
    length: Length | None = None
    pattern: Pattern | None = None
    verify: Verify | None = None
    quality: Quality | None = None
    language: Language | None = None
    private: Private | None = None
    contamination: Contamination | None = None
    exact: Exact | None = None
    near: Near | None = None
    semantic: Semantic | None = None
    select: Select | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, value: Any, handler: ModelWrapValidatorHandler[Step]) -> Step:
        if isinstance(value, str):
            value = {value: None}
        if isinstance(value, dict):
            names = ", ".join(cls.model_fields)
            if len(value) != 1 or (unknown := [n for n in value if n not in cls.model_fields]):
                said = f"{unknown[0]!r} is none" if len(value) == 1 else f"{value!r} is not one"
                raise ValueError(f"{said} of the steps {names}")
            value = {name: {} if given is None else given for name, given in value.items()}
        return handler(value)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        values = handler(self)
        return {self.name: values[self.name]}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Its name alone is a step too, for those that need no setting."""
        made = handler(core_schema)
        return {"anyOf": [{"enum": list(cls.model_fields), "type": "string"}, made]}

    @property
    def name(self) -> str:
        """The step's name."""
        (name,) = (name for name in type(self).model_fields if getattr(self, name) is not None)
        return name

    @property
    def settings(self) -> Section:
        """The step's settings, an instance of the class that bears its name."""
        settings: Section = getattr(self, self.name)
        return settings

    @property
    def action(self) -> Action:
        """What becomes of the traces that the step finds."""
        settings = self.settings
        return settings.action if isinstance(settings, Refusal | Private) else "drop"


DEFAULT = ("refusal", "form", "verify", "quality", "language", "contamination", "exact", "near")
