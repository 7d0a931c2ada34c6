"""What a training leaves, what it goes on from, and what does not change what is learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from safetensors.torch import load_file
from training import examples, kill_at, run, spawn
from transformers import AutoTokenizer

from finetune.arguments import training_arguments
from finetune.checkpoints import forget
from finetune.packing import pack, steps
from finetune.render import render
from finetune.setup import Training, set_up
from finetune.step import MicroBatch, TrainingData, micro_batches
from finetune.student import add_adapter, load_student
from finetune.tokenizer import load_tokenizer, prompt_text
from finetune.train import train
from finetune.trainer import make_trainer
from tracestill.recipe.contract import read_contract
from tracestill.recipe.finetune import NEUTRAL, Launch, Lora
from tracestill.records import Progress


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[key], second[key]) for key in first)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    # With dropout: the random numbers go on too.
    values = "lora=training.Lora(rank=8, alpha=16, dropout=0.1)"
    assert spawn(whole, values).wait() == 0  # not beside the other: they would share the cores
    kill_at(spawn(cut, values), 7)
    # A kill while a checkpoint is written leaves one without its mark: it must not count.
    checkpoints = cut / "checkpoints"
    broken = checkpoints / "checkpoint-999"
    shutil.copytree(checkpoints / "checkpoint-4", broken)
    (broken / "complete.json").unlink()
    (broken / "adapter_model.safetensors").write_bytes(b"torn")
    resumed = spawn(cut, values)
    assert resumed.stdout
    output = resumed.stdout.read()
    assert resumed.wait() == 0
    assert "resumed from 4" in output
    assert same(whole, cut)
    merged = [load_file(folder / "merged" / "model.safetensors") for folder in (whole, cut)]
    assert all(torch.equal(merged[0][key], merged[1][key]) for key in merged[0])
    made = [row["step"] for row in rows(cut / "metrics.jsonl")]
    assert made == list(range(1, max(made) + 1))
    for one, other in zip(rows(whole / "metrics.jsonl"), rows(cut / "metrics.jsonl"), strict=True):
        assert one["loss"] == other["loss"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    kill_at(spawn(folder), 5)
    return folder


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": 1e-3}, r"settings\.learning_rate was 0\.003, is 0\.001"),
        ({"packing": False}, r"the packing differs; settings\.packing was true, is false"),
        ({"max_length": 120}, r"settings\.max_length was 128, is 120"),
        ({"count": 23}, "the data differ"),
        ({"seed": 1}, r"settings\.seed was 0, is 1"),
    ],
)
def test_another_training_does_not_go_on_from_a_checkpoint_nor_drop_it(
    killed: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as told:
        run(killed, **values)
    assert "--from finetune" in str(told.value)
    assert "\n" not in str(told.value)
    assert (killed / "checkpoints" / "checkpoint-4" / "complete.json").is_file()


@pytest.mark.slow
@pytest.mark.slow
def test_what_changes_only_speed_goes_on(tmp_path: Path) -> None:
    kill_at(spawn(tmp_path, "micro_batch=1, gradient_checkpointing=True"), 5)
    assert run(tmp_path, checkpoint_every=3).figures.resumed_from_step == 4


def test_the_size_of_micro_batches_does_not_change_the_gradient(tmp_path: Path) -> None:
    losses = []
    for micro in (1, 2, 4):
        folder = tmp_path / str(micro)
        run(folder, batch_size=4, micro_batch=micro, max_length=64, dtype="float32")
        losses.append([row["loss"] for row in rows(folder / "metrics.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_metrics_tell_reasoning_from_answer_and_count_tokens(tmp_path: Path) -> None:
    made_of = run(tmp_path, holdout=0.2)
    details = made_of.figures
    made = rows(tmp_path / "metrics.jsonl")
    assert details.heldout_samples > 0
    assert details.samples + details.heldout_samples == 24
    learnt, heldout = made_of.learnt, made_of.heldout
    assert (len(learnt), len(heldout)) == (details.samples, details.heldout_samples)
    assert {*learnt, *heldout} == {example.trace_id for example in examples()}
    for row in made:
        assert row["loss_reasoning"] > 0
        assert row["loss_answer"] > 0
        assert row["accuracy"] * row["learnt_tokens"] == pytest.approx(
            round(row["accuracy"] * row["learnt_tokens"]), abs=1e-6
        )
        assert row["learnt_tokens"] < row["tokens"]
        assert row["tokens_per_second"] > row["learnt_tokens_per_second"] > 0
    assert sum(row["learnt_tokens"] for row in made) == 2 * details.trained_tokens
    seen = rows(tmp_path / "heldout.jsonl")
    assert [row["step"] for row in seen] == [0, 4, 8, details.steps][: len(seen)]
    assert seen[-1]["heldout_loss"] < seen[0]["heldout_loss"]
    assert 1 >= seen[-1]["heldout_accuracy"] > seen[0]["heldout_accuracy"] > 0
    assert made[-1]["accuracy"] > made[0]["accuracy"]


def test_a_training_on_prefixes_says_what_was_cut(tmp_path: Path) -> None:
    made = run(tmp_path, overlong="prefix", max_length=34, holdout=0.2, epochs=0.1)
    long = made.figures.overlong
    assert long is not None
    assert (long.policy, long.traces, long.no_room) == ("prefix", 24, 0)
    assert 0 < long.long_traces < 24
    assert len(made.learnt) + len(made.heldout) == 24
    assert made.dropped == {}
    assert made.notes[0].startswith(f"{long.long_traces} of 24 traces are longer than 34 tokens")
    assert rows(tmp_path / "heldout.jsonl")[-1]["heldout_loss"] > 0


def test_what_the_weights_do_not_depend_on_is_no_part_of_a_trainings_identity(
    tmp_path: Path,
) -> None:
    def identity(**values: Any) -> Any:
        chosen = training.settings(**values)
        return set_up(
            Training(
                examples=examples(6), settings=chosen, student=chosen.student,
                template=training.TEMPLATE, folder=tmp_path, seed=0, name="x", grade=None,
            )
        ).identity  # fmt: skip

    plain = identity()
    assert identity(micro_batch=1, attention="sdpa", checkpoint_every=9) == plain
    # A finished student is kept on another number of GPUs, but a checkpoint is not.
    spread = identity(launch=Launch(gpus=2))
    assert {name for name in plain if spread[name] != plain[name]} == {"settings"}
    assert spread["settings"]["launch"] == {"gpus": 2, "strategy": "ddp"}
    assert "launch" in NEUTRAL


def test_only_what_is_needed_to_resume_is_forgotten(tmp_path: Path) -> None:
    for name in ("checkpoints", "sft", "on_policy", "merged"):
        (tmp_path / name).mkdir()
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_the_heldout_loss_is_the_same_whatever_the_packing(tmp_path: Path) -> None:
    first = []
    for packing in (True, False):
        folder = tmp_path / str(packing)
        run(folder, packing=packing, holdout=0.2, epochs=0.1)
        first.append(rows(folder / "heldout.jsonl")[0]["heldout_loss"])
    assert first[0] == pytest.approx(first[1], abs=1e-7)


def test_all_weights_are_trained_in_float32(tmp_path: Path) -> None:
    details = run(tmp_path, method="full", learning_rate=1e-4).figures
    assert details.trainable_parameters == details.export.parameters
    losses = [row["loss"] for row in rows(tmp_path / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank() -> None:
    chosen = training.settings(lora=Lora(rank=4, alpha=8, rslora=True))
    model = add_adapter(load_student(chosen.student, chosen, 128).model, chosen)
    scales = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
    assert scales == {4.0}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_an_adapter_that_the_loss_would_not_see_is_refused() -> None:
    chosen = training.settings(lora=Lora(rank=4, targets=["q_proj", "lm_head"]))
    with pytest.raises(ValueError, match="the output layer can't have adapters"):
        add_adapter(load_student(chosen.student, chosen, 128).model, chosen)


def prepared(tmp_path: Path, micro: MicroBatch) -> Any:
    chosen = training.settings(batch_size=4, max_length=64, dtype="float32")
    tokenizer = load_tokenizer(chosen.student, None, training.TEMPLATE)
    some = render(examples(), tokenizer, read_contract(training.TEMPLATE, chosen), chosen).samples
    packed = pack([len(sample.input_ids) for sample in some], 64)
    data = TrainingData(samples=some, rows=packed, steps=steps(packed, 4, 1.0, 0))
    torch.manual_seed(0)
    loaded = load_student(chosen.student, chosen, 128)
    model = add_adapter(loaded.model, chosen)
    arguments = training_arguments(chosen, tmp_path / "out", len(data.steps), 0, "test")
    return make_trainer(model, arguments, tokenizer, data, loaded.layout, micro)


def test_out_of_memory_tries_fewer_rows_and_learns_the_same(tmp_path: Path) -> None:
    undisturbed = prepared(tmp_path, MicroBatch(rows=4, explain=str))
    undisturbed.train()

    micro = MicroBatch(rows=4, explain=str)
    tried = prepared(tmp_path, micro)
    own = tried.model.get_base_model().forward
    calls = 0

    def short_of_memory(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        # The second micro-batch of the step finds no room: the first has left gradients.
        if kwargs["input_ids"].shape[1] > 64 and calls in (1, 3):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(*args, **kwargs)

    tried.model.get_base_model().forward = short_of_memory
    tried.train()
    assert micro.rows == 1
    assert micro.lowered == [0, 0]
    # Not the weights: Adam makes whole steps of what rounding leaves of a gradient of nothing.
    one, other = (
        [row["loss"] for row in trainer.state.log_history if "loss" in row]
        for trainer in (undisturbed, tried)
    )
    assert len(one) > 2
    assert other == pytest.approx(one, rel=1e-3)


def test_out_of_memory_of_a_single_row_is_explained(tmp_path: Path) -> None:
    trainer = prepared(
        tmp_path, MicroBatch(rows=1, explain=lambda error: f"{error}, too many rows")
    )

    def none_left(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.model.get_base_model().forward = none_left
    with pytest.raises(MemoryError, match="CUDA out of memory, too many rows"):
        trainer.train()


def test_every_process_makes_as_many_micro_batches() -> None:
    some = [[index] for index in range(5)]
    shares = [micro_batches(some, 2, rank, 2) for rank in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    assert sorted(row for share in shares for part in share for row in part) == some
    assert micro_batches([[0]], 2, 1, 2) == [[]]


def test_trained_student_stands_by_itself(tmp_path: Path) -> None:
    events: list[Progress] = []
    chosen = training.settings()
    details = train(
        examples(), chosen, student=chosen.student, template=training.TEMPLATE,
        folder=tmp_path, seed=0, progress=events.append,
    ).figures  # fmt: skip
    tokenizer = load_tokenizer(chosen.student, None, training.TEMPLATE)
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == list(range(1, details.steps + 1))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert events[-1].done == events[-1].total == details.steps
    assert events[-1].loss == steps[-1]["loss"]
    assert details.samples == 24
    assert details.export.logit_difference < 0.05
    merged = tmp_path / "merged"
    reloaded = AutoTokenizer.from_pretrained(merged)
    prompt = examples(1)[0].prompt
    assert prompt_text(reloaded, prompt) == prompt_text(tokenizer, prompt)
    config = json.loads((merged / "generation_config.json").read_text())
    assert config["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|end|>")
    before = load_file(training.STUDENT / "model.safetensors")
    after = load_file(merged / "model.safetensors")
    assert before.keys() == after.keys()
    name = "model.layers.0.mlp.up_proj.weight"
    assert after[name].dtype == before[name].dtype
    assert not torch.equal(before[name], after[name])
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
