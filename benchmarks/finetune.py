"""The speed of training: `python benchmarks/finetune.py [ROW …]`.

Rows, by default all: `speed` (learnt tokens/s beside plain trl, padded as in open-r1's recipe and
with trl's own best packing; a Qwen2 of 50 million parameters, R1-like lengths scaled down by 16),
`fill` (of rows of 32,768 tokens), `packed` (the loss of packed and unpacked samples). Each runs in
a process of its own and updates its part of benchmarks/results/finetune.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # else this file would be what `finetune` names

from finetune_peers import lengths, ours, samples, settings, timed, tokenizer, trl

from finetune.packing import batch, pack, tensors
from finetune.sample import Sample
from finetune.student import load_student
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
VOCABULARY = 32_000
SCALE = 16
LONGEST = 32_768 // SCALE
CHOSEN: dict[str, Any] = {"max_length": LONGEST, "dtype": "float32", "micro_batch": 1}


def student(folder: Path) -> Path:
    """A Qwen2 of 50 million parameters with random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1_408, num_hidden_layers=12,
        num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=32_768, sliding_window=None, use_sliding_window=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer(folder, VOCABULARY)
    return folder


def speed(repeats: int) -> dict[str, Any]:
    """Learnt tokens/s of the three ways, in turn, on the same samples."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    made: dict[str, Any] = {"parameters": 0, "runs": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = student(Path(temporary) / "student")
        data = samples(48, 0, SCALE, VOCABULARY)
        learnt = sum(len(s.input_ids) - s.prompt for s in data)
        made["samples"], made["learnt_tokens"] = len(data), learnt
        made["tokens"] = sum(len(s.input_ids) for s in data)
        for checkpointing in (True, False):
            chosen = settings(folder, **CHOSEN, gradient_checkpointing=checkpointing)
            ways: dict[str, Callable[[], Any]] = {
                "tracestill": functools.partial(ours, folder, data, chosen),
                "trl, padded": functools.partial(trl, folder, data, chosen, packing=False),
                "trl, packed": functools.partial(trl, folder, data, chosen, packing=True),
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(repeats):
                for name, way in ways.items():
                    trainer = way()
                    made["parameters"] = sum(
                        p.numel() for p in trainer.model.parameters() if not p.requires_grad
                    )
                    seconds, _losses = timed(trainer)
                    rates[name].append(learnt / seconds)
                    print(checkpointing, name, round(rates[name][-1]), flush=True)
            mine = rates["tracestill"]
            key = "gradient_checkpointing" if checkpointing else "without checkpointing"
            made["runs"][key] = {
                "learnt_tokens_per_second": {n: statistics.median(v) for n, v in rates.items()},
                "each": rates,
                "times": {
                    name: statistics.median(a / b for a, b in zip(mine, v, strict=True))
                    for name, v in rates.items()
                    if name != "tracestill"
                },
            }
        made["first_loss"] = _first_losses(folder, data[:16])
    return made


def _first_losses(folder: Path, data: Sequence[Sample]) -> dict[str, float]:
    """The loss of one step over the same 16 samples, before anything is learnt."""
    chosen = settings(folder, **CHOSEN, gradient_checkpointing=False, learning_rate=0.0)
    found = {
        "tracestill": timed(ours(folder, data, chosen))[1],
        "trl, padded": timed(trl(folder, data, chosen, packing=False))[1],
    }
    return {name: losses[0] for name, losses in found.items()}


def fill(_: int) -> dict[str, Any]:
    """How much of rows of 32,768 tokens is filled, and how long packing takes."""
    made = {}
    for count in (2_000, 20_000, 200_000):
        sizes = [prompt + completion for prompt, completion in lengths(count, 1)]
        begin = time.perf_counter()
        rows = pack(sizes, 32_768)
        seconds = time.perf_counter() - begin
        made[f"{count:,} samples"] = {
            "fill": sum(sizes) / (len(rows) * 32_768), "rows": len(rows), "seconds": seconds,
            "mean_tokens": sum(sizes) / count,
        }  # fmt: skip
    return made


def packed(_: int) -> dict[str, Any]:
    """The mean loss of the same samples, each alone and all in packed rows."""
    import torch

    from finetune.loss import add_token_loss

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = student(Path(temporary) / "student")
        data = samples(48, 2, SCALE, VOCABULARY)
        for kind in ("packed", "sdpa", "eager"):
            loaded = load_student(str(folder), settings(folder, **CHOSEN, attention=kind), LONGEST)
            add_token_loss(loaded.model)
            rows = pack([len(sample.input_ids) for sample in data], LONGEST)

            def total(groups: Sequence[list[int]], loaded: Any = loaded) -> tuple[float, int]:
                loss, learnt = 0.0, 0
                for group in groups:
                    made, _ = tensors(batch(data, [group]), loaded.layout, 0, "cpu")
                    with torch.no_grad():
                        loss += float(loaded.model(**made)[1].double().sum())
                    learnt += int((made["shift_labels"] != -100).sum())
                return loss, learnt

            together, learnt = total(rows)
            alone, same = total([[index] for index in range(len(data))])
            assert learnt == same, "packing learns the same tokens"
            found[kind] = {
                "packed": together / learnt, "unpacked": alone / learnt,
                "difference": abs(together - alone) / learnt,
            }  # fmt: skip
    return found


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {"speed": speed, "fill": fill, "packed": packed}


def main() -> None:
    """Measure the rows that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        result = {**ROWS[options.child](options.repeats), "provenance": provenance(0)}
        print("RESULT " + json.dumps(result))
        return
    target = ROOT / "benchmarks" / "results" / "finetune.json"
    results = json.loads(target.read_text()) if target.exists() else {}
    for row in options.rows:
        command = [sys.executable, __file__, "--child", row, "--repeats", str(options.repeats)]
        output = ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            for line in child.stdout:
                print(line[:2000], end="")
                output = line
        assert child.returncode == 0, f"{row} failed"
        results[row] = json.loads(output.removeprefix("RESULT "))
        target.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
