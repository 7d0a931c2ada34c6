"""Sampling through a journal, for the tests of the stage generate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from generate.engine import Engine
from generate.job import SamplingJob
from generate.ledger import Ledger
from generate.sampling import read_traces, sample, sample_missing
from generate.stopping import Rule, fixed
from generate.vllm_engine import Model, VllmEngine
from tracestill.recipe.generate import Prices
from tracestill.records import Problem, Progress, Sampling, Teacher, Trace
from tracestill.records.progress import ignore_progress

Asked = Callable[..., list[Trace]]


def asks(root: Path, journal: Path) -> Asked:
    """Sample the miniature teacher, or another engine, through this journal."""

    def asked(
        problems: list[Problem],
        samples: int = 1,
        max_tokens: int = 200,
        engine: Any = None,
        rule: Rule | None = None,
        temperature: float = 1.0,
        ledgers: list[Ledger] | None = None,
        events: list[Progress] | None = None,
        **options: Any,
    ) -> list[Trace]:
        sampling = Sampling(
            temperature=temperature, top_p=1.0, top_k=-1, max_tokens=max_tokens, seed=0
        )
        teacher = Teacher(
            model="teacher", revision=None, content="c", engine="vllm", engine_version="",
            quantisation=None, provider="local", sampling=sampling,
        )  # fmt: skip
        model = Model(path=str(root / "miniature" / "teacher"), max_model_len=256)

        job = SamplingJob(
            teacher=teacher,
            open_engine=engine or (lambda: VllmEngine(model, sampling)),
            rule=rule or fixed(samples),
            journal=journal,
            seed=0,
            **{"prices": Prices(prompt=1.0, completion=2.0), **options},
        )
        on_progress = ignore_progress if events is None else events.append
        if ledgers is None:
            return list(sample(problems, job, on_progress))
        ledgers.append(sample_missing(problems, job, on_progress))
        return list(read_traces(problems, job, ledgers[-1]))

    return asked


def never() -> Engine:
    raise AssertionError("everything was in the journal, yet the engine was opened")
