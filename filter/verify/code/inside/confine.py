"""Put a process into fresh namespaces and take from it all that a program does not need."""

from __future__ import annotations

import ctypes
import os
import resource

from filter.verify.code.inside import runner

PROCESSES = 16  # and threads
FILES = 64
_TMPFS = f"size={runner.FILE_BYTES},nr_inodes=512,mode=0700".encode()
_NAME = b"sandbox"  # a new namespace begins with the machine's
_EMPTY = b"size=4k,nr_inodes=1,mode=0555"

# mount, cgroup, UTS, IPC, user, process ids, network
_NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def _check(what: str, code: int) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare() -> None:
    """Enter new namespaces of every kind; the process ids' holds from the next child on."""
    uid, gid = os.getuid(), os.getgid()
    _check("new namespaces", libc.unshare(_NAMESPACES))
    for name, text in [
        ("setgroups", "deny"),
        ("uid_map", f"1000 {uid} 1"),
        ("gid_map", f"1000 {gid} 1"),
    ]:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def confine(seconds: float, memory: int, system_calls: bytes) -> None:
    """In new namespaces: mount an empty /tmp and /proc, then give up every right for good.
    `system_calls` is the seccomp filter as BPF instructions.

    Raises:
        OSError: something was refused. What was to be confined must not run then.

    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check("mount /tmp", libc.mount(b"tmpfs", b"/tmp", b"tmpfs", flags, _TMPFS))
    _check("mount /proc", libc.mount(b"tmpfs", b"/proc", b"tmpfs", flags | _MS_RDONLY, _EMPTY))
    os.chdir("/tmp")
    _check("host name", libc.sethostname(_NAME, len(_NAME)))
    runner.limit(
        {
            resource.RLIMIT_AS: memory,
            resource.RLIMIT_CPU: int(seconds) + 2,
            resource.RLIMIT_NPROC: PROCESSES,
            resource.RLIMIT_NOFILE: FILES,
            resource.RLIMIT_FSIZE: runner.FILE_BYTES + 1,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_SIGPENDING: PROCESSES,
        }
    )
    _empty_bounding_set()
    _drop_capabilities()
    _filter(system_calls)


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check("no capabilities", libc.capset(header, (ctypes.c_uint32 * 6)()))
    _check("no new privileges", libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def _filter(system_calls: bytes) -> None:
    program = ctypes.byref(_Program(len(system_calls) // 8, system_calls))
    code = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)
    _check("system call filter", code)


def _empty_bounding_set() -> None:
    """No program that is started can come to have a capability that this process has not."""
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if capability < 30:  # fewer than any kernel has: refused, not at the end
        raise OSError("the capabilities' bounding set can't be emptied")


def become(uid: int) -> None:
    """Change to an unprivileged user, for good. All capabilities go with the change."""
    _empty_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # Without this the new user may not write /proc/self/uid_map.
    _check("dumpable", libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))


def die_with_parent() -> None:
    """Have the kernel end this process with its parent."""
    _check("die with parent", libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0))
