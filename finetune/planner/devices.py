"""Devices: their memory, its bandwidth, and their peak speed."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# A card of so many GB has so many GiB, less what its driver keeps.
_DRIVER = 0.985


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """`memory` is in bytes; `flops` are per second, dense, in bfloat16 (on a CPU float32);
    `bandwidth` is its memory's in bytes per second. Both are None if only the memory is known.
    `bfloat16` says whether it multiplies bfloat16 in hardware: a CPU that does not is several times
    slower with it than with float32.
    """

    name: str
    memory: int
    flops: float | None
    bandwidth: float | None
    cuda: bool = True
    bfloat16: bool = True


# Name, GB, TFLOPS, TB/s. From the makers' data sheets: dense bfloat16 with float32 accumulation
# (of consumer cards half of what is printed for float16), SXM where a card comes in both forms.
# Less sure: A10G (clocks of its one cloud) and RTX PRO 6000 (only sparse figures are printed).
_CARDS: tuple[tuple[str, float, float, float], ...] = (
    ("B200", 180, 2250, 7.7),
    ("H200", 141, 989, 4.8),
    ("H100 PCIe", 80, 756, 2.0),
    ("H100 NVL", 94, 835, 3.9),
    ("H100", 80, 989, 3.35),
    ("A100 80GB", 80, 312, 2.04),
    ("A100 40GB", 40, 312, 1.56),
    ("L40S", 48, 362, 0.864),
    ("L40", 48, 181, 0.864),
    ("L4", 24, 121, 0.3),
    ("A40", 48, 150, 0.696),
    ("A30", 24, 165, 0.933),
    ("A10G", 24, 70, 0.6),
    ("A10", 24, 125, 0.6),
    ("RTX PRO 6000", 96, 504, 1.79),
    ("RTX 6000 Ada", 48, 364, 0.96),
    ("RTX A6000", 48, 155, 0.768),
    ("RTX A5000", 24, 111, 0.768),
    ("RTX 5090", 32, 210, 1.79),
    ("RTX 5080", 16, 113, 0.96),
    ("RTX 4090", 24, 165, 1.01),
    ("RTX 4080", 16, 97, 0.717),
    ("RTX 3090", 24, 71, 0.936),
)
# Short names.
_ALIASES = {"a100": "A100 80GB", "a6000": "RTX A6000", "4090": "RTX 4090", "3090": "RTX 3090",
            "5090": "RTX 5090", "6000ada": "RTX 6000 Ada"}  # fmt: skip
_WITHOUT = ("v100", "tesla", "t4", "p100", "rtx20", "gtx")  # no bfloat16
_CPUINFO = Path("/proc/cpuinfo")
_PRODUCTS = {"avx512_bf16", "amx_bf16", "bf16"}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:gb|gib|g)", re.IGNORECASE)


def named(name: str) -> Device:
    """The device that `--gpu` names: a card, or an amount of memory such as `24GB`.

    Raises:
        ValueError: the card is not in the table.

    """
    if size := _SIZE.fullmatch(name.strip()):
        gigabytes = float(size[1])
        return Device(
            name=f"a GPU of {gigabytes:g} GB", memory=_bytes(gigabytes), flops=None, bandwidth=None
        )
    if device := _card(name):
        return device
    if "".join(_words(name)).removeprefix("nvidia").startswith(_WITHOUT):
        raise ValueError(f"--gpu {name}: it has no bfloat16, which training on a GPU uses here")
    known = ", ".join(card[0] for card in _CARDS)
    raise ValueError(f"--gpu {name}: not known; write its memory, as 24GB, or one of {known}")


def _card(name: str) -> Device | None:
    """The card whose words are all in a name, that with the most words: drivers say more than data
    sheets (NVIDIA A100-SXM4-80GB), people less.
    """
    joined = "".join(_words(name))
    words = set(_words(_ALIASES.get(joined, name)))
    fitting = [
        card
        for card in _CARDS
        if set(_words(card[0])) <= words or "".join(_words(card[0])) == joined
    ]
    if not fitting:
        return None
    title, gigabytes, flops, bandwidth = max(fitting, key=lambda card: len(_words(card[0])))
    return Device(
        name=title, memory=_bytes(gigabytes), flops=flops * 1e12, bandwidth=bandwidth * 1e12
    )


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _bytes(gigabytes: float) -> int:
    return int(gigabytes * 2**30 * _DRIVER)


def here() -> Device:
    """The first GPU of this machine, or else its CPU, without importing torch."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        said = ""
    if not said:
        return cpu()
    name, _, mebibytes = said.splitlines()[0].rpartition(",")
    return from_driver(name, int(float(mebibytes) * 2**20))


def from_driver(name: str, memory: int) -> Device:
    """A GPU as its driver describes it; its speed is the table's, if the table has it."""
    card = _card(name)
    return Device(
        name=name.strip(),
        memory=memory,
        flops=card.flops if card else None,
        bandwidth=card.bandwidth if card else None,
    )


def cpu() -> Device:
    """The CPU of this machine, measured by a matrix product and a copy."""
    import numpy as np
    import psutil

    some = np.ones((768, 768), dtype=np.float32)
    wide = np.ones(2**23, dtype=np.float32)
    product = copy = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        some @ some
        middle = time.perf_counter()
        wide.copy()
        product = min(product, middle - begin)
        copy = min(copy, time.perf_counter() - middle)
    return Device(
        name="this machine's CPU",
        memory=int(psutil.virtual_memory().total),
        flops=2 * 768**3 / product,
        bandwidth=2 * wide.nbytes / copy,
        cuda=False,
        bfloat16=multiplies_bfloat16(_CPUINFO),
    )


def multiplies_bfloat16(cpuinfo: Path) -> bool:
    """Whether Linux's list of a CPU's features has products of bfloat16: AVX-512's or AMX's on x86,
    `bf16` on ARM. Without such a list it is taken to have none.
    """
    try:
        said = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    features = re.search(r"^(?:flags|Features)\s*:(.*)$", said, re.MULTILINE)
    return bool(features and _PRODUCTS & set(features[1].split()))
