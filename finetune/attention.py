"""Causal attention within each sample of a packed row."""

from __future__ import annotations

from typing import Any

PACKED = "tracestill_packed"


def register() -> None:
    """Register `PACKED` with transformers.

    It runs torch's own causal kernels on one sample at a time, so that a row costs what its samples
    cost, without a mask, which for 32,768 tokens would take a gigabyte and rule out the fast
    kernels. The samples' lengths come as the model's keyword argument `segments`, in row order.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, _attend)
    AttentionMaskInterface.register(PACKED, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: list[int] | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attention outputs of shape (1, tokens, heads, head size), from queries, keys and values of
    shape (1, heads, tokens, head size).
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    assert attention_mask is None, "packed rows come without a mask"
    lengths = segments or [query.shape[2]]
    assert query.shape[0] == 1, "one row"
    assert sum(lengths) == query.shape[2], "the row is its samples"
    assert sliding_window is None or sliding_window >= max(lengths), "see `supports`"
    grouped = query.shape[1] != key.shape[1]
    parts = []
    for q, k, v in zip(
        query.split(lengths, dim=2), key.split(lengths, dim=2), value.split(lengths, dim=2),
        strict=True,
    ):  # fmt: skip
        attended = scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped
        )
        parts.append(attended.transpose(1, 2))
    return torch.cat(parts, dim=1), None


def supports(config: Any, longest: int) -> bool:
    """Whether `PACKED` can replace a model's attention for samples of up to `longest` tokens: plain
    causal attention in every layer, no shorter sliding window, no capped scores.
    """
    text = config.get_text_config()
    plain, window = {"full_attention"}, getattr(text, "sliding_window", None)
    if window is None or window >= longest:
        plain.add("sliding_attention")
    # Mistral's first has a window in every layer, and no list of their kinds.
    every = "full_attention" if window is None else "sliding_attention"
    kinds = set(getattr(text, "layer_types", None) or [every])
    softcap = getattr(text, "attn_logit_softcapping", None)
    return kinds <= plain and softcap is None and getattr(text, "is_causal", True)
