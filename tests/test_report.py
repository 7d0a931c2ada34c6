from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tracestill
from tracestill.explore import plots
from tracestill.explore.report import build
from tracestill.explore.shown import Shown
from tracestill.recipe.loading import load_recipe
from tracestill.records import (
    PassRate,
    Problem,
    Trace,
    as_manifest,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from tracestill.records.figures import (
    LengthFigures,
    OverlongFigures,
    Predicted,
    TrainingFigures,
)
from tracestill.records.layout import REPORT, STAGES
from tracestill.records.progress import ignore_progress
from tracestill.stages.filter import make


class Text(HTMLParser):
    """What a reader of a page sees, its tags, and what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.fetched, self.tags = "", list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            str(value)
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not str(value).startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_file_that_tells_the_run(finished: Path) -> None:
    file = finished / REPORT
    assert file.stat().st_size < 5_000_000
    page = Text(file.read_text())
    assert page.fetched == []
    assert not re.search(r"url\((?!#)|@import", file.read_text())
    run = tracestill.load_run(finished)
    results = run.summary["evaluate"]
    first = page.text.index(f"{results['student_after']['pass_at_1']:.1%}")
    assert first < page.text.index("What became of the teacher's traces")
    for reason, count in run.funnel().itertuples(index=False):
        assert f"{count:,} {reason.replace('_', ' ')}" in page.text
    for stage in STAGES[:-1]:
        assert stage in page.text
    assert page.tags.count("svg") >= 9
    assert all(trace in page.text for trace in run.traces()["id"])
    ids = re.findall(r'\bid="([^"]+)"', file.read_text())
    assert len(ids) == len(set(ids))


def test_a_report_shows_hostile_text_as_text(copied: Path) -> None:
    recipe = copied / "recipe.yaml"
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    text = recipe.read_text()
    assert "description:" in text
    recipe.write_text(re.sub(r"description:.*", f"description: '{hostile}'", text))
    before = Text((copied / REPORT).read_text())
    page = Text(build(copied).read_text())
    assert page.tags.count("script") == before.tags.count("script") == 2
    assert "img" not in page.tags
    assert hostile in page.text


def test_a_report_of_an_unfinished_run_names_what_is_missing(copied: Path) -> None:
    for stage in ("finetune", "evaluate"):
        (copied / stage / "manifest.json").unlink()
    summary = copied / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"evaluate": {}}))
    page = Text(build(copied).read_text())
    assert "Not there yet: finetune, evaluate." in page.text
    assert "What became of the teacher's traces" in page.text


def test_references_without_an_answer_are_counted_when_the_filter_ends_and_in_the_report(
    copied: Path,
) -> None:
    folder = copied / "problems"
    manifest = read_manifest(folder)
    assert manifest is not None
    first, second, third, *others = read_table(folder, "train", Problem)
    spoiled = [
        dataclasses.replace(first, reference="notfound", kind="math"),
        dataclasses.replace(second, reference="", kind="math"),
        dataclasses.replace(third, reference="notfound", kind="math"),
    ]
    tables = manifest.tables | {"train": write_table(folder, "train", Problem, spoiled + others)}
    write_manifest(folder, dataclasses.replace(manifest, tables=tables))
    result = make(load_recipe(copied / "recipe.yaml"), copied, ignore_progress)
    (note,) = result.notes
    assert note.startswith("3 problems have a reference that holds no answer")
    assert note.endswith("2 'notfound', 1 ''")
    filtered = read_manifest(copied / "filter")
    assert filtered is not None
    again = dataclasses.replace(filtered, notes=result.notes, tables=result.tables)
    write_manifest(copied / "filter", again)
    assert note in Text(build(copied).read_text()).text


def test_what_is_only_counted_lies_in_the_funnel_and_in_the_report(copied: Path) -> None:
    assert "Only counted" not in Text((copied / REPORT).read_text()).text
    assert tracestill.load_run(copied).noted().empty
    step = '{refusal: {action: keep, patterns: {all_of_them: ["."]}}}'
    recipe = load_recipe(copied / "recipe.yaml", [f"filter.steps=[form, {step}]"])
    made = make(recipe, copied, ignore_progress)
    again = as_manifest(copied / "filter", made, stage="filter", fingerprint="f", seconds=0.0)
    write_manifest(copied / "filter", again)
    (row,) = tracestill.load_run(copied).noted().itertuples(index=False)
    assert (row.step, row.reason) == ("refusal", "all_of_them")
    assert row.traces == made.rows_out
    text = " ".join(Text(build(copied).read_text()).text.split())
    assert f"Only counted, and not dropped for it: {row.traces:,} all of them (refusal)." in text


def test_a_report_says_how_sampling_until_correct_went(copied: Path) -> None:
    assert "Sampled until correct" not in Text((copied / REPORT).read_text()).text
    rates = [
        PassRate(problem_id="a", samples=1, correct=1, pass_rate=1.0),
        PassRate(problem_id="b", samples=3, correct=1, pass_rate=0.0),
        PassRate(problem_id="c", samples=4, correct=0, pass_rate=0.0),
        PassRate(problem_id="d", samples=1, correct=0, pass_rate=None),  # ended by the budget
    ]
    folder = copied / "generate"
    manifest = read_manifest(folder)
    assert manifest is not None
    shards = write_table(folder, "pass_rates", PassRate, rates)
    tables = manifest.tables | {"pass_rates": shards}
    write_manifest(folder, dataclasses.replace(manifest, tables=tables))
    text = " ".join(Text(build(copied).read_text()).text.split())
    assert "2.25 samples a problem, at most 4; 2 of 4 problems have a correct one" in text
    # Of all problems there is no unbiased rate: those that were finished are the easier ones.
    assert "pass rate is" not in text
    assert "The budget ended 1 problems before their rule did" in text
    frame = tracestill.load_run(copied).pass_rates()
    assert frame["samples"].tolist() == [1, 3, 4, 1]
    assert frame["pass_rate"].isna().tolist() == [False, False, False, True]


def test_a_report_tells_the_training(copied: Path) -> None:
    page = Text((copied / REPORT).read_text())
    text = " ".join(page.text.split())
    run = tracestill.load_run(copied)
    seen, looked = run.heldout_loss()["heldout_loss"], run.monitor().iloc[-1]
    for title in ("Loss", "Token accuracy", "Answers while it learns", "Gradient norm"):
        assert title in text
    metrics, held = run.metrics()["accuracy"], run.heldout_loss()["heldout_accuracy"]
    assert f"{metrics.iloc[0]:.1%} at the first step, {metrics.iloc[-1]:.1%} at the last" in text
    assert f"held out {held.iloc[0]:.1%} before, {held.iloc[-1]:.1%} after" in text
    for label in ("reasoning, held out", "answer, held out", "thinking closed", "ended by itself"):
        assert label in page.text
    assert f"{seen.iloc[0]:.3f} before, {seen.iloc[-1]:.3f} after" in text
    assert f"of {looked['problems']:.0f} held-out problems {looked['closed']:.0%} closed" in text
    assert "what the plan said" in text.lower()
    for absent in ("FLOPs", "are longer than"):
        assert absent not in text

    folder = copied / "finetune"
    manifest = read_manifest(folder)
    assert manifest is not None
    lengths = LengthFigures(
        traces=40, long_traces=4, long_tokens=900, share_of_traces=0.1, share_of_tokens=0.25,
        mean_kept=75.0, mean_long=225.0,
    )  # fmt: skip
    overlong = OverlongFigures(
        policy="drop", max_length=200, longest=300, by_source={"gcd": lengths, "ab": lengths},
        **dataclasses.asdict(lengths),
    )  # fmt: skip
    predicted = {
        "memory_bytes": Predicted(predicted=2.5e9, actual=2.0e9, difference=0.25),
        "tokens_per_second": Predicted(predicted=1500.0, actual=2000.0, difference=-0.25),
    }
    assert isinstance(manifest.figures, TrainingFigures)
    export = dataclasses.replace(manifest.figures.export, findings=["the adapter is <small>"])
    figures = dataclasses.replace(
        manifest.figures, overlong=overlong, predicted=predicted, export=export
    )
    metrics = run.metrics().assign(mfu=0.452, memory_gb=21.4)
    metrics.to_json(folder / "metrics.jsonl", orient="records", lines=True)
    files = [
        dataclasses.replace(one, bytes=(folder / one.file).stat().st_size) for one in manifest.files
    ]
    write_manifest(folder, dataclasses.replace(manifest, figures=figures, files=files))
    (folder / "monitor.jsonl").unlink()
    html = build(copied).read_text()
    for row in (
        ("memory", "2.50 GB", "2.00 GB", "+25.0%"),
        ("tokens per second", "1,500", "2,000", "-25.0%"),
        ("model FLOPs utilisation", "45.2%"),
        ("most memory held", "21.4 GB"),
    ):
        assert f"<tr><td>{'</td><td>'.join(row)}</td></tr>" in html
    text = " ".join(Text(html).text.split())
    assert "4 of 40 traces are longer than 200 tokens: left out" in text
    assert "gcd: 10.0% of the traces with 25.0% of the tokens" in text
    assert "the adapter is <small>" in text
    assert "Answers while it learns" not in text
    with pytest.raises(ValueError, match="had no monitor"):
        run.monitor()


def test_a_long_training_is_drawn_by_means_of_its_steps() -> None:
    from matplotlib.figure import Figure

    points = [(step, float(step % 2)) for step in range(1, 100_001)]
    axes = Figure().subplots()
    plots.over_steps(axes, [plots.Curve(points, "loss", "#000000")], "")
    (line,) = axes.get_lines()
    assert 200 < len(line.get_xdata()) <= 400
    assert set(line.get_ydata()) == {0.5}


def test_a_run_is_read_as_tables(finished: Path) -> None:
    run = tracestill.load_run(finished)
    assert run.recipe["name"] == "tiny"
    assert set(run.problems()["task"]) == {"chain_sum", "ab"}
    assert len(run.heldout()) == 8
    traces, drops, kept = run.traces(), run.drops(), run.kept()
    assert len(traces) == 60
    assert len(kept) + len(drops) == len(traces)
    assert run.funnel()["traces"].sum() == len(traces)
    assert set(run.verdicts()["outcome"]) <= {"correct", "incorrect", "error", "unverifiable"}
    evaluation = run.evaluation()
    assert set(evaluation["model"]) == {"student_before", "student_after", "teacher"}
    assert ((evaluation["low"] <= evaluation["pass_at_1"]) & (evaluation["high"] <= 1)).all()
    assert (run.metrics()["step"].diff().dropna() == 1).all()
    rows = run.dataset("generate", "traces")
    assert rows["id"][:] == [t.id for t in read_table(finished / "generate", "traces", Trace)]


def test_a_trace_is_shown_readably(finished: Path) -> None:
    run = tracestill.load_run(finished)
    drop = run.drops().iloc[0]
    shown = run.show(drop["trace_id"])
    assert shown.reason == drop["reason"]
    for part in ("[problem]", "[reasoning]", "[answer]", f"dropped, {drop['reason']}"):
        assert part in str(shown)
    with pytest.raises(ValueError, match="has no trace nothing"):
        run.show("nothing")


def test_a_shown_trace_escapes_what_the_teacher_wrote() -> None:
    shown = Shown(
        trace_id="t", prompt="<b>p</b>", reference="", reasoning="<script>x</script>",
        answer=None, outcome="none", reason=None, detail="",
    )  # fmt: skip
    page = Text(shown._repr_html_())
    assert "script" not in page.tags
    assert "<script>x</script>" in page.text
    assert "(none)" in page.text


def test_what_is_no_run_or_not_there_is_said(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run"):
        tracestill.load_run(tmp_path)
    run = tracestill.load_run(finished)
    with pytest.raises(ValueError, match="no table generate/trace, only traces"):
        run.frame("generate", "trace")


def test_pass_rates_of_a_fixed_number_of_samples_are_plain_shares(finished: Path) -> None:
    run = tracestill.load_run(finished)
    rates = run.pass_rates().set_index("problem_id")
    assert len(rates) == len(run.problems())
    assert (rates["samples"] == 3).all()
    right = set(run.verdicts().query("outcome == 'correct'")["trace_id"])
    for problem, traces in run.traces().groupby("problem_id"):
        assert rates.loc[problem, "pass_rate"] == traces["id"].isin(right).mean()
