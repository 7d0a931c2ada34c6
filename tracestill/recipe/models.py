"""The sections of a recipe that say where a model runs: teachers, judges, evaluated models."""

from __future__ import annotations

import re
import typing
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tracestill.recipe.section import Section
from tracestill.records.private import PrivateKind

# Keys of a model that change where and how fast it answers, not what.
NEUTRAL = frozenset(
    {"base_urls", "api_key_env", "concurrency", "timeout", "retries", "requests_per_minute",
     "tokens_per_minute", "batch", "token_ids"}
)  # fmt: skip


def _regex(text: str) -> str:
    import regex

    try:
        regex.compile(text)
    except regex.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


def _country(code: str) -> str:
    import phonenumbers

    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("write a country's two capital letters, such as DE or US")
    return code


def _variable(name: str) -> str:
    # Keys hold small letters: one that was put here by mistake is not written down.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError("write the name of the variable that holds the key, such as LLM_API_KEY")
    return name


Regex = Annotated[str, AfterValidator(_regex)]
Country = Annotated[str, AfterValidator(_country)]
PatternName = Annotated[str, Field(pattern=r"^[a-z]+$")]


class Redact(Section):
    """What is replaced by placeholders such as `[EMAIL_1]` before anything is sent."""

    kinds: list[PrivateKind] = ["email", "phone", "iban", "key"]
    """Which of those that are known are masked: e-mail addresses, phone numbers, IBANs, and keys,
    tokens and private keys."""
    phone_countries: list[Country] = []
    """Countries, such as DE, whose phone numbers are also found without `+` and country code. Some
    differences in problems of mathematics look like such numbers."""
    patterns: dict[PatternName, Regex] = Field(default_factory=dict)
    """Regular expressions of your own, each under a name that its placeholders bear: what
    `ticket: "T-[0-9]{6}"` matches becomes `[TICKET_1]`."""
    restore: bool = True
    """Put the originals back into the traces that are stored; false leaves the placeholders in
    them and in what the student learns. Answers are judged with the originals either way."""

    @model_validator(mode="after")
    def _new_names(self) -> Redact:
        if taken := self.patterns.keys() & set(typing.get_args(PrivateKind)):
            raise ValueError(f"patterns: {min(taken)} is a kind that is known: take another name")
        return self


class LocalModel(Section):
    """A model that vLLM runs in this process."""

    engine: Literal["vllm"] = "vllm"
    model: str
    """A hub id, or a folder or GGUF file: a path that begins with `.`, `/` or `~`, relative to the
    recipe."""
    revision: str | None = None
    """A commit, tag or branch of the hub's repository."""
    quantization: str | None = None
    """vLLM's name of the quantisation; null reads it from the model."""
    dtype: str = "auto"
    """vLLM's name of the weights' type; `auto` is as the model is stored."""
    max_model_len: int | None = Field(default=None, ge=1)
    """The longest prompt and answer together, in tokens; null takes the model's own limit."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of vLLM's engine, such as `tensor_parallel_size`; those that change what
    is sampled make another teacher."""


class ServedModel(Section):
    """A model behind an OpenAI-compatible endpoint: a server of your own, or a hosted API."""

    engine: Literal["openai"]
    model: str
    """The model's name there."""
    base_urls: list[str] = Field(min_length=1)
    """Endpoints that serve the same model, such as `http://localhost:8000/v1`; requests go to the
    one with the fewest in flight. Any that is not on this machine needs `egress.allow`."""
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    """The environment variable that holds the key, such as `DEEPSEEK_API_KEY`, in capitals."""
    revision: str | None = None
    """What tells this model from another of the same name, such as a date; for identities only."""
    concurrency: int = Field(default=256, ge=1)
    """The most requests in flight; fewer where the servers answer that they are too many."""
    timeout: float = Field(default=6 * 3600.0, gt=0)
    """Seconds that one answer may take."""
    retries: int = Field(default=8, ge=0)
    """How often a request that failed for reasons that may pass is sent again."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """At most so many; null: no bound."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Of prompts and answers together."""
    seeds: bool = True
    """Send each sample's seed; false where the endpoint refuses it."""
    token_ids: bool = False
    """Ask for token ids, as vLLM's server can give them; truncated traces then continue exactly."""
    batch: bool = False
    """Use the endpoint's batch API: cheaper, answered within a day."""
    redact: Redact | None = None
    """Mask what is private before anything is sent; null sends every prompt as it is."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Any further field of the request, as the endpoint documents it; null leaves a field out. A
    change here makes another teacher."""


def engine_of(value: Any) -> str:
    """The engine that a section names, as YAML or as read; `vllm` where it names none."""
    engine = value.get("engine", "vllm") if isinstance(value, dict) else value.engine
    return str(engine)
