"""The command plan: what it goes by, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune.prepare import prepare
from finetune.sample import Example
from tests.planner_models import ROOT, STUDENT
from tracestill.commands.plan import _count
from tracestill.planning.training import plan_student
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.schema import Recipe
from tracestill.records import Kept, Problem, Sampling, Teacher, Trace, to_row, write_table
from tracestill.records.journal import Journal
from tracestill.records.manifest import Manifest, write_manifest

RECIPE = """\
name: planned
problems:
  train: [{{source: reasoning_gym, family: chain_sum, size: 40}}]
  heldout: [{{source: reasoning_gym, family: chain_sum, size: 5, seed: 9}}]
generate: {{model: {student}, samples: 2, max_tokens: 64}}
finetune:
  {{student: {student}, template: {template}, think: prefilled, stop: <|end|>, max_length: 512,
   epochs: 2}}
"""


MINIATURE = ROOT / "recipes" / "templates" / "miniature.jinja"


def told(folder: Path, *more: str, student: str = str(STUDENT), forbid: str = "") -> Any:
    (folder / "r.yaml").write_text(RECIPE.format(student=student, template=MINIATURE))
    script = (
        "import sys\n"
        f"for name in {forbid.split()!r}: sys.modules[name] = None\n"
        "from tracestill.commands.app import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", script, "plan", str(folder / "r.yaml"), "--out",
         str(folder / "run"), *more],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


def test_the_command_plans_without_torch_and_without_a_run(tmp_path: Path) -> None:
    made = told(tmp_path, "--pilot", "0", "--gpu", "H200", forbid="torch transformers vllm trl")
    assert made.returncode == 0, made.stderr
    for part in ("nothing is sampled yet", "it fits", "weights", "H200", "tokens/s",
                 "minutes a million tokens", "auto: micro_batch"):  # fmt: skip
        assert part in made.stdout
    assert not (tmp_path / "run").exists()
    wrong = told(tmp_path, "--pilot", "0", "--gpu", "H2000")
    assert wrong.returncode == 1
    assert len(wrong.stderr.splitlines()) == 1
    assert "--gpu H2000: not known" in wrong.stderr


def test_the_command_says_where_a_hub_student_s_shape_is_missing(tmp_path: Path) -> None:
    made = told(tmp_path, "--pilot", "0", student="some/student")
    assert made.returncode == 0, made.stderr
    assert "the config.json of some/student is not on this machine" in made.stdout
    assert "hf download some/student config.json" in made.stdout


def test_weights_are_counted_for_people() -> None:
    counts = (999, 896_000, 999_885_952, 7_615_616_512)
    assert [_count(value) for value in counts] == ["999", "896 k", "1 B", "7.62 B"]


def test_the_command_plans_a_well_known_student_by_its_name(tmp_path: Path) -> None:
    name = "Qwen/Qwen2.5-7B-Instruct"
    made = told(tmp_path, "--pilot", "0", "--gpu", "24GB", student=name, forbid="torch")
    assert made.returncode == 0, made.stderr
    for part in ("7.62 B weights", "a GPU of 24 GB", "a table that comes with tracestill"):
        assert part in made.stdout


@pytest.mark.slow
def test_a_teacher_that_is_not_here_is_no_obstacle_to_planning_for_a_gpu(tmp_path: Path) -> None:
    made = told(tmp_path, "--gpu", "24GB", student="Qwen/Qwen2.5-7B-Instruct")
    assert made.returncode == 0, made.stderr
    assert "Teacher: not planned, since it can't be sampled here: " in made.stdout
    assert "7.62 B weights" in made.stdout
    alone = told(tmp_path, student="Qwen/Qwen2.5-7B-Instruct")
    assert alone.returncode == 1


def test_the_command_goes_by_what_is_sampled_in_the_student_s_tokens(tmp_path: Path) -> None:
    told(tmp_path, "--pilot", "0", "--gpu", "H100")
    run = tmp_path / "run"
    problems = [problem_of(f"p{number}", "What is 2 + 3?") for number in range(3)]
    complete(run / "problems", "train", Problem, problems)
    (run / "generate").mkdir(parents=True)
    reasoning = [f"2 + {number} is {number + 2}." for number in range(6)]
    with Journal(run / "generate" / "journal.jsonl") as journal:
        for number in range(6):
            finish = "stop" if number % 3 else "length"
            journal.append({
                "id": f"t{number}", "problem_id": f"p{number // 2}", "sample": 0,
                "finish": finish, "max_tokens": 64, "spent": 100 + number, "paid": 0.0,
                "elapsed": 1.0, "sent": 1, "raw": f"{reasoning[number]}\n</think>\n\n5",
                "prefill": "<think>", "token_ids": None, "error": None, "prompt_tokens": 50,
                "completion_tokens": 50, "seconds": 0.0, "cost": 0.0, "teacher": to_row(TEACHER),
            })  # fmt: skip
    recipe = load_recipe(tmp_path / "r.yaml")
    found = plan_student(recipe, run, run, "H100")
    seen = [number for number in range(6) if number % 3]
    texts = [(problems[0].prompt, reasoning[number], "5") for number in seen]
    # Each problem has as many more as those two of three that ended.
    actual = rendered(recipe, texts)
    assert found.plan.job.lengths == [tokens for tokens, _ in actual]
    assert found.plan.job.learnt == pytest.approx(share(actual))
    assert "like the 4 sampled so far, if all are kept, in the student's tokens" in found.source
    elsewhere = load_recipe(tmp_path / "r.yaml", ["finetune.student=Qwen/Qwen2.5-0.5B"])
    found = plan_student(elsewhere, run, run, "H100")
    assert found.plan.job.lengths == [101, 102, 104, 105]
    assert "in the teacher's tokens, since the student's tokenizer is not on" in found.source


TEACHER = Teacher(
    model="t", revision=None, content="", engine="import", engine_version="", quantisation=None,
    provider="",
    sampling=Sampling(temperature=0, top_p=1, top_k=-1, max_tokens=0, seed=None),
)  # fmt: skip


@pytest.mark.parametrize("counted", [True, False])
def test_kept_traces_are_counted_as_the_student_learns_them(tmp_path: Path, counted: bool) -> None:
    """Whatever the teacher's tokens are, and though only some are rendered."""
    text = RECIPE.format(student=STUDENT, template=MINIATURE)
    (tmp_path / "r.yaml").write_text(text)
    recipe, run = load_recipe(tmp_path / "r.yaml"), tmp_path / "run"
    reasonings = [f"{number} + {number * 7} is {number * 8}. " * 3 for number in range(600)]
    traces = [
        Trace(
            id=str(number), problem_id="p", sample=number, raw="", raw_reasoning=None,
            raw_token_ids=None, reasoning=reasoning, answer="5", finish="stop", error=None,
            prompt_tokens=4 if counted else 0,
            completion_tokens=len(reasoning) // 4 if counted else 0,
            teacher=TEACHER, seconds=0.0, cost=0.0,
        )
        for number, reasoning in enumerate(reasonings)
    ]  # fmt: skip
    problem = problem_of("p", "What is 2 + 3?")
    complete(run / "problems", "train", Problem, [problem])
    complete(run / "generate", "traces", Trace, traces)
    rows = [
        Kept(
            trace_id=one.id, problem_id="p", prompt=problem.prompt, reasoning=one.reasoning or "",
            answer="5", reference="5", source="s", language="en", content="",
        )
        for one in traces[:590]
    ]  # fmt: skip
    complete(run / "filter", "kept", Kept, rows)
    planned = plan_student(recipe, run, run, "H100")
    assert planned.source == "the traces that were kept, in the student's tokens"
    actual = rendered(recipe, [(problem.prompt, text, "5") for text in reasonings[:590]])
    total = sum(tokens for tokens, _ in actual)
    assert planned.plan.tokens == pytest.approx(recipe.finetune.epochs * total, rel=0.01)
    assert planned.plan.job.learnt == pytest.approx(share(actual), rel=0.01)
    assert planned.samples == 590
    recipe = load_recipe(tmp_path / "r.yaml", ["finetune.student=Qwen/Qwen2.5-0.5B"])
    elsewhere = plan_student(recipe, run, run, "H100")
    if counted:
        assert "in the teacher's tokens" in elsewhere.source
        assert elsewhere.plan.tokens == 2 * sum(4 + len(text) // 4 for text in reasonings[:590])
    else:
        assert elsewhere.plan.hours is None
        assert any("nobody has counted the traces' tokens" in note for note in elsewhere.notes)


def rendered(recipe: Recipe, texts: list[tuple[str, str, str]]) -> list[tuple[int, int]]:
    """Tokens of each sample, and those that are learnt, of prompt, reasoning and answer."""
    examples = [
        Example(trace_id=str(number), prompt=prompt, reasoning=reasoning, answer=answer)
        for number, (prompt, reasoning, answer) in enumerate(texts)
    ]
    made = prepare(examples, recipe.finetune, str(STUDENT), MINIATURE).rendered.samples
    assert len(made) == len(texts)
    return [(len(sample.input_ids), sample.learnt) for sample in made]


def share(counts: list[tuple[int, int]]) -> float:
    return sum(learnt for _, learnt in counts) / sum(tokens for tokens, _ in counts)


def problem_of(name: str, prompt: str) -> Problem:
    return Problem(id=name, prompt=prompt, reference="5", kind="math", source="s")


def complete(folder: Path, name: str, record: type[Any], rows: list[Any]) -> None:
    """A stage that has made a table."""
    tables = {name: write_table(folder, name, record, rows)}
    made = Manifest(
        stage=folder.name, fingerprint="", rows_in=len(rows), rows_out=len(rows), seconds=0.0,
        tables=tables,
    )  # fmt: skip
    write_manifest(folder, made)
