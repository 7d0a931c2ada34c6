"""Stand-ins for a GPU's kernels, on fake tensors whose device is the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def kernels() -> Iterator[None]:
    """Attention as on a GPU, and autocast on for peft, which asks for CUDA's. It patches torch: no
    mode of torch reaches what checkpointing recomputes.
    """
    import torch
    from torch.nn import functional

    from finetune import attention as packed

    flash, attention = _flash(), functional.scaled_dot_product_attention
    takes_many, together = packed.takes_many, packed.attend_together
    dropout, enabled = functional.dropout, torch.is_autocast_enabled
    functional.scaled_dot_product_attention = lambda query, key, value, **_: flash.apply(
        query, key, value
    )
    packed.takes_many = lambda kind, dtype, size: takes_many("cuda", dtype, size)
    packed.attend_together = lambda query, key, value, *_: flash.apply(query, key, value).transpose(
        1, 2
    )
    # A GPU keeps a mask of bytes; a CPU would keep one of floats.
    functional.dropout = lambda values, p, training, *_: (
        torch.native_dropout(values, p, training)[0] if p > 0 else values
    )
    torch.is_autocast_enabled = lambda device="cpu": enabled(device)
    try:
        yield
    finally:
        packed.takes_many, packed.attend_together = takes_many, together
        functional.scaled_dot_product_attention = attention
        functional.dropout = dropout
        torch.is_autocast_enabled = enabled


def _flash() -> Any:
    """What torch's flash attention allocates (`mha_fwd`, `mha_bwd`): it keeps the output and a
    float per query and head; backward it sums the queries' gradient in float32, and has keys' and
    values' per query head.
    """
    import torch

    class Flash(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
            if torch.is_autocast_enabled("cpu"):
                dtype = torch.get_autocast_dtype("cpu")
                query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
            rows, heads, tokens, size = query.shape
            out = query.new_empty(rows, tokens, heads, size).transpose(1, 2)
            normaliser = torch.empty(rows, heads, tokens)
            ctx.save_for_backward(query, key, value, out, normaliser)
            return out

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            query, key, value, _, normaliser = ctx.saved_tensors
            rows, heads, tokens, size = query.shape
            made = [torch.empty_like(tensor) for tensor in (query, key, value)]
            inside = [torch.empty(rows, heads, tokens, size), torch.empty_like(normaliser)]
            if heads != key.shape[1]:
                inside += [query.new_empty(rows, tokens, heads, size) for _ in range(2)]
            del inside
            return tuple(made)

    return Flash


@contextlib.contextmanager
def offloading() -> Iterator[None]:
    """What trl's `OffloadActivations` leaves on the device: parameters, small tensors, and the last
    few tensors until they are copied.
    """
    import torch

    stash: dict[int, Any] = {}
    count = 0

    def pack(tensor: Any) -> Any:
        nonlocal count
        count += 1
        size = tensor.numel() * tensor.element_size()
        storage = id(tensor.untyped_storage())
        if isinstance(tensor, torch.nn.Parameter) or size < 1024:
            return tensor
        if any(id(other.untyped_storage()) == storage for other in stash.values()):
            return tensor
        for old in [number for number in stash if number <= count - 5]:
            del stash[old]
        stash[count] = tensor
        return tensor.shape, tensor.stride(), tensor.dtype

    def unpack(packed: Any) -> Any:
        stash.clear()
        if isinstance(packed, torch.Tensor):
            return packed
        shape, stride, dtype = packed
        return torch.empty_strided(shape, stride, dtype=dtype)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def quantise(model: Any, compute: Any) -> None:
    """Replace all linear layers but the last by bitsandbytes', as transformers does."""
    import torch

    try:
        import bitsandbytes
        from bitsandbytes.functional import QuantState
    except ModuleNotFoundError as error:
        raise ValueError("tracing nf4 needs bitsandbytes, of the extras `cpu` and `gpu`") from error

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not torch.nn.Linear or child is head:
                continue
            layer = bitsandbytes.nn.Linear4bit(
                child.in_features,
                child.out_features,
                bias=child.bias is not None,
                compute_dtype=compute,
                quant_type="nf4",
            )
            layer.compute_type_is_set = True
            if child.bias is not None:
                layer.bias = child.bias
            count = child.in_features * child.out_features
            blocks = -(-count // 64)
            # Double quantisation: a byte a block of 64, a float a block of 256 of those.
            outer = QuantState(torch.empty(-(-blocks // 256)), blocksize=256, dtype=torch.float32)
            outer.code = torch.empty(256)
            state = QuantState(
                torch.empty(blocks, dtype=torch.uint8),
                shape=torch.Size((child.out_features, child.in_features)),
                code=torch.empty(16),
                blocksize=64,
                quant_type="nf4",
                dtype=compute,
                offset=torch.empty(()),
                state2=outer,
            )
            layer.weight = bitsandbytes.nn.Params4bit(
                torch.empty((count + 1) // 2, 1, dtype=torch.uint8),
                requires_grad=False,
                quant_state=state,
                bnb_quantized=True,
                quant_type="nf4",
                module=layer,
            )
            layer.quant_state = state
            setattr(parent, name, layer)
    model.is_loaded_in_4bit = True
