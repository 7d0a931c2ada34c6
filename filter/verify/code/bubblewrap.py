"""The sandbox on this machine: bubblewrap around a warm interpreter that confines a process anew
for each job.

See docs/sandbox.md for what it protects from what.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filter.verify.code.inside.runner import Job
from filter.verify.code.seccomp import compile_filter

START_SECONDS = 20.0
MEMORY = 512 * 2**20
GRACE = 0.25  # seconds that the process inside has to enforce a limit before all of it is ended
HOW = "install bubblewrap (apt-get install bubblewrap)"

_INSIDE = Path(__file__).parent / "inside"
_HOME = "/sandbox"
_SERVE = (
    f"import sys; sys.path.insert(0, '{_HOME}'); "
    "from filter.verify.code.inside.zygote import main; main()"
)
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
_PROBE = """
import os, socket
try:
    socket.socket()
except PermissionError:
    os._exit(0)
os._exit(1)
"""
_ENVIRONMENT = {
    "PATH": "/usr/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0",  # no verdict depends on the order of a set
}  # fmt: skip
_DEVICES = ("null", "zero", "random", "urandom")


class NoSandboxError(Exception):
    """Programs can't be run in the sandbox; the message says why and what helps."""


class SandboxError(Exception):
    """The sandbox itself failed and can't be used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended: its exit code (negative: the signal), and why it was killed, if it
    was: `time`, `memory`, or `told` (by `Bubblewrap.stop`).
    """

    code: int
    why: str


class Bubblewrap:
    """One bubblewrap with its warm interpreter. It runs one job at a time.

    Raises:
        NoSandboxError: bubblewrap is missing, or it or the kernel refuses, or the machine is of an
            architecture that there is no system call filter for.

    """

    def __init__(self) -> None:
        executable = shutil.which("bwrap")
        if sys.platform != "linux" or executable is None:
            raise NoSandboxError(f"there is no bwrap: {HOW}")
        try:
            system_calls = compile_filter(platform.machine())
        except ValueError as error:
            raise NoSandboxError(str(error)) from None
        range_of_ids = _range_of_ids() if os.geteuid() == 0 else None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tempfile.TemporaryFile() as errors:
            with theirs:
                self._process = subprocess.Popen(
                    [executable, *_options(rootless=range_of_ids is None), "--", *_interpreter()],
                    stdin=theirs.fileno(),
                    stdout=errors,
                    stderr=errors,
                    env=_ENVIRONMENT,
                    start_new_session=True,  # Ctrl-C is for the parent, which ends this itself
                )
            self._control = ours
            self.busy = self.closed = False
            self._jobs = 0
            hello: dict[str, Any] = {
                "uid": None,
                "path": [_HOME + "/packages"],
                "system_calls": base64.b64encode(system_calls).decode(),
            }
            if range_of_ids is not None:  # its own for each, as long as this process lives
                hello["uid"] = range_of_ids // 2 + self._process.pid % (range_of_ids // 4)
            why = ""
            try:
                ours.settimeout(START_SECONDS)
                ours.send(json.dumps(hello).encode())
                ready = bool(ours.recv(64)) and self._confines()
            except (OSError, SandboxError) as error:
                ready, why = False, str(error)
            if not ready:
                self.close()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
                why = said.split("\n")[-1] or why or "it ended at once"
                raise NoSandboxError(
                    f"bwrap did not start ({why[:200]}): allow it user namespaces "
                    f"(sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces), or "
                    f"the container that this runs in CAP_SYS_ADMIN"
                )

    def _confines(self) -> bool:
        """Whether a confined process gets no socket; the filter is the last step of confining."""
        job: Job = {"mode": "program", "sources": [_PROBE], "prelude": False}
        with open(os.devnull, "r+b", buffering=0) as null:
            self.start(job, [null.fileno()] * 3, START_SECONDS)
            return self.ending() == Ending(code=0, why="")

    def start(self, job: Job, descriptors: list[int], seconds: float) -> None:
        """Start a job (see `inside.runner.run`) that may take `seconds`, with the descriptors
        for its standard input, output and errors.

        Raises:
            SandboxError: the sandbox has ended.

        """
        source = memory_file(json.dumps(job).encode())
        self._jobs += 1
        request = json.dumps({"number": self._jobs, "seconds": seconds, "memory": MEMORY}).encode()
        try:
            socket.send_fds(self._control, [request], [source, *descriptors])
        except OSError as error:
            raise SandboxError(f"the sandbox has ended: {error}") from None
        finally:
            os.close(source)
        self._end = time.monotonic() + seconds
        self.busy = True

    def stop(self) -> None:
        """Have the job killed."""
        with contextlib.suppress(OSError):  # then `ending` tells
            self._control.send(b"%d" % self._jobs)

    def ending(self) -> Ending:
        """Wait for the job's end. No process of it is left then.

        Raises:
            SandboxError: it could not be confined, or the sandbox failed; it is closed then.

        """
        self.busy = False
        self._control.settimeout(max(0.0, self._end - time.monotonic()) + GRACE)
        try:
            text = self._control.recv(1 << 12)
        except TimeoutError:  # a machine too busy for the zygote to keep time itself
            self.close()
            return Ending(code=-9, why="time")
        except OSError as error:
            text = str(error).encode()
        if not text.startswith(b"{"):
            self.close()
            raise SandboxError(f"the sandbox ended with code {self._process.returncode}")
        reply = json.loads(text)
        if "trouble" in reply:
            self.close()
            raise SandboxError(f"a program could not be confined: {reply['trouble']}")
        return Ending(**reply)

    def close(self) -> None:
        """End all processes in the sandbox, and the sandbox."""
        self.closed = True
        self._control.close()
        self._process.kill()
        self._process.wait()


