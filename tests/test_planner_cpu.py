"""The planner on a CPU, and what it advises."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from finetune.planner import plan, read_shape, resolve
from finetune.planner.calibration import read_calibration
from finetune.planner.devices import Device, cpu, multiplies_bfloat16, named
from finetune.planner.plan import hints
from finetune.planner.probe import probed
from finetune.sizing import size_up
from tests.planner_models import QWEN_1_5B, STUDENT, settings, small


def test_on_a_cpu_a_micro_batch_is_large_enough_and_leaves_memory_to_others() -> None:
    machine = Device(
        name="CPU", memory=64 * 2**30, flops=5e11, bandwidth=2e10, cuda=False
    )  # fmt: skip
    shape = read_shape(json.loads((STUDENT / "config.json").read_text()))
    chosen, _ = resolve(settings(max_length=256, batch_size=64), shape, machine)
    assert chosen.micro_batch == 16
    assert chosen.gradient_checkpointing is False
    tight = Device(
        name="CPU", memory=12 * 2**30, flops=5e11, bandwidth=2e10, cuda=False
    )  # fmt: skip
    small_student = read_shape(small("qwen2", num_hidden_layers=24, hidden_size=512))
    chosen, _ = resolve(settings(max_length=2048, batch_size=64), small_student, tight)
    made = plan(chosen, small_student, tight)
    assert made.memory.total < 12 * 2**30 / 4


def test_a_cpu_s_speed_is_measured_once_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is right is measured by benchmarks/cpu_speed.py: here others use the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    config, machine = json.loads((STUDENT / "config.json").read_text()), cpu()
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    chosen = settings(max_length=256, batch_size=2)
    assumed = plan(chosen, read_shape(config), machine, [100, 120] * 50, learnt=0.6)
    made = probed(config, assumed)
    assert made.job.calibration is not None
    assert made.tokens_per_second != assumed.tokens_per_second
    assert made.memory == assumed.memory
    assert made.why == assumed.why
    assert (torch.get_num_threads(), torch.equal(random, torch.get_rng_state())) == (threads, True)
    # Another measurement of the machine itself, now or later, changes nothing.
    other = Device(name=machine.name, memory=machine.memory, flops=1e9, bandwidth=1e9, cuda=False)
    again = probed(config, plan(chosen, read_shape(config), other, [100, 120] * 50, learnt=0.6))
    assert again.tokens_per_second == made.tokens_per_second
    # What is measured while others work is not kept.
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 0.0, 0.0))
    probed(config, plan(chosen, read_shape(config), machine, [130] * 50, learnt=0.6))
    assert len(list((tmp_path / "tracestill" / "probes").iterdir())) == 1
    sharded = settings(max_length=256, launch={"gpus": 2})
    alone = plan(sharded, read_shape(config), machine)
    assert probed(config, alone) is alone


def test_a_training_on_a_cpu_measures_itself_where_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = AutoConfig.from_pretrained(STUDENT)
    chosen = settings(max_length=256, batch_size=2)
    short = size_up(chosen, config, [120] * 10)
    short.calibrate(None, "packed", tmp_path, resumed=False)
    assert short.calibration is None
    long = size_up(chosen, config, [120] * 100_000, 0.6)
    long.calibrate(None, "packed", tmp_path, resumed=False)
    assert long.calibration is not None
    # What it turns out to be is left for later plans, whatever was predicted.
    said = long.plan
    assert said is not None
    assert said.tokens_per_second is not None
    long.conclude(said.tokens_per_second * 2, None, 1, tmp_path)
    left = read_calibration(tmp_path, long.device.name)
    assert left is not None
    machine = left.of(cpu())
    after = plan(long.settings, read_shape(config.to_dict()), machine, [120] * 10, left, 0.6)
    assert after.tokens_per_second == pytest.approx(said.tokens_per_second * 2, rel=0.02)


def test_lengths_beyond_a_row_are_left_out_or_cut() -> None:
    shape, device, lengths = read_shape(QWEN_1_5B), named("H100"), [1000, 9000]
    dropped = plan(settings(max_length=8192, epochs=1), shape, device, lengths)
    cut = plan(settings(max_length=8192, epochs=1, overlong="prefix"), shape, device, lengths)
    assert (dropped.tokens, cut.tokens) == (1000, 1000 + 8192)
    assert plan(settings(max_length=8192, overlong="prefix"), shape, device, [9000]).tokens > 0


def test_an_adapter_too_small_for_its_tokens_is_told_before_and_after() -> None:
    chosen = settings(lora={"rank": 8})
    gpu = named("H100")
    (line,) = hints(chosen, gpu, trained=1_000, learnt=4_001)
    assert "finetune.lora.rank: 33 has as many" in line
    assert hints(chosen, gpu, trained=4_001, learnt=4_001) == []
    assert hints(settings(method="full"), gpu, trained=1, learnt=10**9) == []


def test_what_vllm_can_not_load_is_told_before_the_training() -> None:
    (line,) = settings(lora={"dora": True}).warnings()
    assert "vLLM can't load such an adapter" in line
    assert settings().warnings() == []


def test_auto_is_bfloat16_on_a_cpu_that_multiplies_it_for_a_wide_student() -> None:
    machine = Device(name="CPU", memory=2**36, flops=5e11, bandwidth=2e10, cuda=False)
    wide, narrow = small("qwen2", hidden_size=512), small("qwen2")
    chosen, why = resolve(settings(), read_shape(wide), machine)
    assert chosen.dtype == "bfloat16"
    assert any(line.startswith("dtype: bfloat16") for line in why)
    for values, config, device in (
        ({}, narrow, machine),
        ({"method": "full"}, wide, machine),
        ({"dtype": "float32"}, wide, machine),
        ({}, wide, replace(machine, bfloat16=False)),
        ({}, wide, named("H100")),  # where it is bfloat16 anyway
    ):
        asked = settings(**values)
        chosen, why = resolve(asked, read_shape(config), device)
        assert chosen.dtype == asked.dtype
        assert not any(line.startswith("dtype") for line in why)


def test_bfloat16_on_a_cpu_without_it_is_told() -> None:
    quick = Device(name="this CPU", memory=2**36, flops=5e11, bandwidth=2e10, cuda=False)
    slow = replace(quick, bfloat16=False)
    (line,) = hints(settings(dtype="bfloat16"), slow, trained=9, learnt=1)
    assert "this CPU has no products of bfloat16" in line
    assert hints(settings(dtype="bfloat16"), quick, trained=9, learnt=1) == []
    assert hints(settings(), slow, trained=9, learnt=1) == []


@pytest.mark.parametrize(
    ("said", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 fma\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f fma\nbugs\t\t: bf16\n", False),
        ("", False),
    ],
)
def test_a_cpu_s_features_say_whether_it_multiplies_bfloat16(
    tmp_path: Path, said: str, has: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(said)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is has
    assert multiplies_bfloat16(tmp_path / "none") is False
