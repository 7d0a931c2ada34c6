"""Two processes on the CPU learn what one learns, fail as one, and end as one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import training
from safetensors.torch import load_file, save_file
from training import kill_at, run, spawn

from finetune.train import Trained, train
from tracestill.recipe.finetune import Launch, Lora
from tracestill.records import Progress

DDP, FSDP = Launch(gpus=2), Launch(gpus=2, strategy="fsdp")
# Three rows a step: no step's can be divided by two, and the last of an epoch has fewer.
COMMON: dict[str, Any] = {"batch_size": 3, "micro_batch": 1, "holdout": 0.2}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(folder: Path, name: str = "loss") -> list[float]:
    return [row[name] for row in rows(folder / "metrics.jsonl")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def run_together(folder: Path, launch: Launch, **values: Any) -> tuple[Trained, list[int]]:
    """Figures and the steps that were told of."""
    chosen = training.settings(**{**COMMON, "launch": launch, **values})
    told: list[int] = []
    made = train(
        training.examples(), chosen, student=chosen.student, template=training.TEMPLATE,
        folder=folder, seed=0, progress=lambda event: told.append(event.done),
    )  # fmt: skip
    return made, told


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    run(folder, **COMMON)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes that hold the whole model each."""
    folder = tmp_path_factory.mktemp("together")
    made, told = run_together(folder, DDP)
    assert told == list(range(1, made.figures.steps + 1))
    assert made.figures.samples + made.figures.heldout_samples == 24
    return folder


def check_same(one: Path, other: Path) -> None:
    assert len(curve(one)) > 4
    for name in ("loss", "loss_reasoning", "loss_answer"):
        assert curve(other, name) == pytest.approx(curve(one, name), rel=1e-5)
    # Clipping needs the norm over all processes.
    assert curve(other, "grad_norm") == pytest.approx(curve(one, "grad_norm"), rel=1e-4)
    assert curve(other, "learnt_tokens") == curve(one, "learnt_tokens")
    for first, second in zip(
        rows(one / "heldout.jsonl"), rows(other / "heldout.jsonl"), strict=True
    ):
        assert second == pytest.approx(first, rel=1e-5)
    # No closer: Adam makes a whole step, here up to 3e-3, of what rounding leaves of a gradient
    # that is nearly nothing.
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    apart = torch.cat([(first[key] - second[key]).abs().flatten() for key in first])
    assert float(apart.mean()) < 1e-5
    assert float(apart.max()) < 1e-3


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(alone: Path, together: Path) -> None:
    check_same(alone, together)


@pytest.mark.slow
def test_two_processes_that_share_the_weights_learn_what_one_learns(
    alone: Path, tmp_path: Path
) -> None:
    made, _ = run_together(tmp_path, FSDP)  # the export's checks have looked at it
    check_same(alone, tmp_path)
    assert made.figures.export.adapter_kept is not None
    assert made.figures.export.adapter_kept > 0.99
    # Where accelerate does not shard, it keeps the whole model in each process without a word.
    assert (tmp_path / "checkpoints" / "checkpoint-4" / "pytorch_model_fsdp.bin").is_file()


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature student with an output layer of its own."""
    folder = tmp_path_factory.mktemp("untied") / "student"
    folder.mkdir()
    for path in training.STUDENT.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    held = load_file(folder / "model.safetensors")
    held["lm_head.weight"] = held["model.embed_tokens.weight"].clone()
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"method": "full", "learning_rate": 1e-4},
        {"gradient_checkpointing": True, "lora": Lora(rank=1, alpha=2)},
    ],
    ids=["full", "recomputed"],
)
@pytest.mark.parametrize("launch", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_an_untied_output_layer_is_there_in_every_process(
    untied: Path, tmp_path: Path, launch: Launch, values: dict[str, Any]
) -> None:
    values = {**values, "student": str(untied), "epochs": 1}
    run(tmp_path / "one", **{**COMMON, **values})
    run_together(tmp_path / "two", launch, **values)
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-5)


@pytest.mark.slow
def test_sharded_weights_in_bfloat16_keep_losses_and_gradients_in_float32(tmp_path: Path) -> None:
    values = {"dtype": "bfloat16", "epochs": 1}
    run_together(tmp_path / "ddp", DDP, **values)
    run_together(tmp_path / "fsdp", FSDP, **values)
    # Rounded to bfloat16, which has 8 bits, a loss would be off by up to 4e-3 of it, and a gradient
    # would lead elsewhere.
    assert curve(tmp_path / "fsdp") == pytest.approx(curve(tmp_path / "ddp"), rel=1e-4)


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=30)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def in_words(launch: Launch) -> str:
    return f"launch=training.settings(launch={launch.model_dump()!r}).launch, " + ", ".join(
        f"{name}={value!r}" for name, value in COMMON.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("launch", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_a_killed_group_leaves_no_process_and_ends_in_the_same_weights(
    together: Path, tmp_path: Path, launch: Launch
) -> None:
    whole = together
    if launch == FSDP:
        whole = tmp_path / "whole"
        run_together(whole, FSDP)
    cut = tmp_path / "cut"
    parent = spawn(cut, in_words(launch))
    assert parent.stdout
    assert parent.stdout.readline() == "1\n"
    members = children(parent.pid)
    assert len(members) == 2
    kill_at(parent, 5)
    assert gone(members)
    # Both find what a kill left half written, and only one removes it.
    torn = cut / "checkpoints" / "checkpoint-6"
    torn.mkdir()
    (torn / "optimizer.pt").write_bytes(b"torn")
    made, _ = run_together(cut, launch)
    assert made.figures.resumed_from_step == 4
    assert curve(cut) == curve(whole)
    one, other = weights(whole), weights(cut)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Children that were started are gone afterwards."""
    before = set(children(os.getpid()))
    yield
    assert gone([child for child in children(os.getpid()) if child not in before])


