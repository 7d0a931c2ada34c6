"""How many epochs a training makes by itself, and which of its weights are exported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import training
from pydantic import ValidationError
from safetensors.torch import load_file
from training import kill_at, run, spawn

from finetune.keep import take_weights
from finetune.planner.rates import settle_rates
from finetune.planner.shape import read_shape
from finetune.saturation import AutoEpochs, auto_epochs, least_epochs
from tracestill.recipe.finetune import Launch, Lora
from tracestill.recipe.schema import Recipe
from tracestill.stages.finetune import settings as fingerprinted

# A rate at which nothing is learnt: every epoch is flat.
FLAT: dict[str, Any] = {"epochs": "auto", "learning_rate": 1e-9, "most_epochs": 9, "count": 12}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def after(accuracies: list[float], losses: list[float] | None = None, most: int = 16) -> AutoEpochs:
    """Epochs of ten steps with these token accuracies and held-out losses."""
    made = AutoEpochs(each=10, most=most, warmup=4)
    for number, accuracy in enumerate(accuracies):
        for _ in range(10):
            made.count(accuracy, 7)
        made.end_epoch(losses[number] if losses is not None else None)
    return made


def test_two_flat_epochs_end_a_training_and_a_single_one_does_not() -> None:
    rising = after([0.5, 0.6, 0.7])
    assert rising.saturated is None
    assert not rising.is_settled
    assert (rising.stable, rising.total) == (150, 160)
    # A dip in the middle, after which it rises again.
    assert after([0.5, 0.6, 0.59, 0.7, 0.8]).saturated is None
    # Up and down without getting above its best is no rise.
    assert after([0.5, 0.9, 0.85, 0.9]).saturated == 4
    flat = after([0.5, 0.9, 0.901, 0.902])
    assert flat.saturated == 4
    assert (flat.stable, flat.total) == (40, 50)
    assert after([0.5, 0.9, 0.901, 0.902, 0.99]).total == 50


def test_a_small_rise_near_the_top_is_still_learning() -> None:
    assert after([0.98, 0.985, 0.989]).saturated is None
    assert after([0.98, 0.9805, 0.981]).saturated == 3
    assert after([0.5, 0.504, 0.508]).saturated == 3
    assert after([0.5, 0.506, 0.512]).saturated is None
    assert after([1.0, 1.0, 1.0]).saturated == 3


def test_a_training_goes_on_while_the_heldout_loss_falls() -> None:
    flat = [0.9, 0.9, 0.9, 0.9]
    assert after(flat, [1.0, 0.9, 0.8, 0.7]).saturated is None
    assert after(flat, [1.0, 0.9, 0.9, 0.899]).saturated == 4
    assert after(flat, [1.0, 1.1, 1.2, 1.3]).saturated == 3


def test_the_rate_rises_stays_and_falls_to_zero_over_the_last_epoch() -> None:
    made = after([0.9, 0.9, 0.9])
    factors = [made.factor(step) for step in range(41)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(factors[5:31]) == {1.0}
    assert factors[30:41] == pytest.approx([1 - step / 10 for step in range(11)])
    # If nothing saturates, the last of the most epochs is the one with the falling rate.
    most = after([0.1, 0.3, 0.5], most=4)
    assert most.is_settled
    assert [most.factor(step) for step in (29, 30, 35, 40)] == pytest.approx([1, 1, 0.5, 0])


def test_a_training_says_why_it_ended() -> None:
    assert after([0.9, 0.981, 0.981, 0.981, 0.99]).why() == (
        "the token accuracy of training was saturated at 98.1% after 4 epochs; with the last, in "
        "which the rate fell to zero, 5 were made"
    )
    said = after([0.1, 0.3, 0.5, 0.7], most=4).why()
    assert said.startswith("the most epochs, 4, were made")
    assert said.endswith("raise finetune.most_epochs")
    assert (least_epochs(16), least_epochs(3)) == (4, 3)


def test_a_resumed_training_decides_as_it_would_have(tmp_path: Path) -> None:
    made = after([0.5, 0.9, 0.9], [1.0, 0.5, 0.5])
    made.count(0.75, 8)
    made.write(tmp_path)
    chosen = training.settings(epochs="auto", warmup=0.35)
    again = auto_epochs(chosen, 10, tmp_path)
    assert again == made
    assert auto_epochs(training.settings(), 10, tmp_path) is None


def test_a_training_ends_by_itself_and_measures_each_epoch(tmp_path: Path) -> None:
    made = run(tmp_path, **FLAT, holdout=0.3, checkpoint_every=1000)
    figures = made.figures
    seen = rows(tmp_path / "metrics.jsonl")
    each = figures.steps // 4
    assert (figures.epochs, figures.steps, len(seen)) == (4, 4 * each, 4 * each)
    assert "saturated" in figures.ended
    assert figures.ended in made.notes
    assert {row["learning_rate"] for row in seen[each : 3 * each]} == {1e-9}
    last = [row["learning_rate"] / 1e-9 for row in seen[3 * each :]]
    assert last == pytest.approx([1 - step / each for step in range(each)])
    assert [row["step"] for row in rows(tmp_path / "heldout.jsonl")] == [
        0, each, 2 * each, 3 * each, 4 * each,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.4, 0.85], ids=["before it is known", "as the rate falls"])
def test_a_killed_training_ends_after_as_many_epochs_in_the_same_weights(
    tmp_path: Path, share: float
) -> None:
    values = "12, epochs='auto', learning_rate=1e-9, most_epochs=9, holdout=0.3, checkpoint_every=1"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert spawn(whole, values).wait() == 0
    steps = len(rows(whole / "metrics.jsonl"))
    kill_at(spawn(cut, values), round(share * steps))
    assert spawn(cut, values).wait() == 0
    one, other = adapter(whole / "adapter"), adapter(cut / "adapter")
    assert all(torch.equal(one[key], other[key]) for key in one)
    for first, second in zip(
        rows(whole / "metrics.jsonl"), rows(cut / "metrics.jsonl"), strict=True
    ):
        for name in ("step", "loss", "accuracy", "learning_rate"):
            assert first[name] == second[name]
    # Once it is complete it makes no step again.
    assert run(cut, **FLAT, holdout=0.3, checkpoint_every=1).figures.resumed_from_step == steps


@pytest.mark.slow
def test_more_is_learnt_than_in_three_epochs(tmp_path: Path) -> None:
    fixed = run(tmp_path / "fixed", epochs=3, holdout=0.2, checkpoint_every=1000).figures
    made = run(tmp_path / "auto", epochs="auto", holdout=0.2, checkpoint_every=1000).figures
    assert made.epochs > fixed.epochs == 3
    one, other = rows(tmp_path / "fixed" / "heldout.jsonl"), rows(tmp_path / "auto/heldout.jsonl")
    assert other[-1]["heldout_loss"] < one[-1]["heldout_loss"]
    assert other[-1]["heldout_accuracy"] > one[-1]["heldout_accuracy"]


@pytest.mark.slow
def test_two_processes_end_after_as_many_epochs(tmp_path: Path) -> None:
    values = {**FLAT, "holdout": 0.3, "checkpoint_every": 4, "batch_size": 3}
    alone = run(tmp_path / "alone", **values).figures
    together = run(tmp_path / "together", **values, launch=Launch(gpus=2)).figures
    assert (together.epochs, together.steps) == (alone.epochs, alone.steps) == (4, alone.steps)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("keep", ["best", "average"])
def test_two_processes_keep_what_one_keeps(
    tmp_path: Path, strategy: Literal["ddp", "fsdp"], keep: str
) -> None:
    values: dict[str, Any] = {
        "count": 12, "keep": keep, "holdout": 0.3, "epochs": 2, "checkpoint_every": 1,
        "learning_rate": 0.05, "schedule": "constant", "warmup": 0, "dtype": "float32",
        "attention": "sdpa",
    }  # fmt: skip
    alone = run(tmp_path / "alone", **values).figures
    launch = Launch(gpus=2, strategy=strategy)
    together = run(tmp_path / "together", **values, launch=launch).figures
    assert together.kept.partition(":")[0] == alone.kept.partition(":")[0]
    one, other = adapter(tmp_path / "alone/adapter"), adapter(tmp_path / "together/adapter")
    apart = torch.cat([(one[key] - other[key]).abs().flatten() for key in one])
    assert float(apart.mean()) < 1e-3


def test_the_best_checkpoint_is_the_one_with_the_lowest_heldout_loss(tmp_path: Path) -> None:
    # At this rate the student learns in the first step and unlearns in the next ones.
    made = run(
        tmp_path, 12, keep="best", holdout=0.3, epochs=3, checkpoint_every=1, learning_rate=0.05,
        schedule="constant", warmup=0,
    )  # fmt: skip
    losses = {row["step"]: row["heldout_loss"] for row in rows(tmp_path / "heldout.jsonl")}
    del losses[0]  # it is trained in any case
    best = min(losses, key=lambda step: losses[step])
    assert best < made.figures.steps
    assert made.figures.kept.startswith(f"kept are the weights of step {best} of")
    assert made.figures.kept in made.notes
    kept = adapter(tmp_path / "checkpoints" / f"checkpoint-{best}")
    exported = adapter(tmp_path / "adapter")
    assert all(torch.equal(kept[key], exported[key]) for key in kept)


def test_the_average_is_that_of_the_last_checkpoints(tmp_path: Path) -> None:
    made = run(tmp_path, 12, keep="average", epochs=8, checkpoint_every=2)
    folders = sorted(
        (tmp_path / "checkpoints").glob("checkpoint-*"),
        key=lambda path: int(path.name.partition("-")[2]),
    )
    assert len(folders) == 3
    found, exported = [adapter(path) for path in folders], adapter(tmp_path / "adapter")
    for key, values in exported.items():
        mean = torch.stack([one[key] for one in found]).mean(dim=0)
        assert torch.allclose(values, mean, atol=1e-7)
    assert made.figures.kept.startswith("kept is the mean of the weights of steps ")
    # The product of means is near the mean of products, as the rate has fallen.
    for key in exported:
        if "lora_A" not in key:
            continue
        other = key.replace("lora_A", "lora_B")
        products = torch.stack([one[other] @ one[key] for one in found]).mean(dim=0)
        off = (exported[other] @ exported[key] - products).norm() / products.norm()
        assert float(off) < 0.01


def test_a_recipe_that_can_t_be_is_refused_in_a_line() -> None:
    with pytest.raises(ValidationError, match="schedule: cosine needs to know the end"):
        training.settings(epochs="auto", schedule="cosine")
    with pytest.raises(ValidationError, match="keep: best goes by held-out traces; set holdout"):
        training.settings(keep="best")


def test_a_best_checkpoint_needs_traces_that_are_held_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="raise holdout, or leave keep out"):
        run(tmp_path, 2, keep="best", holdout=0.001)


def fingerprint(**values: Any) -> dict[str, Any]:
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "problems": {
                "train": [{"source": "reasoning_gym", "family": "chain_sum", "size": 3}],
                "heldout": [{"source": "reasoning_gym", "family": "chain_sum", "size": 2}],
            },
            "generate": {"model": str(training.STUDENT)},
            "finetune": training.settings(**values).model_dump(),
        }
    )
    said: dict[str, Any] = fingerprinted(recipe)[0]
    return said


def test_what_was_trained_before_these_keys_stays_valid() -> None:
    said = fingerprint()
    assert said["schedule"] == "cosine"
    assert said["epochs"] == 2
    assert not {"most_epochs", "keep", "average_of", "sweeps"} & said.keys()
    assert fingerprint(schedule="cosine", most_epochs=5, average_of=7) == said
    assert fingerprint(checkpoint_every=9) == said
    # Where the last checkpoints are averaged, it matters which they are.
    averaged = {"keep": "average", "checkpoint_every": 9}
    assert fingerprint(**averaged) != fingerprint(**averaged | {"checkpoint_every": 8})
    # Where the tables of sweeps decide, they are a part of it.
    assert "sweeps" in fingerprint(learning_rate="auto", batch_size=128)
    assert "sweeps" not in fingerprint(learning_rate="auto")


def qwen3_4b() -> dict[str, Any]:
    return {
        "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "vocab_size": 151_936, "max_position_embeddings": 40_960,
        "tie_word_embeddings": True,
    }  # fmt: skip


def test_rates_are_those_of_sweeps_only_where_these_cover_student_and_batch() -> None:
    shape = read_shape(qwen3_4b())
    lengths = [1000] * 1000
    asked = training.settings(learning_rate="auto", batch_size=128)
    settled, (line,) = settle_rates(asked, shape, lengths, 1.0)
    assert settled.learning_rate == 1e-3
    assert line.startswith("learning_rate 1e-3: LoRA, hidden 2,560, batch of 128 rows; source: ")
    for other, size in (
        ({"batch_size": 8}, shape),
        ({}, dataclasses.replace(shape, architecture="granite")),
        ({}, None),
    ):
        settled, (line,) = settle_rates(asked.model_copy(update=other), size, lengths, 1.0)
        assert settled.learning_rate == "auto"
        assert line.startswith("learning_rate 2e-4: LoRA, ")
        assert "no published sweep covers" in line
    settled, lines = settle_rates(training.settings(), shape, lengths, 1.0)
    assert (settled, lines) == (training.settings(), [])


def test_a_rank_has_as_many_weights_as_there_are_tokens() -> None:
    shape = read_shape(qwen3_4b())
    asked = training.settings(lora=Lora(rank="auto"))

    def rank(tokens: int) -> Any:
        settled, (line,) = settle_rates(asked, shape, [1000] * (tokens // 1000), 1.0)
        assert line.startswith(f"lora.rank {settled.lora.rank}: ")
        return settled.lora.rank

    # A rank has 2,064,384 weights here.
    assert [rank(tokens) for tokens in (0, 10**7, 10**8, 10**9)] == [32, 32, 64, 128]


def test_the_last_weights_need_no_checkpoint(tmp_path: Path) -> None:
    assert take_weights(None, training.settings(), tmp_path) is None
