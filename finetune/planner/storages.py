"""Count the bytes of living tensors, real or fake, as CUDA's caching allocator counts them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_BLOCK = 512


@dataclass(slots=True)
class Phase:
    """The most bytes that lived during a part of a step."""

    peak: int


def storage_counter() -> Any:
    """The class `Storages`; torch is imported late."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class Storages(TorchDispatchMode):  # type: ignore[misc]
        """The bytes of all living storages made under it, and their peak. `learnt` is the number of
        learnt tokens, which fake tensors do not know; tensors in `there` are not counted.
        """

        def __init__(self, learnt: int | None = None, there: Iterable[Any] = ()) -> None:
            super().__init__()
            self.live = self.peak = 0
            self.at = ""
            self._phase = Phase(0)
            self._learnt = learnt
            self._seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary(
                {tensor.untyped_storage(): 0 for tensor in there}
            )

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            chosen = self._learnt is not None and func is torch.ops.aten.index.Tensor
            if chosen and args[1][0].dtype == torch.bool:
                # The mask has no content. A device lists the chosen tokens first.
                mask = args[1][0]
                found = torch.empty(self._learnt, mask.dim(), dtype=torch.long)
                args = (args[0], list(found.unbind(1)))
            made = func(*args, **(kwargs or {}))
            for tensor in tree_iter(made):
                if isinstance(tensor, torch.Tensor):
                    self._add(tensor.untyped_storage())
            now = self.live + _inside(func, args)
            self._phase.peak = max(self._phase.peak, now)
            if now > self.peak:
                self.peak, self.at = now, str(func)
            return made

        @contextmanager
        def phase(self) -> Iterator[Phase]:
            """Measure the block's peak alone."""
            self._phase = Phase(self.live)
            yield self._phase

        def _add(self, storage: Any) -> None:
            if storage not in self._seen:
                size = -(-storage.nbytes() // _BLOCK) * _BLOCK
                self._seen[storage] = size
                self.live += size
                weakref.finalize(storage, self._drop, size)

        def _drop(self, size: int) -> None:
            self.live -= size

    return Storages


def _inside(func: Any, args: Any) -> int:
    """The bytes that a kernel allocates internally."""
    name = str(func)
    if name.startswith("bitsandbytes.gemm_4bit"):
        # With more than some hundred rows the weight is dequantised to the input's dtype, and its
        # blocks' scales to float32.
        count = args[2][0] * args[2][1]
        return int(count * args[0].element_size() + count // 64 * 4)
    return 0
