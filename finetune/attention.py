"""Causal attention within each sample of a packed row."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

PACKED = "tracestill_packed"
# On a GPU, samples of at least so many tokens are attended one by one, by the kernel that torch
# chooses. On Hopper that is cuDNN's, up to 1.8 times as fast as flash attention, but it plans for
# 0.1 s for each new length (an H100, benchmarks/README.md): shorter samples do not earn that.
LONG = 16_384


def register() -> None:
    """Register `PACKED` with transformers.

    It runs torch's own causal kernels on each sample, so that a row costs what its samples cost,
    without a mask, which for 32,768 tokens would take a gigabyte and rule out the fast kernels. The
    samples' lengths come as the model's keyword argument `segments`, in row order.
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
    dtype = _dtype(query)
    flash = dropout == 0.0 and takes_many(query.device.type, dtype, query.shape[3])
    groups = list(_groups(lengths, LONG if flash else 0))
    sizes = [sum(group) for group in groups]
    parts = []
    for group, q, k, v in zip(
        groups, query.split(sizes, dim=2), key.split(sizes, dim=2), value.split(sizes, dim=2),
        strict=True,
    ):  # fmt: skip
        if flash and max(group) < LONG:
            parts.append(attend_together(q.to(dtype), k.to(dtype), v.to(dtype), group, scaling))
            continue
        attended = scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        parts.append(attended.transpose(1, 2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), None


def _groups(lengths: Sequence[int], long: int) -> Iterator[list[int]]:
    """Neighbours of less than `long` tokens together, the others alone."""
    for short, group in itertools.groupby(lengths, lambda length: length < long):
        neighbours = list(group)
        yield from [neighbours] if short else ([length] for length in neighbours)


def _dtype(query: Any) -> Any:
    """The dtype of attention: autocast's, which torch casts to by itself only for its own
    operations, or that of the queries.
    """
    import torch

    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def takes_many(kind: str, dtype: Any, size: int) -> bool:
    """Whether `attend_together` runs on a device of this kind, for heads of this size."""
    import torch

    return (
        kind == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and size % 8 == 0
        and size <= 256
    )


def attend_together(query: Any, key: Any, value: Any, lengths: list[int], scale: Any) -> Any:
    """Attention within each sample by one call of torch's flash attention, however many they are.
    Shapes as in `_attend`.
    """
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = _ends(tuple(lengths), query.device), max(lengths)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    made: Any = varlen_attn(
        q, k, v, ends, ends, longest, longest, scale=scale, window_size=(-1, 0), enable_gqa=True
    )
    return made[None]


@functools.lru_cache(maxsize=4)
def _ends(lengths: tuple[int, ...], device: Any) -> Any:
    """Where samples begin and end in their row; kept, since each layer asks."""
    import torch

    ends = list(itertools.accumulate(lengths, initial=0))
    return torch.tensor(ends, dtype=torch.int32, device=device)


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
