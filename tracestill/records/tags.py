"""The tags between which models write their reasoning."""

from __future__ import annotations

# What begins and ends the reasoning, by the teachers that write it so.
PAIRS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ and most others
    ("<thinking>", "</thinking>"),  # students of Claude's traces
    ("<thought>", "</thought>"),  # Gemini behind its OpenAI-compatible endpoint
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, Bespoke-Stratos, OpenThoughts
    ("◁think▷", "◁/think▷"),  # Kimi
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<mm:think>", "</mm:think>"),  # MiniMax-M3
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    (  # gpt-oss: what ends the reasoning begins the answer
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
)
