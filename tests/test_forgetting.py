"""What a student forgot: asked before and after on the same problems, told, and found again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import ROOT
from kept_run import make_run, row
from scripted import Scripted, completion, reply, scripted

from tracestill.commands.terminal import print_summary
from tracestill.evaluate.evaluated import compare, evaluations_in
from tracestill.evaluate.evaluation import EvaluatedModel, evaluate
from tracestill.evaluate.forgetting import drawn
from tracestill.explore.report import build
from tracestill.recipe.evaluate import EvaluateSection
from tracestill.recipe.forgetting import check_judges
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.models import ServedModel
from tracestill.recipe.paths import check_paths
from tracestill.recipe.rules import RULES
from tracestill.records import (
    Problem,
    StageResult,
    Trace,
    read_manifest,
    read_table,
    write_manifest,
)
from tracestill.records.figures import EvaluationFigures
from tracestill.records.manifest import as_manifest
from tracestill.records.progress import ignore_progress
from tracestill.run.summary import Summary, stage_summary, write_summary
from tracestill.stages.evaluate import settings


def problems(name: str, count: int) -> list[Problem]:
    return [
        Problem(
            id=f"{name}{n}", prompt=f"Of {name}: how much is {n} + 1?", reference=str(n + 1),
            kind="math", source=name,
        )
        for n in range(count)
    ]  # fmt: skip


HELDOUT = problems("taught", 5)
BESIDE = {"lost": problems("lost", 40), "kept": problems("kept", 20)}


def answer(request: web.Request, body: dict[str, Any], before: int) -> web.StreamResponse:
    """Right, but for the trained student on every other problem of "lost"."""
    words = body["messages"][-1]["content"].split()
    number = int(words[5])
    right = not (body["model"] == "after" and words[1] == "lost:" and number % 2)
    return reply(
        completion(f"<think>\n{number}\n</think>\n\n\\boxed{{{number + 1 if right else 0}}}")
    )


def ask(server: Scripted, folder: Path, samples: int = 3) -> StageResult:
    models = [
        EvaluatedModel(
            name=f"student_{when}",
            model=ServedModel(engine="openai", model=when, base_urls=[server.url], retries=0),
        )
        for when in ("before", "after")
    ]
    return evaluate(
        models, HELDOUT, EvaluateSection(samples=samples), max_tokens=64, seed=0,
        rules=RULES, folder=folder, progress=ignore_progress, beside=BESIDE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated, its training left out."""
    _, run = make_run(tmp_path_factory.mktemp("forgetting"), [row(n) for n in range(3)])
    folder = run / "evaluate"
    with scripted(answer) as server:
        result = ask(server, folder)
    write_manifest(
        folder, as_manifest(folder, result, stage="evaluate", fingerprint="f", seconds=0.0)
    )
    return run


def test_each_is_asked_once_before_and_after_and_compared_by_problem(run: Path) -> None:
    manifest = read_manifest(run / "evaluate")
    assert manifest is not None
    assert isinstance(manifest.figures, EvaluationFigures)
    assert manifest.rows_in == 2 * (5 * 3 + 60)
    assert manifest.figures.results["student_after"].problems == 5
    found = manifest.figures.forgetting
    lost, kept = found["lost"], found["kept"]
    assert (lost.before.pass_at_1, lost.after.pass_at_1) == (1.0, 0.5)
    assert (lost.after.problems, lost.after.samples) == (40, 40)
    assert lost.change.difference == -0.5
    assert lost.change.ci95[1] < 0
    assert (kept.change.difference, kept.change.shown) == (0.0, False)
    (note,) = manifest.notes
    assert note.startswith("forgotten: on lost the student fell from 100.0% to 50.0%, -50.0 points")
    traces = list(read_table(run / "evaluate", "student_after.lost", Trace))
    assert {trace.problem_id for trace in traces} == {one.id for one in BESIDE["lost"]}
    asked = list(read_table(run / "evaluate", "forgetting", Problem))
    assert asked == [*BESIDE["lost"], *BESIDE["kept"]]


def test_what_was_answered_is_not_asked_again(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run / "evaluate", tmp_path / "evaluate"))
    with scripted(answer) as server:
        again = ask(server, folder)
        assert not server.asked
        more = ask(server, folder, samples=4)
        assert len(server.asked) == 2 * 5, "one more of each held-out problem"
    assert isinstance(again.figures, EvaluationFigures)
    assert isinstance(more.figures, EvaluationFigures)
    assert again.figures.forgetting == more.figures.forgetting


