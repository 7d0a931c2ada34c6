"""The system calls that a program in the cage may make, as a seccomp filter without a library.

A list of what is allowed: what it does not name fails with ENOSYS, as on a kernel that does not
know it, so that libraries fall back on what they know. Not on it: sockets, `execve`, mounts,
namespaces, `ptrace`, other processes' memory, keys, `bpf`, `io_uring`, shared memory that no
limit counts (`memfd_create`, System V), `sendmsg` (a descriptor under way in a socket outlives its
process), locks (they hold the machine's own files), and all that needs privileges.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

# Of each call its name and its numbers on x86_64 and aarch64, as in the kernel's unistd.h.
_BOTH = """
    read 0 63, write 1 64, close 3 57, fstat 5 80, lseek 8 62, mmap 9 222, mprotect 10 226,
    munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
    pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, sched_yield 24 124, mremap 25 216,
    msync 26 227, madvise 28 233, dup 32 23, nanosleep 35 101, getitimer 36 102, setitimer 38
    103, getpid 39 172, sendfile 40 71, sendto 44 206, recvfrom 45 207, shutdown 48 210,
    getsockname 51 204, getpeername 52 205, setsockopt 54 208, getsockopt 55 209, exit 60 93,
    wait4 61 260, kill 62 129, uname 63 160, fsync 74 82, fdatasync 75 83, truncate 76 45,
    ftruncate 77 46, getcwd 79 17, chdir 80 49, fchdir 81 50, fchmod 91 52, umask 95 166,
    gettimeofday 96 169, getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153,
    getuid 102 174, getgid 104 176, geteuid 107 175, getegid 108 177, setpgid 109 154, getppid
    110 173, setsid 112 157, getgroups 115 158, getresuid 118 148, getresgid 120 150, getpgid
    121 155, getsid 124 156, rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigqueueinfo 129
    138, rt_sigsuspend 130 133, sigaltstack 131 132, statfs 137 43, fstatfs 138 44,
    sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125,
    sched_get_priority_min 147 126, setrlimit 160 164, gettid 186 178, tkill 200 130, futex 202
    98, sched_getaffinity 204 123, getdents64 217 61, set_tid_address 218 96, restart_syscall
    219 128, fadvise64 221 223, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230
    115, exit_group 231 94, epoll_ctl 233 21, tgkill 234 131, waitid 247 95, openat 257 56,
    mkdirat 258 34, newfstatat 262 79, unlinkat 263 35, renameat 264 38, linkat 265 37,
    symlinkat 266 36, readlinkat 267 78, fchmodat 268 53, faccessat 269 48, pselect6 270 72,
    ppoll 271 73, set_robust_list 273 99, get_robust_list 274 100, utimensat 280 88, epoll_pwait
    281 22, timerfd_create 283 85, fallocate 285 47, timerfd_settime 286 86, timerfd_gettime 287
    87, signalfd4 289 74, eventfd2 290 19, epoll_create1 291 20, dup3 292 24, pipe2 293 59,
    prlimit64 302 261, getcpu 309 168, renameat2 316 276, getrandom 318 278, membarrier 324 283,
    statx 332 291, rseq 334 293, close_range 436 436, faccessat2 439 439, epoll_pwait2 441 441
"""
_X86_64 = """
    open 2, stat 4, lstat 6, poll 7, access 21, pipe 22, select 23, dup2 33, pause 34, alarm 37,
    fork 57, vfork 58, getdents 78, rename 82, mkdir 83, rmdir 84, creat 85, link 86, unlink 87,
    symlink 88, readlink 89, chmod 90, getpgrp 111, utime 132, arch_prctl 158, time 201,
    epoll_create 213, epoll_wait 232, eventfd 284
"""

_ARCHITECTURES = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}
_CLONE = {"x86_64": 56, "aarch64": 220}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
_REFUSED = {"x86_64": (41, 59, 322), "aarch64": (198, 221, 281)}  # socket, execve, execveat

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
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _numbers(machine: str) -> list[int]:
    column = _ARCHITECTURES[machine][1]
    rows = _BOTH.replace("\n", " ").split(",")
    if machine == "x86_64":
        rows += _X86_64.replace("\n", " ").split(",")
    return [int(row.split()[column]) for row in rows]


def _only_with(number: int, argument: int, values: tuple[int, ...], refusal: int) -> bytes:
    """Allow a call only where the low half of an argument is one of the values."""
    checks = b"".join(
        _instruction(_EQUAL, value, 0, 1) + _instruction(_RETURN, _ALLOW) for value in values
    )
    load = _instruction(_LOAD, _ARGUMENTS + 8 * argument)
    body = load + checks + _instruction(_RETURN, _ERRNO | refusal)
    return _instruction(_EQUAL, number, 0, len(body) // 8) + body


def program(machine: str) -> bytes:
    """The filter in the kernel's BPF for a machine (`platform.machine()`).

    Raises:
        OSError: there is no filter for such a machine.

    """
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"there is no system call filter for {machine}")
    parts = [
        _instruction(_LOAD, _ARCH),
        _instruction(_EQUAL, _ARCHITECTURES[machine][0], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_GREATER_EQUAL, 0x40000000, 0, 1),  # x32 calls by other numbers
        _instruction(_RETURN, _KILL),
    ]
    for number in _numbers(machine):
        parts += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    parts += [
        _instruction(_EQUAL, _CLONE[machine], 0, 4),
        _instruction(_LOAD, _ARGUMENTS),
        _instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _instruction(_RETURN, _ERRNO | errno.EPERM),
        _instruction(_RETURN, _ALLOW),
        _only_with(_FCNTL[machine], 1, _FCNTLS, errno.EINVAL),
        _only_with(_IOCTL[machine], 1, _IOCTLS, errno.ENOTTY),
        _only_with(_PRCTL[machine], 0, (_PR_SET_NAME, _PR_GET_NAME), errno.EPERM),
        _only_with(_SOCKETPAIR[machine], 0, (_AF_UNIX,), errno.EPERM),
    ]
    for number in _REFUSED[machine]:
        parts += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _ERRNO | errno.EPERM)]
    # clone3 takes its flags from memory, where no filter can read them; libc then takes clone.
    parts.append(_instruction(_RETURN, _ERRNO | errno.ENOSYS))
    return b"".join(parts)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def install(libc: ctypes.CDLL) -> None:
    """Filter the system calls of this process and all that come from it, for good.

    Raises:
        OSError: the kernel refuses, or there is no filter for this machine.

    """
    code = program(platform.machine())
    address = ctypes.byref(_Program(len(code) // 8, code))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system call filter was refused")
