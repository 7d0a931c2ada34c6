"""The planner's memory against that of real steps: `python benchmarks/finetune_memory.py`.

Traces training steps on fake tensors (`finetune/planner/trace.py`), compares their peaks with what
the planner's formulas say, and writes benchmarks/results/finetune_memory.json. The shapes are those
of public models' config.json files. With a name it traces only the cases that hold it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.remove(str(Path(__file__).parent))  # it has a file that is named like `finetune`

from finetune.planner import read_shape
from finetune.planner.known_shapes import known_config
from finetune.planner.memory import memory
from finetune.planner.terms import Load
from finetune.planner.trace import trace_step
from tracestill.recipe.finetune import FinetuneSection
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "finetune_memory.json"
_COMMON = {"hidden_act": "silu", "max_position_embeddings": 131072, "tie_word_embeddings": False}


def _sizes(kind: str, hidden: int, wide: int, layers: int, heads: int, kv: int, words: int) -> Any:
    return {
        **_COMMON, "model_type": kind, "hidden_size": hidden, "intermediate_size": wide,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
        "vocab_size": words,
    }  # fmt: skip


CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen2.5-1.5B": {
        **_sizes("qwen2", 1536, 8960, 28, 12, 2, 151936), "tie_word_embeddings": True,
    },
    "Qwen2.5-7B": _sizes("qwen2", 3584, 18944, 28, 28, 4, 152064),
    "Qwen2.5-14B": _sizes("qwen2", 5120, 13824, 48, 40, 8, 152064),
    "Qwen2.5-32B": _sizes("qwen2", 5120, 27648, 64, 40, 8, 152064),
    "Qwen3-1.7B": {
        **_sizes("qwen3", 2048, 6144, 28, 16, 8, 151936),
        "head_dim": 128, "tie_word_embeddings": True,
    },
    "Qwen3-8B": {**_sizes("qwen3", 4096, 12288, 36, 32, 8, 151936), "head_dim": 128},
    "Llama-3.1-8B": {**_sizes("llama", 4096, 14336, 32, 32, 8, 128256), "head_dim": 128},
    "Mistral-7B-v0.3": {
        **_sizes("mistral", 4096, 14336, 32, 32, 8, 32768), "head_dim": 128, "sliding_window": None,
    },
    "Gemma-2B": {
        **_sizes("gemma", 2048, 16384, 18, 8, 1, 256000),
        "head_dim": 256, "tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh",
    },
}  # fmt: skip
_MORE = ("SmolLM3-3B", "gemma-3-1b", "gemma-3-4b", "Phi-4-mini", "Ministral-8B", "OLMo-2-1124-7B",
         "granite-3.3-2b")  # fmt: skip
CONFIGS |= {name: {**(known_config(name) or {}), "pad_token_id": 0} for name in _MORE}
CONFIGS["Ministral-8B"]["sliding_window"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step of two micro-batches, or of one; the row is `samples` samples of equal length."""

    model: str
    tokens: int
    settings: dict[str, Any]
    samples: int = 1
    bfloat16: bool = True
    micro_batches: int = 2


def _case(model: str, tokens: int, how: str, again: bool, **more: Any) -> Case:
    settings: dict[str, Any] = {
        "method": "full" if how == "full" else "lora",
        "quantize": "nf4" if how == "qlora" else "none",
        "gradient_checkpointing": again,
        **more.pop("settings", {}),
    }
    return Case(model=model, tokens=tokens, settings=settings, **more)


CASES = (
    _case("Qwen2.5-1.5B", 8192, "lora", True),
    _case("Qwen2.5-1.5B", 8192, "lora", False),
    _case("Qwen2.5-1.5B", 32768, "lora", True, settings={"activation_offload": True}),
    _case("Qwen2.5-1.5B", 8192, "qlora", False),
    _case("Qwen2.5-1.5B", 8192, "full", True),
    _case("Qwen2.5-1.5B", 8192, "full", False),
    _case("Qwen2.5-1.5B", 16384, "full", True, micro_batches=1),
    _case("Qwen2.5-1.5B", 8192, "lora", True, settings={"lora": {"dropout": 0.05}}),
    _case("Qwen2.5-1.5B", 8192, "lora", True, bfloat16=False),
    _case("Qwen2.5-7B", 16384, "lora", True),
    _case("Qwen2.5-7B", 32768, "qlora", True),
    _case("Qwen2.5-7B", 32768, "full", True),
    _case("Qwen2.5-14B", 16384, "lora", True),
    _case("Qwen2.5-14B", 8192, "qlora", True),
    _case("Qwen2.5-32B", 8192, "qlora", True),
    _case("Qwen2.5-32B", 32768, "lora", True),
    _case("Qwen3-1.7B", 8192, "full", False),
    _case("Qwen3-8B", 16384, "lora", True, samples=4),
    _case("Qwen3-8B", 32768, "qlora", True, samples=4),
    _case("Llama-3.1-8B", 8192, "lora", False),
    _case("Llama-3.1-8B", 16384, "full", True),
    _case("Mistral-7B-v0.3", 16384, "lora", True, settings={"activation_offload": True}),
    _case("Gemma-2B", 8192, "lora", True),
    _case("SmolLM3-3B", 8192, "lora", True),
    _case("gemma-3-1b", 4096, "lora", False),
    _case("gemma-3-4b", 4096, "qlora", True),
    _case("Phi-4-mini", 8192, "lora", True),
    _case("Phi-4-mini", 8192, "full", True),
    _case("Ministral-8B", 16384, "qlora", True),
    _case("OLMo-2-1124-7B", 4096, "lora", False),
    _case("OLMo-2-1124-7B", 4096, "full", True),
    _case("granite-3.3-2b", 8192, "lora", True),
)  # fmt: skip


def measure(case: Case) -> dict[str, Any]:
    """A case's two figures."""
    settings = FinetuneSection(student="", template="", **case.settings)
    config = CONFIGS[case.model]
    begin = time.monotonic()
    traced = trace_step(
        config, settings, [[case.tokens // case.samples] * case.samples],
        bfloat16=case.bfloat16, micro_batches=case.micro_batches,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    load = Load(
        tokens=case.tokens,
        learnt=case.tokens - case.samples,
        longest=case.tokens // case.samples,
        accumulates=case.micro_batches > 1,
    )
    said = memory(read_shape(config), settings, load, bfloat16=case.bfloat16)
    return {
        "model": case.model,
        "tokens": case.tokens,
        "samples": case.samples,
        "settings": case.settings,
        "bfloat16": case.bfloat16,
        "micro_batches": case.micro_batches,
        "traced_bytes": traced.peak,
        "traced_at": traced.at,
        "predicted_bytes": said.allocated,
        "error": round(said.allocated / traced.peak - 1, 4),
        "trace_seconds": round(seconds, 1),
    }


def main() -> None:
    """Trace, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="cases of models with this in the name")
    only = parser.parse_args().only
    rows = []
    for case in CASES:
        if only not in case.model:
            continue
        rows.append(measure(case))
        row = rows[-1]
        print(
            f"{row['model']:<16} {row['tokens']:>6,} {json.dumps(row['settings']):<95} "
            f"traced {row['traced_bytes'] / 2**30:7.2f} predicted "
            f"{row['predicted_bytes'] / 2**30:7.2f} GiB  {row['error']:+.1%}",
            flush=True,
        )
    worst = max(abs(row["error"]) for row in rows)
    print(f"{len(rows)} cases, the largest error {worst:.1%}")
    if not only:
        record = {"cases": rows, "largest_error": worst, "provenance": provenance(0)}
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
