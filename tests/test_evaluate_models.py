"""`tracestill evaluate MODEL BENCHMARK…` and `tracestill compare`: figures, resuming, mistakes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import ROOT, run_tracestill
from scripted import Scripted, completion, reply, scripted

from generate.benchmarks import benchmark_problems
from tracestill.evaluate.evaluated import answers, compare, evaluations_in, read_evaluated
from tracestill.evaluate.published import _all, published
from tracestill.recipe.benchmarks import BenchmarkSpec, named_benchmark, shipped
from tracestill.records import Problem, Trace, Verdict, read_manifest, read_table
from tracestill.records.figures import EvaluationFigures

DATA = ROOT.parent / "shared" / "data"
LOOP = "so it goes round and round until it comes back here again, " * 40


def said(number: int, sample: int, good: int) -> str:
    """Sample 0 is always right, others where the number is below `good`; one never ends its
    reasoning, one ends in a loop.
    """
    right = sample == 0 or number < good
    if number == 9 and sample == 1:
        return f"<think>\n{LOOP}"
    value = number + 1 if right else (7777 if sample == 1 else 5000 + sample)
    return f"<think>\n{number} and one more\n</think>\n\n\\boxed{{{value}}}"


def answering(good: int) -> Any:
    """A server's script: it counts how often a question came, and refuses number 11."""

    def answer(request: web.Request, body: dict[str, Any], before: int) -> web.StreamResponse:
        number = int(body["messages"][-1]["content"].split()[3])
        if number == 11:
            return reply({"error": {"message": "out of order"}}, 400)
        cut = {"choice": {"finish_reason": "length"}} if number == 9 and before == 1 else {}
        return reply(completion(said(number, before, good), **cut))

    return answer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "sums.yaml"
    rows = [{"q": f"How much is {n} + 1?", "a": f"#### {n + 1}"} for n in range(12)]
    path.with_name("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.write_text(
        "path: rows.jsonl\ncolumns: {prompt: q, reference: a}\nanswer_after: '####'\n"
        "samples: 4\nmax_tokens: 64\ninstruction: Put it in a box.\n"
    )
    return path


