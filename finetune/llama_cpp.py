"""llama.cpp's tools: its converter from source, its library through llama-cpp-python.

Both are of one release. The converter is no package: it is taken from llama-cpp-python's source
distribution, which holds the llama.cpp that the library is built from. `make gguf` fetches and
builds it; `LLAMA_CPP` names a checkout whose converter is used instead.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from tracestill.records.archives import Archive, fetch_archive
from tracestill.records.content import cache_folder

RELEASE = "0.3.36"
_SOURCE = Archive(
    package=f"llama-cpp-python=={RELEASE}",
    name=f"llama_cpp_python-{RELEASE}.tar.gz",
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
)
_CONVERTER = "convert_hf_to_gguf.py"
_PARTS = (_CONVERTER, "conversion/", "gguf-py/gguf/", "LICENSE")


def converter() -> Path:
    """The folder that holds llama.cpp's converter.

    Raises:
        ValueError: there is none on this machine, or no library of llama.cpp; one line with the
            fix.

    """
    named = os.environ.get("LLAMA_CPP")
    folder = Path(named) if named else cache_folder() / "llama.cpp" / RELEASE
    if not (folder / _CONVERTER).is_file():
        fix = "it names no checkout of llama.cpp" if named else "`make gguf` fetches it"
        raise ValueError(
            f"LLAMA_CPP: {fix}" if named else f"llama.cpp's converter is missing: {fix}"
        )
    if importlib.util.find_spec("llama_cpp") is None:
        raise ValueError(
            "GGUF files are made and checked by llama-cpp-python, which is missing: `make gguf` "
            "builds it (it needs cmake and a C++ compiler)"
        )
    return folder


def call(task: str, **values: Any) -> Any:
    """Let llama.cpp do a task of `finetune.llama_cpp_tasks` in a process of its own: it ends its
    process when it dislikes something, and its converter changes what Python imports.

    Raises:
        RuntimeError: it failed; the message is its last line.

    """
    done = subprocess.run(
        [sys.executable, "-m", "finetune.llama_cpp_tasks", task],
        input=json.dumps(values), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(f"llama.cpp failed to {task}: {lines[-1] if lines else 'no word'}")
    return json.loads(done.stdout.rpartition("\n\x00")[2])


def fetch() -> Path:
    """Fetch the converter, where it is not there yet.

    Raises:
        RuntimeError: the source distribution can't be had.

    """
    place = cache_folder() / "llama.cpp"
    folder, temporary = place / RELEASE, place / f".{RELEASE}.tmp"
    archive = fetch_archive(_SOURCE, place)
    if not folder.is_dir():
        root = f"llama_cpp_python-{RELEASE}/vendor/llama.cpp/"
        with tarfile.open(archive) as source:
            for member in source.getmembers():
                name = member.name.removeprefix(root)
                if name != member.name and name.startswith(_PARTS):
                    member.name = name
                    source.extract(member, temporary, filter="data")
        temporary.rename(folder)
    return archive


if __name__ == "__main__":
    print(fetch())
