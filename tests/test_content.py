"""What files and models are: by their content, whatever their size, name and time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracestill.records import content
from tracestill.records.content import (
    file_fingerprint,
    folder_fingerprint,
    hub_commit,
    model_fingerprint,
)


@pytest.fixture(autouse=True)
def small_files_are_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(content, "_REMEMBERED", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights of a teacher")
    return folder


def test_a_copied_model_is_the_same_model(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy", copy_function=shutil.copyfile))
    assert model_fingerprint(str(copy), None) == model_fingerprint(str(model), None)
    moved = model.rename(tmp_path / "moved")
    assert folder_fingerprint(moved) == folder_fingerprint(copy)


def test_other_weights_of_like_size_and_time_are_another_model(model: Path) -> None:
    before = folder_fingerprint(model)
    weights = model / "model.safetensors"
    stat = weights.stat()
    weights.write_bytes(b"weights of a student")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.stat().st_size == stat.st_size
    assert folder_fingerprint(model) != before


def test_a_file_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = model / "model.safetensors"
    first = file_fingerprint(weights)
    monkeypatch.setattr(content, "_hash", lambda path: pytest.fail(f"{path} is read again"))
    assert file_fingerprint(weights) == first


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"/a": [1]}'])
def test_a_torn_cache_is_made_again(model: Path, tmp_path: Path, text: str) -> None:
    weights = model / "model.safetensors"
    first = file_fingerprint(weights)
    cache = tmp_path / "cache" / "tracestill" / "hashes.json"
    assert cache.is_file()
    cache.write_text(text)
    assert file_fingerprint(weights) == first


def test_a_card_is_no_part_of_a_model(model: Path) -> None:
    before = folder_fingerprint(model)
    (model / "README.md").write_text("better known now")
    assert folder_fingerprint(model) == before


def test_a_branch_of_the_hub_is_the_commit_that_it_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's cache on this machine has it, where the hub is not to be asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    references = tmp_path / "models--some--model" / "refs"
    references.mkdir(parents=True)
    assert hub_commit("some/model", None) is None
    unknown = model_fingerprint("some/model", None)
    (references / "main").write_text("a" * 40)
    at_a = model_fingerprint("some/model", None)
    assert at_a != unknown
    assert (
        at_a == model_fingerprint("some/model", "main") == model_fingerprint("some/model", "a" * 40)
    )
    (references / "main").write_text("b" * 40)
    assert model_fingerprint("some/model", None) != at_a


def test_a_hub_that_is_not_reached_leaves_the_cache_to_decide(tmp_path: Path) -> None:
    references = tmp_path / "models--some--model" / "refs"
    references.mkdir(parents=True)
    (references / "main").write_text("a" * 40)
    code = (
        "from tracestill.records.content import hub_commit; print(hub_commit('some/model', None))"
    )
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, **nowhere, "HF_HUB_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.strip() == "a" * 40, done.stderr


def test_the_hub_is_asked_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, constants

    asked: list[str] = []

    def model_info(self: HfApi, model: str, **_: object) -> SimpleNamespace:
        asked.append(model)
        return SimpleNamespace(sha="c" * 40)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", model_info)
    assert [hub_commit("asked/once", None) for _ in range(3)] == ["c" * 40] * 3
    assert asked == ["asked/once"]