def test_terminal_report_and_summary_tell_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary().with_stage(stage_summary("evaluate", run, reused=False), run)
    print_summary(summary, run)
    said = capsys.readouterr().out
    assert "lost  100.0% →  50.0%  -50.0 points (-" in said
    assert ", fell (40 problems)" in said
    assert "+0.0 points (" in said
    assert "no difference shown (20 problems)" in said
    write_summary(run, summary)
    values = json.loads((run / "summary.json").read_text())["forgetting"]
    assert values["lost"]["change"]["difference"] == -0.5
    page = build(run).read_text()
    assert page.count("forgotten: on lost the student fell") == 1
    assert "<td>kept</td><td>100.0%</td><td>100.0%</td>" in page


def test_compare_reads_it_from_a_run(run: Path) -> None:
    found = compare(evaluations_in(run))
    assert [row.evaluated.model for row in found["lost"]] == ["run base", "run student"]
    change = found["lost"][1].difference
    assert change is not None
    assert change.difference == -0.5


def test_a_draw_depends_on_each_problem_alone() -> None:
    all_ = problems("p", 100)
    ten = drawn(all_, 10)
    assert len(ten) == 10
    assert ten != all_[:10]
    assert {one.id for one in drawn(all_[::-1], 10)} == {one.id for one in ten}
    changed = [dataclasses.replace(one, prompt="?") for one in all_]
    assert [one.id for one in drawn(changed, 10)] == [one.id for one in ten]
    assert {one.id for one in ten} <= {one.id for one in drawn(all_, 20)}
    assert drawn(all_, 100) == all_


def recipe(folder: Path, forgetting: list[dict[str, Any]], **evaluate: Any) -> Path:
    (folder / "rows.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}))
    (folder / "mine.yaml").write_text("path: rows.jsonl\ncolumns: {prompt: question}\n")
    (folder / "open.yaml").write_text(
        "path: rows.jsonl\nkind: open\ncolumns: {prompt: question, reference: answer}\n"
    )
    values = {
        "problems": {"heldout": [{"source": "file", "path": "rows.jsonl"}]},
        "generate": {"engine": "import", "layout": "table", "path": "rows.jsonl"},
        "finetune": {"student": str(ROOT / "miniature/student"), "template": "miniature"},
        "evaluate": {"forgetting": forgetting, **evaluate},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_recipe_without_it_is_evaluated_as_before_there_was_the_key(tmp_path: Path) -> None:
    without = settings(load_recipe(recipe(tmp_path, [])))
    assert "forgetting" not in json.dumps(without)
    named = load_recipe(recipe(tmp_path, [{"benchmark": "mine.yaml"}]))
    check_paths(named)
    assert named.evaluate.forgetting[0].benchmark == str(tmp_path / "mine.yaml")
    assert settings(named)[:-1] == without


@pytest.mark.parametrize(
    ("forgetting", "said"),
    [
        ({"benchmark": "maths-500"}, "forgetting.0: maths-500 is none of the benchmarks"),
        ({"benchmark": "gsm8k", "path": "no.jsonl"}, "there is no file"),
        ({"benchmark": "open.yaml"}, "nothing judges problems of kind open"),
        ({"benchmark": "nowhere.yaml"}, "can't be read"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(
    tmp_path: Path, forgetting: dict[str, Any], said: str
) -> None:
    loaded = load_recipe(recipe(tmp_path, [forgetting]))
    with pytest.raises(ValueError, match=r"evaluate\.forgetting\.0") as caught:
        check_paths(loaded)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_needs_both_and_each_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluate\.models: name student_before and"):
        load_recipe(recipe(tmp_path, [{"benchmark": "gsm8k"}], models=["student_after"]))
    twice = load_recipe(recipe(tmp_path, [{"benchmark": "gsm8k"}] * 2))
    with pytest.raises(ValueError, match=r"forgetting\.1\.benchmark: gsm8k is named twice"):
        check_paths(twice)


def test_a_checker_that_is_missing_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = load_recipe(recipe(tmp_path, [{"benchmark": "ifeval"}])).evaluate
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"ifeval is judged by if-verifiable: pip install"):
        check_judges(section)
