"""What files, folders and models are, by their content.

The hash of a large file is kept in a cache of the user's, beside the file's size, times and inode,
so that weights are read once.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracestill.records.files import write_atomic
from tracestill.records.identity import digest

_REMEMBERED = 16 * 2**20  # bytes from which a file's hash is kept
_MOST = 10_000  # hashes in the cache, the newest

_Known = tuple[int, int, int, int, str]
"""Of a file its size, times of modification and of change (in nanoseconds), inode, and hash."""


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    stat = path.stat()
    if stat.st_size < _REMEMBERED:
        return _hash(path)
    # A change that restores size and modification time still changes the time of the change.
    state = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    name = str(path.resolve())
    known = _read_cache().get(name)
    if known is not None and known[:-1] == state:
        return known[-1]
    made = _hash(path)
    cache = _read_cache()
    cache.pop(name, None)
    cache[name] = (*state, made)
    _write_cache(dict(list(cache.items())[-_MOST:]))
    return made


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where this user's caches lie: what is there can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tracestill"


def _cache_path() -> Path:
    return cache_folder() / "hashes.json"


def _read_cache() -> dict[str, _Known]:
    try:
        return msgspec.json.decode(_cache_path().read_bytes(), type=dict[str, _Known])
    except (OSError, msgspec.MsgspecError):  # derived: what is missing or torn is made again
        return {}


def _write_cache(cache: dict[str, _Known]) -> None:
    try:
        write_atomic(_cache_path(), msgspec.json.encode(cache))
    except OSError:  # a home that can't be written costs time, not the run
        return


def file_fingerprint(path: Path) -> str:
    """A hash of a file's content, 20 hexadecimal digits."""
    return file_hash(path)[:20]


def folder_fingerprint(path: Path, skip: Iterable[str] = (".md",)) -> str:
    """A hash of a folder's files, by name and content, without those that end in `skip`."""
    endings = tuple(skip)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.endswith(endings))
    return digest("folder", [(p.relative_to(path).as_posix(), file_fingerprint(p)) for p in files])


def is_gguf(model: str) -> bool:
    """Whether a recipe names a GGUF file by `model`."""
    return model.lower().endswith(".gguf") and not Path(model).is_dir()


def model_fingerprint(model: str, revision: str | None) -> str:
    """What a model is: the content of its folder or GGUF file (an absolute path), or its name and
    commit on the hub; its name and revision where neither the hub nor its cache here tells the
    commit.

    Raises:
        ValueError: the folder or file does not exist or holds no model.

    """
    if not model.startswith("/"):
        return digest("hub", model, hub_commit(model, revision) or revision)
    if is_gguf(model):
        if not Path(model).is_file():
            raise ValueError(f"the GGUF file {model} does not exist")
        return file_fingerprint(Path(model))
    if not (Path(model) / "config.json").is_file():
        raise ValueError(f"the model folder {model} does not exist or has no config.json")
    return folder_fingerprint(Path(model))


def hub_commit(model: str, revision: str | None) -> str | None:
    """The commit that a branch or tag of a hub's model is now; as the cache on this machine has it
    where the hub can't be asked, None where that has none.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if revision is not None and len(revision) == 40:
        return revision
    if not constants.HF_HUB_OFFLINE and (commit := _commit_at_hub(model, revision)):
        return commit
    repository = repo_folder_name(repo_id=model, repo_type="model")
    reference = Path(constants.HF_HUB_CACHE) / repository / "refs" / (revision or "main")
    return reference.read_text().strip() if reference.is_file() else None


@functools.cache
def _commit_at_hub(model: str, revision: str | None) -> str | None:
    """As the hub says it, asked once a process: each stage's fingerprint wants to know."""
    import httpx2
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(model, revision=revision, timeout=10).sha
    except (httpx2.HTTPError, OSError):  # unreachable, or gated: what is here decides
        return None


def model_name(model: str) -> str:
    """A model's name for people: its id, or the last two parts of its folder's path."""
    return "/".join(Path(model).parts[-2:]) if model.startswith("/") else model
