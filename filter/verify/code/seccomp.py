"""The system calls that a sandboxed program may make, compiled to a seccomp filter.

`system_calls.yaml` lists what is allowed: what it does not name fails with ENOSYS, as on a kernel
that does not know it, so that libraries fall back on what they know. Not on it: sockets, `execve`,
mounts, namespaces, `ptrace`, other processes' memory, keys, `bpf`, `io_uring`, shared memory that
no limit counts (`memfd_create`, System V), `sendmsg` (a descriptor in flight in a socket outlives
its process), locks (they would hold the machine's own files), and all that needs privileges.
"""

from __future__ import annotations

import errno
import struct
from functools import cache
from pathlib import Path

REFUSED = ("socket", "execve", "execveat")  # with EPERM, so that a program can tell why

_ARCHITECTURES = {"x86_64": ("x86_64", 0xC000003E), "aarch64": ("arm64", 0xC00000B7)}
_NEW_NAMESPACES = 0x7E020000
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_FCNTLS = (0, 1, 2, 3, 4, 1030, 1032)
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_AF_UNIX = 1

_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


@cache
def allowed(machine: str) -> list[str]:
    """The names of the calls that a program may make on a machine."""
    import yaml

    table = yaml.safe_load(Path(__file__).with_name("system_calls.yaml").read_text())
    names: list[str] = (table["everywhere"] + " " + table[machine]).split()
    return names


def compile_filter(machine: str) -> bytes:
    """The filter as the kernel's BPF instructions for a machine (`platform.machine()`), with the
    numbers that the package system-calls has from the kernel's tables.

    Raises:
        ValueError: there is no filter for such a machine.

    """
    from system_calls import syscalls  # type: ignore[import-untyped]

    if machine not in _ARCHITECTURES:
        known = " and ".join(_ARCHITECTURES)
        raise ValueError(f"there is no system call filter for {machine}, only for {known}")
    table, audit_arch = _ARCHITECTURES[machine]
    numbers = syscalls().load_arch_table(table)
    parts = [
        _instruction(_LOAD, _ARCH),
        _instruction(_EQUAL, audit_arch, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_GREATER_EQUAL, 0x40000000, 0, 1),  # x32 calls by other numbers
        _instruction(_RETURN, _KILL),
    ]
    for name in allowed(machine):
        parts += [_instruction(_EQUAL, numbers[name], 0, 1), _instruction(_RETURN, _ALLOW)]
    parts += [
        _instruction(_EQUAL, numbers["clone"], 0, 4),
        _instruction(_LOAD, _ARGUMENTS),
        _instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _instruction(_RETURN, _ERRNO | errno.EPERM),
        _instruction(_RETURN, _ALLOW),
        _only_with(numbers["fcntl"], 1, _FCNTLS, errno.EINVAL),
        _only_with(numbers["ioctl"], 1, _IOCTLS, errno.ENOTTY),
        _only_with(numbers["prctl"], 0, (_PR_SET_NAME, _PR_GET_NAME), errno.EPERM),
        _only_with(numbers["socketpair"], 0, (_AF_UNIX,), errno.EPERM),
    ]
    for name in REFUSED:
        refused = _instruction(_RETURN, _ERRNO | errno.EPERM)
        parts += [_instruction(_EQUAL, numbers[name], 0, 1), refused]
    # clone3 takes its flags from memory, where no filter can read them; libc then takes clone.
    parts.append(_instruction(_RETURN, _ERRNO | errno.ENOSYS))
    return b"".join(parts)


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _only_with(number: int, argument: int, values: tuple[int, ...], refusal: int) -> bytes:
    """Allow a call only where the low half of an argument is one of the values."""
    checks = b"".join(
        _instruction(_EQUAL, value, 0, 1) + _instruction(_RETURN, _ALLOW) for value in values
    )
    load = _instruction(_LOAD, _ARGUMENTS + 8 * argument)
    body = load + checks + _instruction(_RETURN, _ERRNO | refusal)
    return _instruction(_EQUAL, number, 0, len(body) // 8) + body
