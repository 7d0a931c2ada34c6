"""What a training shows while it runs: short generations, and the trackers that are told of it."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from safetensors.torch import load_file
from training import TEMPLATE, examples, kill_at, run, settings, spawn

from finetune.generation import generate_greedily
from finetune.monitor import Grade, TrainingMonitor, choose
from finetune.render import Rendered, render
from finetune.student import add_adapter, load_student
from finetune.tokenizer import load_tokenizer
from finetune.tracking import settle_wandb
from tracestill.recipe.contract import read_contract
from tracestill.recipe.finetune import Lora
from tracestill.recipe.loading import load_recipe
from tracestill.records import Kept, Trace, Verdict, read_table
from tracestill.stages.finetune import grade_of

MONITOR = {"every": 2, "problems": 3, "max_tokens": 24}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rendered(chosen: Any, tokenizer: Any, number: int = 6) -> Rendered:
    return render(examples(number), tokenizer, read_contract(TEMPLATE, chosen), chosen)


def test_a_monitor_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    made = {}
    for name, monitor in (("without", None), ("with", MONITOR)):
        # Dropout: a random number more or less would show.
        run(
            tmp_path / name, 16, monitor=monitor, holdout=0.3, gradient_checkpointing=True,
            lora=Lora(rank=8, alpha=16, dropout=0.1),
        )  # fmt: skip
        made[name] = load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
    assert len(made["with"]) > 0
    assert all(torch.equal(made["with"][key], made["without"][key]) for key in made["with"])
    losses = [[row["loss"] for row in rows(tmp_path / name / "metrics.jsonl")] for name in made]
    assert losses[0] == losses[1]
    assert len(rows(tmp_path / "with" / "monitor.jsonl")) > 1
    assert not (tmp_path / "without" / "monitor.jsonl").exists()


@pytest.mark.parametrize("attention", ["packed", "sdpa"])
def test_answers_are_the_greedy_ones_and_the_model_is_left_as_it_was(attention: str) -> None:
    from transformers import AutoModelForCausalLM

    chosen = settings(attention=attention)
    tokenizer = load_tokenizer(chosen.student, None, TEMPLATE)
    made = rendered(chosen, tokenizer, 12)
    asked = sorted(made.samples, key=lambda sample: sample.prompt)
    assert asked[0].prompt < asked[-1].prompt  # so that rows have padding

    model = add_adapter(load_student(chosen.student, chosen, 128).model, chosen)
    base = model.get_base_model()
    base.gradient_checkpointing_enable()
    base.generation_config.repetition_penalty = 1.7  # as instruct models ship with
    own, kind = base.generation_config, base.config._attn_implementation
    threads = torch.get_num_threads()
    model.train()
    state = torch.get_rng_state()
    answers = generate_greedily(model, asked, made.endings, 0, max_tokens=24, at_once=4 * 80)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(module.training for module in model.modules())
    assert base.generation_config is own
    assert base.config._attn_implementation == kind
    assert base.config.use_cache is False

    plain = AutoModelForCausalLM.from_pretrained(chosen.student, dtype=torch.float32).eval()
    for sample, found in zip(asked, answers, strict=True):
        ids = sample.input_ids[: sample.prompt].tolist()
        expected: list[int] = []
        while len(expected) < 24 and (not expected or expected[-1] not in made.endings):
            with torch.no_grad():
                logits = plain(torch.tensor([ids + expected]), use_cache=False).logits
            expected.append(int(logits[0, -1].argmax()))
        assert found == expected


def test_a_model_in_shares_answers_as_the_whole_one(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    chosen = settings()
    tokenizer = load_tokenizer(chosen.student, None, TEMPLATE)
    made = rendered(chosen, tokenizer)
    model = add_adapter(load_student(chosen.student, chosen, 128).model, chosen)
    whole = generate_greedily(model, made.samples, made.endings, 0, max_tokens=12, at_once=500)
    meeting = (tmp_path / "meeting").as_uri()
    distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for layer in model.get_base_model().model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for _ in range(2):
            found = generate_greedily(
                model, made.samples, made.endings, 0, max_tokens=12, at_once=500
            )
            assert found == whole
    finally:
        distributed.destroy_process_group()


def test_what_is_counted_of_answers() -> None:
    chosen = settings()
    tokenizer = load_tokenizer(chosen.student, None, TEMPLATE)
    made = rendered(chosen, tokenizer, 4)
    full = [sample.input_ids[sample.prompt :].tolist() for sample in made.samples]
    answers = [full[0], full[1][:-1], full[2][:3], full[3]]
    told: dict[str, str] = {}

    def grade(trace: str, completion: str) -> bool | None:
        told[trace] = completion
        return {"t0": True, "t1": False, "t2": None, "t3": True}[trace]

    def measured(grade: Grade | None) -> dict[str, float | None]:
        monitor = TrainingMonitor(
            asked=made.samples, tokenizer=tokenizer, contract=read_contract(TEMPLATE, chosen),
            endings=made.endings, grade=grade, max_tokens=24, at_once=500, path=Path(),
        )  # fmt: skip
        return monitor.measure(answers)

    seen = measured(grade)
    assert seen == {
        "problems": 4, "closed": 0.75, "ended": 0.5, "judged": 3, "passed": round(2 / 3, 4),
        "tokens": round(sum(map(len, answers)) / 4, 1),
    }  # fmt: skip
    assert told["t0"] == ("<think>\n0 + 1 + 2\n1 + 2\n3\n</think>\n\nThe answer is \\boxed{3}.")
    unjudged = measured(None)
    assert unjudged["passed"] is None
    assert unjudged["judged"] == 0


def test_each_problem_is_tried_once_however_many_traces_it_has() -> None:
    chosen = settings(holdout=0.2, monitor={"problems": 4})
    made = rendered(chosen, load_tokenizer(chosen.student, None, TEMPLATE)).samples
    asked = choose([*made, *made], chosen)
    assert [sample.trace_id for sample in asked] == ["t0", "t1", "t2", "t3"]


def test_a_monitor_without_a_held_out_problem_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set holdout above 0"):
        settings(monitor=MONITOR, holdout=0.0)
    with pytest.raises(ValueError, match="raise holdout, or leave monitor out") as told:
        run(tmp_path, 4, monitor=MONITOR, holdout=0.001)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_resumed_training_looks_at_every_step_once(tmp_path: Path) -> None:
    values = f"16, monitor={MONITOR}, holdout=0.3, checkpoint_every=2"
    kill_at(spawn(tmp_path, values), 3)
    with (tmp_path / "monitor.jsonl").open("a") as file:
        file.write('{"step": 4, "clo')  # as a kill while it is written leaves it
    resumed = spawn(tmp_path, values)
    assert resumed.stdout
    assert "resumed from 2" in resumed.stdout.read()
    assert resumed.wait() == 0
    steps = len(rows(tmp_path / "metrics.jsonl"))
    seen = [row["step"] for row in rows(tmp_path / "monitor.jsonl")]
    assert seen == [step for step in range(1, steps + 1) if step % 2 == 0 or step == steps]


def test_the_grades_of_a_run_are_those_of_its_verifiers(finished: Path) -> None:
    """The tiny run's training has a monitor. The teacher's responses are graded as the filter
    judged them, also in another process.
    """
    recipe = load_recipe(finished / "recipe.yaml")
    grade = pickle.loads(pickle.dumps(grade_of(recipe, finished)))
    verdicts = {v.trace_id: v.outcome for v in read_table(finished / "filter", "verdicts", Verdict)}
    kept = {row.trace_id for row in read_table(finished / "filter", "kept", Kept)}
    traces = list(read_table(finished / "generate", "traces", Trace))
    # The monitor asks problems of kept traces; other responses to them can be wrong.
    asked = {trace.problem_id: trace.id for trace in traces if trace.id in kept}
    some = [trace for trace in traces if trace.problem_id in asked and trace.id in verdicts]
    right = {trace.id for trace in some if grade(asked[trace.problem_id], trace.raw)}
    assert right == {trace.id for trace in some if verdicts[trace.id] == "correct"}
    assert 0 < len(right) < len(some)
    seen = rows(finished / "finetune" / "monitor.jsonl")
    assert seen[-1]["judged"] == seen[-1]["problems"] > 0
    assert 0 <= seen[-1]["passed"] <= 1
    assert seen[-1]["seconds"] > 0


TRACKIO = """\
import contextvars, json, os
from types import SimpleNamespace
__version__ = "0.30.0"
context_vars = SimpleNamespace(
    current_space_id=contextvars.ContextVar("space", default=None),
    current_run=contextvars.ContextVar("run", default=None),
)
config = {}
def _write(kind, values):
    with open(os.environ["TRACKIO_LOG"], "a") as file:
        file.write(json.dumps({"kind": kind, **values}) + "\\n")
