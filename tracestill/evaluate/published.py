"""Figures that others published, to stand beside one's own: `published.yaml`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A model's pass@1 on a benchmark, in [0, 1], as its `source` gives it; `asked` says how its
    answers were sampled.
    """

    model: str
    benchmark: str
    pass_at_1: float
    source: str
    asked: str


@functools.cache
def _all() -> tuple[Published, ...]:
    sources: list[dict[str, Any]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return tuple(
        Published(
            model=model, benchmark=benchmark, pass_at_1=percent / 100,
            source=one["source"], asked=one["asked"],
        )
        for one in sources
        for model, figures in one["figures"].items()
        for benchmark, percent in figures.items()
    )  # fmt: skip


def published(benchmark: str) -> list[Published]:
    """What was published of a benchmark of this name; nothing of one that is not known by name."""
    return [one for one in _all() if one.benchmark == benchmark]