def _range_of_ids() -> int | None:
    """How many user ids there are to choose from; None where too few to give each sandbox one."""
    sizes = [int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return min(sizes[0], 2**31) if len(sizes) == 1 and sizes[0] >= 2**16 else None


def _options(*, rootless: bool) -> list[str]:
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1"]
    if not rootless:
        # Root mounts, so that an interpreter in its home can be bound; the process inside then
        # becomes a user without rights, and each program gets a user namespace of its own.
        options.remove("--unshare-all")
        options += [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup-try")]
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        options += ["--cap-add", "CAP_SETPCAP"]
    for path in _SYSTEM:
        link = os.path.islink(path)
        options += ["--symlink", os.readlink(path), path] if link else ["--ro-bind-try", path, path]
    inside = f"{_HOME}/filter/verify/code/inside"
    for path in (sys.base_prefix, inside, f"{_HOME}/packages/numpy", "/dev/null", _SYSTEM[-1]):
        for folder in reversed(Path(path).parents[:-1]):  # else only their maker can look in
            options += ["--perms", "0755", "--dir", str(folder)]
    if not sys.base_prefix.startswith("/usr/"):
        options += ["--ro-bind", sys.base_prefix, sys.base_prefix]
    options += ["--ro-bind", str(_INSIDE), inside]
    for name, path in _numpy():
        options += ["--ro-bind", path, f"{_HOME}/packages/{name}"]
    for device in _DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    options += ["--symlink", "/tmp", "/dev/shm", "--dir", "/tmp", "--proc", "/proc"]
    return [*options, "--chdir", "/", "--remount-ro", "/"]


def _numpy() -> list[tuple[str, str]]:
    """The folders of numpy, the one library that benchmarks' programs use."""
    found = importlib.util.find_spec("numpy")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent
    both = [folder, folder.with_name("numpy.libs")]
    return [(path.name, str(path.resolve())) for path in both if path.is_dir()]


def _interpreter() -> list[str]:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = Path(sys.base_prefix, "bin", name)
    return [str(path), "-s", "-P", "-B", "-W", "ignore", "-c", _SERVE]


def memory_file(content: bytes) -> int:
    """A descriptor to read the content from. Unlike a pipe's, its size is known to a program."""
    writable = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        with open(writable, "wb", closefd=False) as file:
            file.write(content)
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)