def init(project, name, space_id, **_):
    _write("init", {"project": project, "name": name, "space": space_id})
def log(values, step=None):
    _write("log", values)
def finish():
    _write("finish", {})
"""


def test_trackers_see_every_figure_under_the_names_that_people_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trackio is not among what is installed: in its place a package that writes down what the
    trainer's own callback tells it.
    """
    (tmp_path / "trackio.py").write_text(TRACKIO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRACKIO_LOG", str(tmp_path / "told.jsonl"))
    chosen = settings(report_to=["trackio"], monitor=MONITOR, holdout=0.3)
    training.train(
        examples(12), chosen, student=chosen.student, template=TEMPLATE, folder=tmp_path / "run",
        seed=0, progress=lambda event: None, name="my-recipe", grade=lambda trace, text: True,
    )  # fmt: skip
    monkeypatch.delitem(sys.modules, "trackio")
    begin, *told = rows(tmp_path / "told.jsonl")
    assert begin == {"kind": "init", "project": "my-recipe", "name": "my-recipe", "space": None}
    assert told.pop()["kind"] == "finish"
    logs = [{key: value for key, value in row.items() if key != "kind"} for row in told]
    steps = {row["train/global_step"]: row for row in logs if "train/loss" in row}
    for row in rows(tmp_path / "run" / "metrics.jsonl"):
        for name in ("loss", "loss_reasoning", "loss_answer", "learning_rate", "grad_norm"):
            assert steps[row["step"]][f"train/{name}"] == row[name]
        assert steps[row["step"]]["train/mean_token_accuracy"] == row["accuracy"]
        assert steps[row["step"]]["train/tokens_per_second"] > 0
    seen = [row for row in logs if "eval/loss" in row]
    for row, known in zip(seen, rows(tmp_path / "run" / "heldout.jsonl"), strict=True):
        assert row["train/global_step"] == known["step"]
        assert row["eval/loss"] == known["heldout_loss"]
        assert row["eval/loss_reasoning"] == known["heldout_loss_reasoning"]
        assert row["eval/mean_token_accuracy"] == known["heldout_accuracy"]
    looked = [row for row in logs if "eval/pass_rate" in row]
    for row, known in zip(looked, rows(tmp_path / "run" / "monitor.jsonl"), strict=True):
        assert row["train/global_step"] == known["step"]
        assert row["eval/pass_rate"] == known["passed"] == 1
        assert row["eval/think_closed"] == known["closed"]
        assert row["eval/ended"] == known["ended"]
        assert row["eval/answer_tokens"] == known["tokens"]


def test_wandb_sends_no_more_than_figures_unless_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.environ", {**os.environ, "WANDB_PROJECT": "mine"})
    settle_wandb("my-recipe", tmp_path)
    assert {key: value for key, value in os.environ.items() if key.startswith("WANDB_")} == {
        "WANDB_PROJECT": "mine",
        "WANDB_DIR": str(tmp_path),
        "WANDB_BASE_URL": "https://api.wandb.ai",
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
    }


class Writer:
    """What TensorBoard's writer is told."""

    made: list[Writer]

    def __init__(self, log_dir: str, purge_step: int | None) -> None:
        self.folder, self.purged = Path(log_dir), purge_step
        self.scalars: dict[str, list[int]] = {}
        self.folder.mkdir(parents=True)
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.setdefault(name, []).append(step)

    def add_text(self, *_: object) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_events_for_tensorboard_lie_in_the_run_and_begin_anew_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard is not among what is installed: what its writer is told stands for its file."""
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    (tmp_path / "tensorboard.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    Writer.made = []
    old = tmp_path / "run" / "tensorboard" / "of an older training"
    old.mkdir(parents=True)
    run(tmp_path / "run", 12, report_to=["tensorboard"], holdout=0.3, epochs=1)
    (writer,) = Writer.made
    assert writer.folder == tmp_path / "run" / "tensorboard"
    assert writer.purged is None
    assert not old.exists()
    steps = len(rows(tmp_path / "run" / "metrics.jsonl"))
    assert writer.scalars["train/loss"] == list(range(1, steps + 1))
    assert writer.scalars["eval/loss"][0] == 0
    assert writer.scalars["eval/loss"][-1] == steps


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard, which is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = "report_to=['tensorboard'], holdout=0.3, epochs=4"
    kill_at(spawn(tmp_path, values), 9)
    assert spawn(tmp_path, values).wait() == 0
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    made = rows(tmp_path / "metrics.jsonl")
    assert [event.step for event in events.Scalars("train/loss")] == [row["step"] for row in made]


def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="wandb can't be imported: `pip install wandb`") as told:
        run(tmp_path / "run", report_to=["wandb"])
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()
