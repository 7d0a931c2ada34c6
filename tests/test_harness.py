"""What other harnesses are told of an evaluation: their commands, and inspect_ai's log."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from conftest import run_tracestill
from scripted import completion, reply, scripted

from tracestill.evaluate.evaluated import read_evaluated
from tracestill.evaluate.harnesses import _harnesses, commands
from tracestill.recipe.benchmarks import named_benchmark, shipped
from tracestill.recipe.evaluation import PLAN, Evaluation
from tracestill.records import Trace, read_table


def plan(benchmark: str, **more: Any) -> Evaluation:
    _, spec = named_benchmark(benchmark)
    values = {
        "name": "mine", "model": {"engine": "vllm", "model": "/models/my student"},
        "benchmark": benchmark, "spec": spec.model_dump(), **more,
    }  # fmt: skip
    return Evaluation.model_validate(values)


def words(command: str, option: str) -> str:
    parts = shlex.split(command)
    return parts[parts.index(option) + 1]


def test_each_harness_is_told_model_sampling_and_task() -> None:
    first, second, third = commands(plan("aime24", seed=7, limit=5))
    assert [first.harness, second.harness, third.harness] == ["lighteval", "lm-eval", "inspect_ai"]
    said = shlex.split(first.command)
    assert said[:2] == ["lighteval", "vllm"]
    assert said[2] == (
        "model_name=/models/my student,"
        "generation_parameters={temperature:0.6,top_p:0.95,max_new_tokens:32768,seed:7}"
    )
    assert said[3] == "aime24|0"
    assert words(first.command, "--max-samples") == "5"
    assert any("once, not 64 times" in line for line in first.differs)
    arguments = words(second.command, "--model_args")
    assert arguments == "pretrained=/models/my student,think_end_token=</think>"
    drawn = words(second.command, "--gen_kwargs")
    assert drawn == "do_sample=True,temperature=0.6,top_p=0.95,max_gen_toks=32768"
    assert words(second.command, "--tasks") == "aime24"
    assert words(third.command, "--model") == "vllm//models/my student"
    assert words(third.command, "--epochs") == "64"
    assert words(third.command, "--temperature") == "0.6"


def test_what_was_said_of_the_model_is_passed_on() -> None:
    model = {
        "engine": "vllm", "model": "a/b", "revision": "main", "max_model_len": 9000,
        "engine_args": {"tensor_parallel_size": 2},
    }  # fmt: skip
    first, second, third = commands(plan("gpqa-diamond", model=model, system_prompt="Be brief."))
    for command in (first.command, second.command, third.command):
        assert "tensor_parallel_size=2" in command
        assert "revision=main" in command
    assert "max_model_length=9000" in first.command
    assert "max_model_len=9000" in second.command
    assert words(second.command, "--system_instruction") == "Be brief."
    assert words(third.command, "--system-message") == "Be brief."
    assert any("system prompt" in line for line in first.differs)


def test_tasks_are_of_benchmarks_that_are_known_and_say_what_differs() -> None:
    for one in _harnesses().values():
        assert set(one["tasks"]) <= set(shipped())
        assert all(task["task"] and task["differs"] for task in one["tasks"].values())
    assert commands(plan("amc23")) == []


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six problems with two answers each, of which one's requests fail."""
    folder = tmp_path_factory.mktemp("harness")
    rows = [{"q": f"How much is {n} + 1?", "a": str(n + 1)} for n in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text(
        "path: rows.jsonl\ncolumns: {prompt: q, reference: a}\nsamples: 2\nmax_tokens: 64\n"
    )

    def answer(request: web.Request, body: dict[str, Any], before: int) -> web.StreamResponse:
        number = int(body["messages"][-1]["content"].split()[3])
        if number == 5:
            return reply({"error": {"message": "out of order"}}, 400)
        said = number + 1 if number < 3 or before else 0
        return reply(completion(f"<think>\n{number}\n</think>\n\n\\boxed{{{said}}}"))

    with scripted(answer) as server:
        done = run_tracestill(
            "evaluate", "m", folder / "sums.yaml", "--base-url", server.url,
            "--out", folder / "out", "--max-failed", "0.5",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_the_log_holds_every_answer_and_its_score(evaluated: Path, tmp_path: Path) -> None:
    done = run_tracestill("harness", evaluated, "--log", tmp_path / "logs")
    assert done.returncode == 0, done.stderr
    assert f"inspect view --log-dir {tmp_path / 'logs'}" in done.stdout
    (path,) = (tmp_path / "logs").iterdir()
    log = json.loads(path.read_text())
    one = read_evaluated(evaluated / "sums")
    assert (log["version"], log["status"], log["eval"]["task"]) == (2, "success", "sums")
    assert log["eval"]["config"] == {"epochs": 2}
    (score,) = log["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == one.figures.pass_at_1 == 0.8
    assert (log["results"]["total_samples"], log["results"]["completed_samples"]) == (12, 10)
    samples = {sample["uuid"]: sample for sample in log["samples"]}
    traces = list(read_table(one.folder, one.table, Trace))
    assert samples.keys() == {trace.id for trace in traces}
    by_problem: dict[str, list[bool]] = {}
    for trace in traces:
        sample = samples[trace.id]
        assert (sample["id"], sample["epoch"]) == (trace.problem_id, trace.sample + 1)
        if trace.finish == "error":
            assert "out of order" in sample["error"]["message"]
            assert "scores" not in sample
            continue
        thought, text = sample["messages"][1]["content"]
        assert (thought["reasoning"], text["text"]) == (trace.reasoning, trace.answer)
        value = sample["scores"]["tracestill"]["value"]
        by_problem.setdefault(trace.problem_id, []).append(value == "C")
    assert sum(sum(own) / len(own) for own in by_problem.values()) / len(by_problem) == 0.8
    again = run_tracestill("harness", evaluated, "--log", tmp_path / "logs")
    assert again.returncode == 0, again.stderr
    assert list((tmp_path / "logs").iterdir()) == [path], "the same log is replaced"


def test_a_model_behind_a_server_has_no_command(evaluated: Path) -> None:
    done = run_tracestill("harness", evaluated)
    assert done.returncode == 1
    assert "m was asked behind a server: evaluate its folder or hub id" in done.stderr


def test_the_command_prints_what_to_run_and_what_differs(evaluated: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(evaluated, tmp_path / "out"))
    file = out / "sums" / PLAN
    values = yaml.safe_load(file.read_text())
    values |= {"benchmark": "math-500", "model": {"engine": "vllm", "model": "a/b"}}
    file.write_text(yaml.safe_dump(values))
    done = run_tracestill("harness", out)
    assert done.returncode == 0, done.stderr
    assert "m, math-500: pass@1 80.0%" in done.stdout
    assert "# lighteval (pip install" in done.stdout
    assert "--tasks minerva_math500" in done.stdout
    assert "#   asks each problem once, not 2 times" in done.stdout
