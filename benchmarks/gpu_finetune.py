"""The speed of training on a GPU: `python benchmarks/gpu_finetune.py [CASE …]`.

A case is `SHAPE/METHOD/TOKENS`: one of Qwen2.5's shapes with random weights, LoRA (`none`), QLoRA
(`nf4`) or `full`, and the tokens of a row. This project's trainer and plain trl packed take turns,
each in a process of its own: tokens/s, MFU, the most that was allocated, and what the planner said
before. The learning rate is 0, so that both must have the same mean loss. What does not fit is
recorded as such. Writes benchmarks/results/gpu_finetune.json after each training. The case
`tiny/none/256` tries the script out, also without a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # else benchmarks/finetune.py would be what `finetune` names

from finetune_peers import lengths, ours, settings, timed, tokenizer, trl

from finetune.sample import Sample

ROOT = Path(__file__).parent.parent
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1_024,
        "tie_word_embeddings": True,
    },
    "1.5B": {
        "hidden_size": 1_536, "intermediate_size": 8_960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3_584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
CASES = [
    f"{shape}/{method}/{tokens}"
    for shape in ("1.5B", "7B")
    for method in ("none", "nf4")
    for tokens in (8_192, 16_384, 32_768)
]
ROWS, PER_STEP = 6, 1  # rows of a training, and of an optimiser step


def student(folder: Path, shape: str) -> Path:
    """A Qwen2 with random weights in bfloat16."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        **SHAPES[shape], max_position_embeddings=32_768, sliding_window=None,
        use_sliding_window=False, dtype="bfloat16",
    )  # fmt: skip
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        made = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)
    made.save_pretrained(folder)
    del made
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what is measured needs the room, in another process
    tokenizer(folder, 1_000)
    return folder


def rows_of(tokens: int, vocabulary: int) -> list[Sample]:
    """Samples of R1-like lengths, a row of `tokens` filled to its end by the last one."""
    import numpy as np

    generator = np.random.default_rng(0)
    made: list[Sample] = []
    for row in range(ROWS):
        left = tokens
        for prompt, completion in lengths(1_000, row):
            length = min(prompt + completion, left)
            if left - length < 64:
                length = left
            ids = generator.integers(10, vocabulary, length).astype(np.int32)
            begin = min(prompt, length // 2)
            made.append(Sample(trace_id=f"{row}-{left}", input_ids=ids, prompt=begin,
                               answer=begin + (length - begin) * 9 // 10))  # fmt: skip
            left -= length
            if not left:
                break
    return made


def one(options: argparse.Namespace) -> dict[str, Any]:
    """A training of `ROWS` steps in this process."""
    import torch
    from transformers import AutoConfig

    from finetune.sizing import size_up
    from finetune.step import peak_memory
    from tracestill.run.provenance import provenance

    folder, tokens = Path(options.student), options.tokens
    method = options.method
    chosen = settings(
        folder, max_length=tokens, quantize="nf4" if method == "nf4" else "none",
        method="full" if method == "full" else "lora", batch_size=PER_STEP, learning_rate=0.0,
        liger=options.liger,
    )  # fmt: skip
    config = AutoConfig.from_pretrained(folder)
    data = rows_of(tokens, config.vocab_size)
    sizing = size_up(chosen, config, [len(sample.input_ids) for sample in data])
    plan = sizing.plan
    assert plan is not None, "a Qwen2"
    found: dict[str, Any] = {"way": options.way, "provenance": provenance(0)}
    try:
        if options.way == "tracestill":
            trainer = ours(folder, data, sizing.settings, PER_STEP)
        else:
            trainer = trl(
                folder, data, sizing.settings, packing=True, per_step=PER_STEP,
                attention=options.attention, liger=options.liger,
            )  # fmt: skip
        stamps: list[float] = []
        own = trainer.training_step

        def training_step(*args: Any, **kwargs: Any) -> Any:
            loss = own(*args, **kwargs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            stamps.append(time.perf_counter())
            return loss

        trainer.training_step = training_step
        _, losses = timed(trainer)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {**found, "out_of_memory": str(error)[:300]}
    # The first step loads kernels.
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    seconds = statistics.median(steps)
    all_tokens = [len(sample.input_ids) for sample in data]
    learnt = sum(len(sample.input_ids) - sample.prompt for sample in data)
    least = sizing.ideal_seconds(all_tokens, learnt)
    return {
        **found,
        "tokens_per_second": tokens / seconds,
        "learnt_tokens_per_second": learnt / ROWS / seconds,
        "mfu": least and least / ROWS / seconds,
        "peak_bytes": peak_memory(),
        "loss": sum(losses) / len(losses),
        "step_seconds": [round(step, 3) for step in steps],
        "gradient_checkpointing": sizing.settings.gradient_checkpointing,
        "planned": {
            "bytes": plan.memory.allocated,
            "tokens_per_second": plan.tokens_per_second,
        },
    }


def main() -> None:
    """Measure what is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="SHAPE/METHOD/TOKENS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=["tracestill", "trl"])
    parser.add_argument("--attention", default="sdpa", help="trl's")
    parser.add_argument("--liger", action="store_true", help="with Liger's kernels, in both")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    for name in ("way", "student", "method"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print("RESULT " + json.dumps(one(options)))
        return
    target = options.out / "gpu_finetune.json"
    results: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for case in options.cases:
            shape, method, tokens = case.split("/")
            folder = Path(temporary) / shape
            if not folder.exists():
                student(folder, shape)
            made = results.setdefault(case + ("/liger" if options.liger else ""), [])
            for _ in range(options.repeats):
                for way in options.ways:
                    made.append(_child(options, way, folder, method, tokens))
                    print(case, {k: v for k, v in made[-1].items() if k != "provenance"})
                    target.write_text(json.dumps(results, indent=2) + "\n")


def _child(
    options: argparse.Namespace, way: str, folder: Path, method: str, tokens: str
) -> dict[str, Any]:
    command = [
        sys.executable, __file__, "--way", way, "--student", str(folder), "--method", method,
        "--tokens", tokens, "--attention", options.attention,
        *(["--liger"] if options.liger else []),
    ]  # fmt: skip
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = round(time.monotonic() - begin, 1)
    if done.returncode:
        return {"way": way, "failed": done.returncode, "said": done.stderr[-2_000:]}
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    return {**made, "process_seconds": seconds}


if __name__ == "__main__":
    main()
