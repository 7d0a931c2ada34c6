"""Small trainings of the miniature student, in this process and in others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from finetune.sample import Example
from finetune.train import Trained, train
from tracestill.recipe.finetune import FinetuneSection, Lora

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "recipes" / "templates" / "miniature.jinja"
STUDENT = ROOT / "miniature" / "student"


def settings(**values: Any) -> FinetuneSection:
    base: dict[str, Any] = {
        "student": str(STUDENT),
        "template": str(TEMPLATE),
        "think": "prefilled",
        "stop": "<|end|>",
        "learning_rate": 3e-3,
        "epochs": 2,
        "max_length": 128,
        "batch_size": 2,
        "lora": Lora(rank=8, alpha=16),
        "checkpoint_every": 4,
        "holdout": 0.0,
    }
    return FinetuneSection(**{**base, **values})


def examples(count: int = 24) -> list[Example]:
    return [
        Example(
            trace_id=f"t{n}",
            prompt=f"State the final answer to the following arithmetic problem: {n} + 1 + 2 =",
            reasoning=f" {n} + 1 + 2\n{n + 1} + 2\n{n + 3}\n",
            answer=f"The answer is \\boxed{{{n + 3}}}.",
        )
        for n in range(count)
    ]


def run(folder: Path, count: int = 24, seed: int = 0, **values: Any) -> Trained:
    chosen = settings(**values)
    return train(
        examples(count), chosen, student=chosen.student, template=TEMPLATE, folder=folder,
        seed=seed, progress=lambda event: print(event.done, flush=True),
    )  # fmt: skip


def spawn(folder: Path, values: str = "") -> subprocess.Popen[str]:
    """A training in a process of its own, which prints each step that it has made."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests'); import training\n"
        f"made = training.run(Path(sys.argv[1]), {values})\n"
        "print('resumed from', made.figures.resumed_from_step, flush=True)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def kill_at(process: subprocess.Popen[str], step: int) -> None:
    """Kill a training, as a machine that fails would, once it has made a step."""
    assert process.stdout
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= step:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
