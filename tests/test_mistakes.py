"""What goes wrong ends in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import run_tracestill


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--set", "generate.model=/nowhere/teacher"], "/nowhere/teacher does not exist"),
        (["--set", "generate.sampels=2"], "did you mean samples?"),
        (["--from", "sampling"], "the stages are problems, generate"),
        (["--from", "report", "--to", "filter"], "comes after"),
        (["--set", "problems.train.0.family=chain_sums"], "no family 'chain_sums'"),
    ],
)
def test_a_mistake_is_one_line(
    recipe: Path, tmp_path: Path, options: list[str], expected: str
) -> None:
    done = run_tracestill("run", recipe, "--out", tmp_path / "run", *options)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rum"], "No such command 'rum'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "x.yaml", "--form", "filter"], "No such option"),
        (["run", "x.yaml"], "there is no recipe x.yaml"),
        (["status", "nowhere"], "is no run"),
    ],
)
def test_a_mistyped_command_is_one_line(arguments: list[str], expected: str) -> None:
    done = run_tracestill(*arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_words_the_help_is_shown() -> None:
    done = run_tracestill()
    assert "Usage" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_a_student_with_another_vocabulary_is_one_line(
    recipe: Path, copied: Path, root: Path, tmp_path: Path
) -> None:
    before = {s: (copied / s / "manifest.json").read_bytes() for s in ("generate", "filter")}
    student = Path(shutil.copytree(root / "miniature" / "student", tmp_path / "student"))
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    options = ("--set", f"finetune.student={student}", "--to", "finetune")
    done = run_tracestill("run", recipe, "--out", copied, *options)
    assert done.returncode == 1
    assert "the tokenizer belongs to another model" in done.stderr
    assert "Traceback" not in done.stderr
    for stage in ("generate", "filter"):
        assert (copied / stage / "manifest.json").read_bytes() == before[stage]


@pytest.mark.parametrize(
    ("stage", "module"),
    [("generate", "vllm"), pytest.param("finetune", "trl", marks=pytest.mark.slow)],
)
def test_a_missing_extra_is_one_line(
    recipe: Path, copied: Path, tmp_path: Path, stage: str, module: str
) -> None:
    before = (copied / "generate" / "journal.jsonl").read_bytes()
    said = f"No module named {module!r}"
    hidden = f"raise ModuleNotFoundError({said!r}, name={module!r})\n"
    (tmp_path / f"{module}.py").write_text(hidden)
    changes = ("--set", "generate.samples=4") if stage == "generate" else ("--from", stage)
    done = run_tracestill("run", recipe, "--out", copied, *changes, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert f"{stage} failed: {module} is not installed: `make setup`" in done.stderr
    assert "Traceback" not in done.stderr
    assert (copied / "generate" / "journal.jsonl").read_bytes() == before
