"""Requests that fail are told where they happen, and are no wrong answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import run_tracestill
from scripted import completion, reply, scripted

from tracestill.evaluate.evaluation import EvaluatedModel, evaluate
from tracestill.recipe.evaluate import EvaluateSection
from tracestill.recipe.models import ServedModel
from tracestill.recipe.rules import RULES
from tracestill.records import Problem, StageResult, Trace, Verdict, read_table, write_manifest
from tracestill.records.figures import EvaluationFigures
from tracestill.records.manifest import as_manifest
from tracestill.records.progress import ignore_progress

PROBLEMS = [
    Problem(
        id=f"p{n}", prompt=f"How much is {n} + 1?", reference=str(n + 1), kind="math", source="s"
    )
    for n in range(20)
]


RECIPE = """\
name: small
problems:
  train: [{{source: file, path: problems.jsonl}}]
  heldout: [{{source: file, path: heldout.jsonl}}]
generate: {{engine: openai, model: m, base_urls: ["{url}"], retries: 0, max_tokens: 64}}
finetune: {{student: some/student, template: t.jinja, stop: "<|end|>"}}
"""


def answer(request: web.Request, body: dict[str, Any], before: int) -> web.StreamResponse:
    """Right on even numbers, wrong on odd ones, refused from 16 on."""
    number = int(body["messages"][-1]["content"].split()[3])
    if number >= 16:
        return reply({"error": {"message": "out of order"}}, 400)
    right = number + 1 if number % 2 == 0 else 0
    return reply(completion(f"<think>\n{number}\n</think>\n\n\\boxed{{{right}}}"))


def judge(folder: Path, most: float) -> StageResult:
    with scripted(answer) as server:
        model = ServedModel(engine="openai", model="m", base_urls=[server.url], retries=0)
        return evaluate(
            [EvaluatedModel(name="teacher", model=model)],
            PROBLEMS,
            EvaluateSection(models=["teacher"], max_failed=most),
            max_tokens=64,
            seed=0,
            rules=RULES,
            folder=folder,
            progress=ignore_progress,
        )


def test_failed_requests_are_no_wrong_answers(tmp_path: Path) -> None:
    result = judge(tmp_path, most=0.25)
    assert isinstance(result.figures, EvaluationFigures)
    figures = result.figures.results["teacher"]
    assert (figures.pass_at_1, figures.problems, figures.failed) == (0.5, 16, 4)
    (note,) = result.notes
    assert "4 of 20 requests to teacher failed" in note
    assert "out of order" in note
    manifest = as_manifest(tmp_path, result, stage="evaluate", fingerprint="f", seconds=0.0)
    write_manifest(tmp_path, manifest)
    assert len(list(read_table(tmp_path, "teacher", Trace))) == 20
    assert len(list(read_table(tmp_path, "teacher_verdicts", Verdict))) == 16


def test_too_many_failures_end_the_stage_and_keep_what_was_answered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"4 of 20 requests .* raise evaluate\.max_failed"):
        judge(tmp_path, most=0.1)
    journal = (tmp_path / "teacher.journal.jsonl").read_text()
    assert journal.count('"finish":"stop"') == 16


def test_generate_says_what_failed_where_it_happened(tmp_path: Path) -> None:
    rows = [{"prompt": p.prompt, "reference": p.reference} for p in PROBLEMS]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"prompt": "1 + 1", "reference": "2"}))
    (tmp_path / "t.jinja").write_text("{#- a template -#}")
    with scripted(answer) as server:
        (tmp_path / "r.yaml").write_text(RECIPE.format(url=server.url))
        done = run_tracestill("generate", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    line = "4 of 20 requests failed, the first: "
    assert done.stdout.count(line) == 1
    assert done.stdout.index("generate       20 →      20") < done.stdout.index(line)
    assert "out of order" in done.stdout
    again = run_tracestill("generate", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert line in again.stdout