@pytest.mark.slow
@pytest.mark.usefixtures("no_process_left")
def test_an_error_of_all_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no_such_layer") as told:
        run_together(tmp_path, DDP, lora=Lora(rank=8, alpha=16, targets=["no_such_layer"]))
    assert "\n" not in str(told.value)
    assert "Traceback" not in capfd.readouterr().err
    assert "train_here" in "".join(told.value.__notes__), "where it was raised is for the log"


@pytest.mark.slow
@pytest.mark.usefixtures("no_process_left")
def test_the_error_of_the_first_that_failed_is_told_and_not_what_it_did_to_the_others(
    tmp_path: Path,
) -> None:
    chosen = training.settings(**COMMON, launch=DDP)

    def hinder(event: Progress) -> None:
        # Where the second process will write a file.
        (tmp_path / "checkpoints" / "checkpoint-4" / "rng_state_1.pth").mkdir(
            parents=True, exist_ok=True
        )

    with pytest.raises(RuntimeError, match="Is a directory"):
        train(
            training.examples(), chosen, student=chosen.student, template=training.TEMPLATE,
            folder=tmp_path, seed=0, progress=hinder,
        )  # fmt: skip
    assert not (tmp_path / "checkpoints" / "checkpoint-4" / "complete.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_process_left")
def test_a_process_that_is_killed_takes_the_others_along(tmp_path: Path) -> None:
    chosen = training.settings(**COMMON, launch=DDP)

    def kill(event: Progress) -> None:
        second = [p for p in children(os.getpid()) if p.cmdline()[4:6] == ["1", "2"]]
        for process in second:
            process.kill()

    with pytest.raises(RuntimeError, match=r"^process 2 of 2 was ended by SIGKILL; .*memory$"):
        train(
            training.examples(), chosen, student=chosen.student, template=training.TEMPLATE,
            folder=tmp_path, seed=0, progress=kill,
        )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    parent = spawn(tmp_path, in_words(DDP))
    assert parent.stdout
    assert parent.stdout.readline() == "1\n"
    members = children(parent.pid)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=30) != 0
    assert gone(members)


def test_fewer_gpus_than_asked_for_are_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"launch\.gpus: 2 are asked for and 1 can be seen"):
        run_together(tmp_path, DDP, student="no/such")
    assert time.monotonic() - begin < 5
    assert not list(tmp_path.iterdir())


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="weights in 4 bits can't be sharded"):
        training.settings(launch=FSDP, quantize="nf4")
    assert training.settings(launch=DDP, quantize="nf4").launch.gpus == 2
