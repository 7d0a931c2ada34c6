"""Students of the planner's tests: sizes and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracestill.recipe.finetune import FinetuneSection

ROOT = Path(__file__).parent.parent


STUDENT = ROOT / "miniature" / "student"


SMALL: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 256,
    "max_position_embeddings": 8192, "hidden_act": "silu", "sliding_window": None,
}  # fmt: skip


QWEN_7B: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "vocab_size": 152064, "tie_word_embeddings": False, "max_position_embeddings": 131072,
}  # fmt: skip


QWEN_1_5B: dict[str, Any] = {
    **QWEN_7B, "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip


def settings(**values: Any) -> FinetuneSection:
    return FinetuneSection(student="", template="", **values)


def small(kind: str, **values: Any) -> dict[str, Any]:
    window = 4096 if kind in ("gemma3_text", "ministral", "olmo3") else None
    made = {"model_type": kind, "tie_word_embeddings": kind != "llama", "pad_token_id": 0, **SMALL}
    return {**made, "sliding_window": window, **values}
