"""What a process that trains with others has to know of them; alone, it is the first of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

# What ends a group is the death of a process, which its parent sees at once; who waits longest is
# waiting for the first to look at the student.
_PATIENCE = timedelta(hours=12)
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def join(rank: int, world: int, meeting: Path) -> None:
    """Become process `rank` of `world` on this machine, each with its own GPU where there are any.

    They meet in the file `meeting`, so that no port is open to others.
    """
    # What accelerate and transformers look for.
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
    """How many processes train together."""
    import torch

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes files."""
    import torch

    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def wait() -> None:
    """Go on when every process has come here."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(torch.zeros(1))  # on the CPU: no GPU's work is waited for


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process through the block before the others come to it."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def leave() -> bool:
    """End the group, in every process. The first goes on alone.

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
