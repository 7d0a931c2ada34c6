"""Trainings on a CUDA GPU; a machine without one skips them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import training

from finetune.train import Trained

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

# Rows of 4,096 tokens: enough that a row's memory shows beside the allocator's blocks.
LONG: dict[str, Any] = {"max_length": 4096, "batch_size": 16, "epochs": 1.0, "count": 1_200,
                        "gradient_checkpointing": False}  # fmt: skip


@contextlib.contextmanager
def at_most(many: float) -> Iterator[None]:
    """Let torch take so many bytes of the GPU."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(many / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def run(folder: Path, **values: Any) -> tuple[Trained, int]:
    """A training, and the most memory that the allocator reserved for it, in bytes."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    made = training.run(folder, **{**LONG, **values})
    return made, torch.cuda.max_memory_reserved()


def test_metrics_of_a_gpu_tell_its_memory_and_its_use(tmp_path: Path) -> None:
    made, _ = run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "tokens_per_second" in line]
    assert steps
    for line in steps:
        assert 0 < line["memory_gb"] < torch.cuda.get_device_properties(0).total_memory / 1e9
        assert 0 < line.get("mfu", 0.5) < 1  # of a card that is in the table
    assert (tmp_path / "calibration.json").exists()
    assert made.figures.predicted.keys() >= {"memory_bytes", "tokens_per_second"}


def test_out_of_memory_on_a_gpu_tries_fewer_rows_and_learns_the_same(tmp_path: Path) -> None:
    few, small = run(tmp_path / "few", micro_batch=1)
    many, large = run(tmp_path / "many", micro_batch=4)
    assert large > 1.5 * small
    with at_most((small + large) / 2):
        made, _ = run(tmp_path / "less", micro_batch=4)
    assert made.figures.out_of_memory_at
    assert made.figures.micro_batch < 4
    assert made.figures.loss == pytest.approx(few.figures.loss, rel=0.01)
    assert many.figures.out_of_memory_at == []


def test_out_of_memory_of_a_single_row_on_a_gpu_is_explained(tmp_path: Path) -> None:
    _, small = run(tmp_path / "whole", micro_batch=1)
    with at_most(small / 3), pytest.raises(MemoryError, match=r"out of memory.*; set \w+"):
        run(tmp_path / "less", micro_batch=1)


@pytest.mark.parametrize(
    "values",
    [
        {"quantize": "nf4"}, {"quantize": "nf4", "gradient_checkpointing": True},
        {"gradient_checkpointing": True, "activation_offload": True},
        {"method": "full", "learning_rate": 3e-4}, {"attention": "sdpa"},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_of_training_learns_on_a_gpu(tmp_path: Path, values: dict[str, Any]) -> None:
    made, _ = run(tmp_path, count=300, max_length=512, batch_size=4, **values)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert (tmp_path / "merged" / "config.json").exists()
    export = made.figures.export
    assert export.loss_merged == pytest.approx(export.loss_trained, abs=0.05)


def test_a_packed_row_is_its_samples_alone_on_a_gpu(
    tmp_path: Path,
) -> None:
    ways = {"packed": {"attention": "packed"}, "apart": {"attention": "sdpa", "packing": False}}
    losses = {
        name: run(tmp_path / name, count=64, max_length=512, batch_size=64, epochs=1.0, **way)[0]
        for name, way in ways.items()
    }
    packed, apart = losses["packed"].figures.loss, losses["apart"].figures.loss
    assert packed == pytest.approx(apart, rel=0.02)
