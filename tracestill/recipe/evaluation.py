"""An evaluation of one model on one benchmark, with every setting: what its folder's
`evaluation.yaml` holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError

from tracestill.recipe.benchmarks import BenchmarkSpec
from tracestill.recipe.models import LocalModel, ServedModel, engine_of
from tracestill.recipe.rules import Rules, read_rules
from tracestill.recipe.section import Section
from tracestill.recipe.yaml_values import read_yaml

PLAN = "evaluation.yaml"

# Keys that change nothing about the answers or their verdicts.
# Functions count by their content, among the verifiers' names.
NEUTRAL = frozenset({"name", "max_failed", "verifiers"})


class Evaluation(Section):
    """A model, a benchmark, and how the one is asked the other."""

    name: str
    """What the model is called in tables."""
    model: Annotated[
        Annotated[LocalModel, Tag("vllm")] | Annotated[ServedModel, Tag("openai")],
        Discriminator(engine_of),
    ]
    run: str | None = None
    """The folder of the run whose student the model is; its recipe says how it is prompted."""
    system_prompt: str | None = None
    template: str | None = None
    """A chat template's file in place of the model's own."""
    benchmark: str
    """The benchmark's name."""
    spec: BenchmarkSpec
    limit: int | None = Field(default=None, ge=1)
    """Only the first problems."""
    seed: int = 0
    max_failed: float = Field(default=0.02, ge=0, le=1)
    """The share of requests that may fail."""
    sandbox: str = "bubblewrap"
    """Where programs run."""
    verifiers: dict[str, str] = Field(default_factory=dict)
    """Functions of the user's own by the kind of problem that they judge."""

    @property
    def rules(self) -> Rules:
        """By what answers are judged.

        Raises:
            ValueError: a function of `verifiers` is not there.

        """
        return read_rules(self.sandbox, self.verifiers)


def dump_evaluation(evaluation: Evaluation) -> str:
    """An evaluation as YAML with every default."""
    values = evaluation.model_dump(mode="json")
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation whose results lie in `folder`.

    Raises:
        ValueError: there is none, or it is not one of this version.

    """
    path = folder / PLAN
    if not path.is_file():
        raise ValueError(f"{folder} holds no evaluation: it has no {PLAN}")
    try:
        return Evaluation.model_validate(read_yaml(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{path} is no evaluation of this version: {error}") from error
