"""What a model is, to people and to fingerprints."""

from __future__ import annotations

from pathlib import Path

from tracestill.records import digest, folder_fingerprint


def model_content(path: str, revision: str | None) -> str:
    """What a model is: the content of its folder, or its name and revision on the hub.

    Raises:
        ValueError: the folder does not exist.

    """
    if not path.startswith("/"):
        return digest("hub", path, revision)
    if not (Path(path) / "config.json").is_file():
        raise ValueError(f"the model folder {path} does not exist or has no config.json")
    return folder_fingerprint(Path(path))


def model_name(path: str) -> str:
    """A model's name for people: its id, or the last two parts of its folder's path."""
    return "/".join(Path(path).parts[-2:]) if path.startswith("/") else path
