"""The group of processes that train together; a process alone is the first of one."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

# A group ends when a process dies, which its parent sees at once; the longest wait is for the first
# process to measure the student.
_PATIENCE = timedelta(hours=12)
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def join(rank: int, world: int, meeting: Path) -> None:
    """Become process `rank` of `world` on this machine, with GPU number `rank` if there are GPUs.

    The processes find each other by the file `meeting`, so that no port is open to others.
    """
    # What accelerate and transformers read.
    os.environ |= dict(zip(_NAMES, map(str, (rank, rank, world, world)), strict=True))
    if os.path.exists("/sys/class/net/lo"):  # macOS has another name for it
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(
        backend, init_method=meeting.as_uri(), rank=rank, world_size=world, timeout=_PATIENCE
    )


def world() -> int:
    """The number of processes that train together."""
    import torch

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes files."""
    import torch

    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def wait() -> None:
    """Block until every process has called this."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(torch.zeros(1))  # on the CPU: waits for no GPU's work


def agreed(value: float | None) -> float | None:
    """The first process's value, in every process: what depends on it is decided alike, though
    another's may differ in the last digits.
    """
    import torch

    if not torch.distributed.is_initialized():
        return value
    told = torch.tensor([math.nan if value is None else value], dtype=torch.float64)
    torch.distributed.broadcast(told, 0)
    return None if told.isnan() else float(told)


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Run the block in the first process before the others run it."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def leave() -> bool:
    """End the group, in every process; the first continues alone.

    Returns:
        Whether this is the first.

    """
    import torch

    first = is_first()
    if torch.distributed.is_initialized():
        wait()
        torch.distributed.destroy_process_group()
        for name in _NAMES:
            os.environ.pop(name, None)
    return first
