"""The filter of system calls, for each architecture, run as the kernel would run it."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import struct

import pytest

from filter.verify.code.seccomp import REFUSED, allowed, compile_filter

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
CLONE_NEWUSER, CLONE_THREAD = 0x10000000, 0x10000


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel returns for a call: an interpreter of the instructions that a filter uses."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    place = value = 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        match code:
            case 0x06:
                return int(operand)
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x15:
                place += if_true if value == operand else if_false
            case 0x35:
                place += if_true if value >= operand else if_false
            case 0x45:
                place += if_true if value & operand else if_false
            case _:
                raise AssertionError(f"instruction {code:#x}")


@pytest.fixture(params=AUDIT_ARCH)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def resolve() -> ctypes.CDLL:
    """libseccomp's own numbers, of any architecture on any machine."""
    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("compares with libseccomp, which is not installed")
    function = ctypes.CDLL(name).seccomp_syscall_resolve_name_arch
    function.argtypes, function.restype = [ctypes.c_uint32, ctypes.c_char_p], ctypes.c_int
    return function


def test_each_call_is_treated_as_it_is_named(machine: str, resolve: ctypes.CDLL) -> None:
    arch, program = AUDIT_ARCH[machine], compile_filter(machine)
    numbers = {name: resolve(arch, name.encode()) for name in (*allowed(machine), *REFUSED)}
    assert min(numbers.values()) >= 0, "a name that this architecture does not have"
    for name in allowed(machine):
        assert run(program, arch, numbers[name]) == ALLOW, name
    for name in REFUSED:
        assert run(program, arch, numbers[name]) == EPERM, name
    special = {resolve(arch, f"{n}".encode()) for n in ("clone", "fcntl", "ioctl", "prctl")}
    special.add(resolve(arch, b"socketpair"))
    others = set(range(500)) - set(numbers.values()) - special
    assert {run(program, arch, number) for number in others} == {ENOSYS}


def test_some_calls_are_allowed_by_their_arguments(machine: str, resolve: ctypes.CDLL) -> None:
    arch, program = AUDIT_ARCH[machine], compile_filter(machine)

    def call(name: str, *arguments: int) -> int:
        return run(program, arch, resolve(arch, name.encode()), *arguments)

    assert call("clone", CLONE_THREAD) == ALLOW
    assert call("clone", CLONE_NEWUSER | CLONE_THREAD) == EPERM
    assert call("fcntl", 3, 1) == ALLOW  # F_GETFD
    assert call("fcntl", 3, 8) == ERRNO | errno.EINVAL  # F_SETOWN
    assert call("ioctl", 0, 0x5401) == ALLOW  # TCGETS
    assert call("ioctl", 0, 0x5412) == ERRNO | errno.ENOTTY  # TIOCSTI
    assert call("prctl", 15) == ALLOW  # PR_SET_NAME
    assert call("prctl", 4) == EPERM  # PR_SET_DUMPABLE
    assert call("socketpair", 1) == ALLOW  # AF_UNIX
    assert call("socketpair", 2) == EPERM


def test_calls_of_another_architecture_end_the_program(machine: str) -> None:
    program = compile_filter(machine)
    for arch in {*AUDIT_ARCH.values(), 0x40000003} - {AUDIT_ARCH[machine]}:
        assert run(program, arch, 0) == KILL
    assert run(program, AUDIT_ARCH[machine], 0x40000000) == KILL  # x32


def test_a_machine_without_a_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="no system call filter for riscv64, only for x86_64"):
        compile_filter("riscv64")
