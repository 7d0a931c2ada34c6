"""The planner's speed on this machine's CPU against that of real trainings:
`taskset -c 0 python benchmarks/cpu_speed.py [NAME …] [--pairs N]`.

Students, by default all: `miniature` as in recipes/quickstart.yaml, `smollm2` (its config.json's
sizes with random weights, samples of some 250 tokens, rows of 512). Each pair is a fresh prediction
and then some steps of this project's trainer on samples of the lengths that it was told. Nothing
else should run meanwhile. Writes benchmarks/results/cpu_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # else a file beside this one would be what `finetune` names

import numpy as np
from finetune_peers import ours, settings, tokenizer

from finetune.planner import devices, plan, read_shape, resolve
from finetune.planner.known_shapes import known_config
from finetune.planner.probe import probed
from finetune.sample import Sample
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "cpu_speed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A student and its training; samples have `lengths` tokens at least and at most."""

    config: dict[str, Any]
    settings: dict[str, Any]
    lengths: tuple[int, int]
    samples: int
    prompt: float


def cases() -> dict[str, Case]:
    """By name."""
    miniature = json.loads((ROOT / "miniature" / "student" / "config.json").read_text())
    smollm2 = known_config("SmolLM2-135M")
    assert smollm2 is not None
    return {
        "miniature": Case(
            config=miniature, lengths=(60, 200), samples=160, prompt=0.35,
            settings={"max_length": 256, "batch_size": 2},
        ),
        "smollm2": Case(
            config={**smollm2, "max_position_embeddings": 8192}, lengths=(120, 380), samples=40,
            prompt=0.35, settings={"max_length": 512, "batch_size": 4},
        ),
    }  # fmt: skip


def pair(case: Case, folder: Path) -> dict[str, float]:
    """Tokens per second as predicted, and as measured right after."""
    import torch

    generator = np.random.default_rng(0)
    lengths = generator.integers(*case.lengths, case.samples).tolist()
    data = [
        Sample(
            trace_id=str(number),
            input_ids=generator.integers(10, 300, length, dtype=np.int32),
            prompt=int(length * case.prompt),
            answer=int(length * 0.9),
        )
        for number, length in enumerate(lengths)
    ]
    learnt = sum(sample.learnt for sample in data) / sum(lengths)
    asked = settings(folder, **case.settings)
    shape, device = read_shape(case.config), devices.cpu()
    chosen, _ = resolve(asked, shape, device, lengths)
    assumed = plan(chosen, shape, device, lengths, learnt=learnt)
    begin = time.perf_counter()
    measured = probed(case.config, assumed)
    seconds = time.perf_counter() - begin
    without, said = assumed.tokens_per_second, measured.tokens_per_second
    assert said is not None
    assert without is not None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    actual = _actual(ours(folder, data, chosen, chosen.batch_size))
    return {
        "predicted": said, "actual": actual, "ratio": said / actual, "probe_seconds": seconds,
        "without_probe": without / actual,
    }  # fmt: skip


def _actual(trainer: Any) -> float:
    """Tokens per second over all steps but the first, as a run's metrics have them."""
    from transformers import PrinterCallback, TrainerCallback

    rows: list[tuple[float, float]] = []

    class Meter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "tokens_per_second" in logs:
                rows.append((logs["tokens"], logs["tokens"] / logs["tokens_per_second"]))

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Meter())
    trainer.train()
    rows = rows[1:]
    return sum(tokens for tokens, _ in rows) / sum(seconds for _, seconds in rows)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of students")
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    found: dict[str, Any] = {}
    for name, case in cases().items():
        if asked.names and name not in asked.names:
            continue
        pairs = []
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["XDG_CACHE_HOME"] = str(Path(temporary) / "cache")
            folder = Path(temporary) / "student"
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(AutoConfig.for_model(**case.config)).save_pretrained(
                folder
            )
            tokenizer(folder, 320)
            for number in range(asked.pairs):
                os.environ["XDG_CACHE_HOME"] = str(Path(temporary) / f"cache{number}")
                pairs.append(pair(case, folder))
                print(name, {key: round(value, 3) for key, value in pairs[-1].items()}, flush=True)
        found[name] = {"pairs": pairs, "ratio": statistics.median(p["ratio"] for p in pairs)}
    if not asked.names:
        record = {
            "cores": len(os.sched_getaffinity(0)),
            "students": found,
            "provenance": provenance(0),
        }
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