def ask(server: Scripted, file: Path, out: Path, *more: str) -> Any:
    return run_tracestill(
        "evaluate", "some-model", file, "--base-url", server.url, "--out", out,
        "--max-failed", "0.2", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A good model's evaluation, and what was printed."""
    out = tmp_path_factory.mktemp("good")
    with scripted(answering(good=6)) as server:
        done = ask(server, file, out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_figures_are_those_of_the_stored_answers_counted_by_hand(
    evaluated: tuple[Path, str],
) -> None:
    out, printed = evaluated
    folder = out / "sums"
    verdicts = {one.trace_id: one for one in read_table(folder, "model_verdicts", Verdict)}
    problems = list(read_table(folder, "problems", Problem))
    assert problems[3].prompt == "How much is 3 + 1?\n\nPut it in a box."
    rows: dict[str, list[tuple[bool, str | None]]] = {}
    traces = list(read_table(folder, "model", Trace))
    for trace in traces:
        if trace.finish not in ("error", "skipped"):
            verdict = verdicts[trace.id]
            right = f"\\boxed{{{int(problems_by(problems)[trace.problem_id])}}}" in trace.raw
            assert right == (verdict.outcome == "correct")
            rows.setdefault(trace.problem_id, []).append((right, verdict.extracted))
    assert len(rows) == 11
    shares = [sum(right for right, _ in own) / 4 for own in rows.values()]
    figures = read_evaluated(folder).figures
    assert figures.pass_at_1 == pytest.approx(sum(shares) / 11)
    # Of 4 answers with c right, a pair has none right in (4-c)(3-c)/12 of cases.
    pairs = [1 - (4 - 4 * s) * (3 - 4 * s) / 12 for s in shares]
    assert figures.pass_at_k[2].rate == pytest.approx(sum(pairs) / 11)
    assert figures.pass_at_k[4].rate == 1
    votes = []
    for own in rows.values():
        counts = Counter("right" if right else found for right, found in own if right or found)
        most = max(counts.values())
        votes.append((counts["right"] == most) / sum(count == most for count in counts.values()))
    assert figures.cons_at_k is not None
    assert figures.cons_at_k.rate == pytest.approx(sum(votes) / 11)
    assert (figures.truncated, figures.failed, figures.loops) == (1, 4, 1)
    assert figures.closed == pytest.approx(43 / 44)
    assert figures.per_thousand_tokens == pytest.approx(figures.pass_at_1 / 7 * 1000, abs=1e-3)
    results = json.loads((out / "results.json").read_text())["sums"]
    assert results["pass_at_1"] == figures.pass_at_1
    assert results["pass_at_k"]["4"]["rate"] == 1
    for text in (f"{figures.pass_at_1:.1%}", "100.0% (k=4)", "11 x 4", "4 of 48 requests"):
        assert text in printed


def problems_by(problems: list[Problem]) -> dict[str, str]:
    return {problem.id: problem.reference for problem in problems}


def test_an_evaluation_goes_on_where_it_was_and_is_taken_again(
    evaluated: tuple[Path, str], file: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(evaluated[0], tmp_path / "out"))
    journal = out / "sums" / "model.journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    with scripted(answering(good=6)) as server:
        url = server.url
        plan = out / "sums" / "evaluation.yaml"
        assert url not in plan.read_text()
        again = ask(server, file, out)
        assert again.returncode == 0, again.stderr
        assert not server.asked, "the same settings: nothing is asked again"
        (out / "sums" / "manifest.json").unlink()
        journal.write_bytes(b"".join(lines[:30]) + lines[30][:20])  # as a kill leaves it
        went_on = ask(server, file, out)
    assert went_on.returncode == 0, went_on.stderr
    assert 0 < len(server.asked) < 48 - 20
    assert len(list(read_table(out / "sums", "model", Trace))) == 48


def test_models_are_compared_by_problem(
    evaluated: tuple[Path, str], file: Path, tmp_path: Path
) -> None:
    with scripted(answering(good=0)) as server:
        worse = ask(server, file, tmp_path / "worse", "--temperature", "0.5")
    assert worse.returncode == 0, worse.stderr
    done = run_tracestill("compare", evaluated[0], tmp_path / "worse", evaluated[0])
    assert done.returncode == 0, done.stderr
    everything = [*evaluations_in(evaluated[0]), *evaluations_in(tmp_path / "worse")]
    first, second = compare(everything)["sums"]
    ours, theirs = (answers(one.evaluated.folder, "model") for one in (second, first))
    assert second.difference is not None
    by_hand = sum(sum(ours[p]) / 4 - sum(theirs[p]) / 4 for p in ours) / len(ours)
    assert second.difference.difference == pytest.approx(by_hand)
    assert second.difference.shown
    lines = [line for line in done.stdout.splitlines() if "some-model" in line]
    assert lines[0].rstrip().endswith("the first")
    assert "no difference shown" not in lines[1]
    assert f"{100 * by_hand:+.1f} (" in lines[1]
    assert lines[2].rstrip().endswith("no difference shown")
    assert "some-model was asked otherwise than the first: temperature 0.5, not 0.6" in done.stdout
    assert "compared on 11 problems" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model"], "name the benchmarks to evaluate model on: aime24,"),
        (["model", "aime"], "aime is none of the benchmarks that are known by name (aime24,"),
        (["model", "aime24=none.jsonl"], "there is no file none.jsonl"),
        (["r.yaml", "aime24"], "r.yaml is a recipe, which has its own problems"),
        (["r.yaml", "--samples", "4"], "--samples is for a model on benchmarks"),
        (["model", "aime24", "--set", "seed=1"], "--set changes a recipe's keys"),
        (["./none", "aime24"], "there is no model folder or GGUF file ./none"),
        ([".", "aime24"], "is neither a model's folder nor a run"),
        (["m", "aime24", "--base-url", "http://a:b@h/v1"], "a URL holds no user or password"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run_tracestill("evaluate", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_holds_one_model(evaluated: tuple[Path, str], file: Path, root: Path) -> None:
    out = evaluated[0]
    done = run_tracestill("evaluate", root / "miniature" / "student", file, "--out", out)
    assert "holds evaluations of some-model: name another folder with --out" in done.stderr


def test_published_figures_stand_below_with_their_source(
    evaluated: tuple[Path, str], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(evaluated[0], tmp_path / "out"))
    alone = run_tracestill("compare", out, "--published")
    assert alone.returncode == 1
    assert "nothing of them is published here" in alone.stderr
    plan = out / "sums" / "evaluation.yaml"
    plan.write_text(plan.read_text().replace("benchmark: sums", "benchmark: math-500"))
    done = run_tracestill("compare", out, "--published")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "R1-Distill-Qwen-7B" in line]
    assert line.split() == [
        "DeepSeek-R1-Distill-Qwen-7B", "92.8%", "not", "published", "published", "(1)",
    ]  # fmt: skip
    assert "(1) DeepSeek-AI 2025, arXiv:2501.12948" in done.stdout
    assert "temperature 0.6" in done.stdout


def test_published_figures_are_of_benchmarks_that_are_known() -> None:
    found = [one for name in shipped() for one in published(name)]
    assert len(found) == len(_all()), "each is of a benchmark that is known by name"
    assert all(0 < one.pass_at_1 < 1 and one.source and one.asked for one in found)


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_benchmark_reads_the_row_that_it_shows(name: str, tmp_path: Path) -> None:
    """The sample in each file's comment is made up; it has the columns that the file names."""
    text = "".join(
        line.removeprefix("# ") + " "
        for line in shipped()[name].read_text().splitlines()
        if line.startswith("#")
    )
    row = json.loads(text[text.index("{") :].replace("…]", '""]').replace(", …}", "}"))
    if name == "livecodebench":
        row["private_test_cases"] = ""
    (tmp_path / "row.jsonl").write_text(json.dumps(row) + "\n")
    _, spec = named_benchmark(f"{name}={tmp_path / 'row.jsonl'}")
    (problem,) = benchmark_problems(name, spec)
    assert problem.kind == spec.kind
    assert str(row[spec.columns.prompt]).strip() in problem.prompt
    assert problem.reference
    if spec.kind == "choice":
        right = problem.meta["choices"][ord(problem.reference) - ord("A")]
        assert right in (row.get("Correct Answer"), "Jupiter")


def test_the_order_of_choices_is_the_questions_own() -> None:
    rows = [
        {"q": f"Which of these is number {n}?", "a": "w", "b": "x", "c": "y"} for n in range(40)
    ]
    spec = BenchmarkSpec.model_validate(
        {"path": "none", "kind": "choice",
         "columns": {"prompt": "q", "reference": None, "choices": ["a", "b", "c"]}}
    )  # fmt: skip
    from generate.benchmarks import _as_problem, _template

    ask = _template(None)
    first, again = ([_as_problem("n", spec, row, 0, ask) for row in rows] for _ in range(2))
    assert first == again
    assert set(Counter(problem.reference for problem in first)) == {"A", "B", "C"}
    assert all(problem.meta["choices"][ord(problem.reference) - 65] == "w" for problem in first)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared/data beside this checkout")
@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("math-500", "math500.jsonl", 500),
        ("aime24", "aime24.jsonl", 30),
        ("amc23", "amc23.jsonl", 40),
        ("gsm8k", "gsm8k_test.jsonl", 1319),
        ("humaneval", "HumanEval.jsonl.gz", 164),
    ],
)
def test_real_benchmarks_are_read_and_their_references_judged_right(
    name: str, file: str, count: int
) -> None:
    from filter.verify import Answer, verify_many

    _, spec = named_benchmark(f"{name}={DATA / file}")
    problems = benchmark_problems(name, spec)
    assert len(problems) == count
    if spec.kind == "math":
        own = [
            Answer(problem=one, text=f"\\boxed{{{one.reference}}}", trace_id=one.id)
            for one in problems[:30]
        ]
        assert {verdict.outcome for verdict in verify_many(own)} == {"correct"}


def test_manifests_of_before_the_new_figures_still_load(tmp_path: Path) -> None:
    figures = {
        "pass_at_1": 0.5, "ci95": [0.2, 0.8], "problems": 8, "samples": 8, "by_task": {},
        "mean_tokens": 12.5, "truncated": 1,
    }  # fmt: skip
    values = {
        "stage": "evaluate", "fingerprint": "f", "rows_in": 8, "rows_out": 8, "dropped": {},
        "seconds": 1.0, "tables": {}, "files": [], "notes": [], "format": 3,
        "details": {"results": {"teacher": figures}},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert isinstance(manifest.figures, EvaluationFigures)
    old = manifest.figures.results["teacher"]
    assert (old.pass_at_k, old.cons_at_k, old.closed, old.loops) == ({}, None, None, None)


@pytest.mark.slow
def test_a_run_and_a_model_folder_answer_in_vllm(
    finished: Path, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "gym.yaml").write_text(
        "gym: {chain_sum: {size: 6, seed: 5, min_terms: 6, max_terms: 6, min_digits: 1, "
        "max_digits: 1}}\nkind: reasoning_gym\nsamples: 2\nmax_tokens: 200\n"
    )
    for name, model in (("student", finished), ("teacher", root / "miniature" / "teacher")):
        done = run_tracestill(
            "evaluate", model, tmp_path / "gym.yaml", "--out", tmp_path / name, "--limit", "6"
        )
        assert done.returncode == 0, done.stderr
    teacher = read_evaluated(tmp_path / "teacher" / "gym").figures
    assert (teacher.problems, teacher.samples, teacher.failed) == (6, 12, 0)
    assert teacher.pass_at_1 > 0.5
    assert teacher.closed == 1
    done = run_tracestill("compare", tmp_path / "student", tmp_path / "teacher", finished)
    assert "compared on 6 problems" in done.stdout
    assert "held-out problems" in done.stdout
