from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tracestill.records import write_atomic

ROOT = Path(__file__).parent.parent

# No test may reach a hub: what is needed lies in the repository.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_configure() -> None:
    """Give each worker a core of its own: threads of torch and vLLM in two of them would wait for
    each other in turns. Where SIGINT is ignored, as in a shell's background, what the tests start
    would inherit that, and some of it is stopped by Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the run that all workers have in common first. A worker begins with a part
    of the list: so one makes that run, while the others do what does not need it.
    """
    items.sort(key=lambda item: "finished" not in getattr(item, "fixturenames", ()))


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


TINY = """\
name: tiny
seed: 0
problems:
  train:
    - {{source: reasoning_gym, family: chain_sum, size: 12, seed: 1, buckets: {{of: 10, keep: [1]}},
       config: {{min_terms: 6, max_terms: 8, min_digits: 1, max_digits: 1}}}}
    - {{source: reasoning_gym, family: ab, size: 8, seed: 1, buckets: {{of: 10, keep: [1]}},
       config: {{length: 10}}}}
  heldout:
    - {{source: reasoning_gym, family: chain_sum, size: 8, seed: 2, buckets: {{of: 10, keep: [0]}},
       config: {{min_terms: 6, max_terms: 8, min_digits: 1, max_digits: 1}}}}
generate:
  model: {root}/miniature/teacher
  samples: 3
  temperature: 1.0
  top_p: 1.0
  max_tokens: 200
  max_model_len: 256
finetune:
  student: {root}/miniature/student
  template: {root}/recipes/templates/miniature.jinja
  stop: "<|end|>"
  learning_rate: 0.003
  epochs: 2
  max_length: 256
  batch_size: 2
  checkpoint_every: 2
  holdout: 0.2
  monitor: {{every: 4, problems: 4, max_tokens: 96}}
"""


def run_tracestill(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, with `environment` added to the environment."""
    command = [sys.executable, "-m", "tracestill", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600, env=env)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a test run have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def recipe(shared: Path) -> Path:
    """A recipe of the whole line that takes a minute."""
    path = shared / "tiny.yaml"
    with FileLock(shared / "tiny.lock"):  # every worker writes it
        write_atomic(path, TINY.format(root=ROOT).encode())
    return path


@pytest.fixture(scope="session")
def finished(recipe: Path, shared: Path) -> Path:
    """A finished run of the tiny recipe. Tests read it; who changes it works on a copy."""
    folder = shared / "finished"
    with FileLock(shared / "finished.lock"):  # whichever worker comes first makes it
        if not (folder / "stdout.txt").exists():
            done = run_tracestill("run", recipe, "--out", folder)
            assert done.returncode == 0, done.stderr + done.stdout
            (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small student of each family, by its template's name."""
    from students import FAMILIES, make_student

    folder = tmp_path_factory.mktemp("students")
    return {name: make_student(name, folder / name) for name in FAMILIES}


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def ask(root: Path, tmp_path: Path) -> Callable[..., Any]:
    """Sample the miniature teacher through a journal that stays from call to call."""
    from asking import asks

    return asks(root, tmp_path / "journal.jsonl")
