"""A finished or unfinished run, as tables: `tracestill.load_run("runs/quickstart")`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracestill.explore.shown import Shown, shown_traces
from tracestill.records.figures import EvaluationFigures, ModelFigures, TrainingFigures
from tracestill.records.layout import FUNNEL, PROVENANCE, RECIPE, SUMMARY, recipe_path

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    from tracestill.records import Manifest


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder. Its tables are read when they are asked for."""

    path: Path

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe, with every default."""
        import yaml

        return cast(dict[str, Any], yaml.safe_load((self.path / RECIPE).read_text()))

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, git revision, hardware and seed; empty if the run has not begun."""
        return _read_json(self.path / PROVENANCE)

    @property
    def summary(self) -> dict[str, Any]:
        """The final table's figures; empty before the first stages are complete."""
        return _read_json(self.path / SUMMARY)

    def manifest(self, stage: str) -> Manifest | None:
        """What a complete stage says of itself, or None."""
        from tracestill.records import read_manifest

        return read_manifest(self.path / stage)

    def dataset(self, stage: str, table: str) -> datasets.Dataset:
        """A stage's table as a `datasets.Dataset`, memory-mapped from its Parquet shards.

        Raises:
            ValueError: the stage is not complete, has no such table, or a shard is damaged.

        """
        import datasets

        files = [str(path) for path in self._shards(stage, table)]
        return datasets.Dataset.from_parquet(files)

    def frame(self, stage: str, table: str, columns: list[str] | None = None) -> pd.DataFrame:
        """A stage's table, or some of its columns, as a DataFrame. Columns are the record's fields;
        dicts that are stored as JSON (a problem's `meta`, a dispute's `opinions`) are dicts again.

        Raises:
            ValueError: the stage is not complete, has no such table, or a shard is damaged.

        """
        import pandas as pd

        parts = (pd.read_parquet(path, columns=columns) for path in self._shards(stage, table))
        frame = pd.concat(parts, ignore_index=True)
        for column in frame.columns.intersection(["meta", "opinions"]):
            frame[column] = frame[column].map(json.loads)
        return frame

    def _shards(self, stage: str, table: str) -> list[Path]:
        from tracestill.records import check_files

        manifest = self.manifest(stage)
        if manifest is None:
            raise ValueError(
                f"{self.path} has no complete stage {stage}; run it with `tracestill run "
                f"RECIPE --to {stage}`"
            )
        if table not in manifest.tables:
            there = ", ".join(manifest.tables) or "none"
            raise ValueError(f"{self.path} has no table {stage}/{table}, only {there}")
        check_files(self.path / stage, manifest)
        return [self.path / stage / shard.file for shard in manifest.tables[table]]

    def problems(self) -> pd.DataFrame:
        """The problems that were distilled from, with their `task`."""
        return _with_task(self.frame("problems", "train"))

    def heldout(self) -> pd.DataFrame:
        """The problems that judge the models, with their `task`."""
        return _with_task(self.frame("problems", "heldout"))

    def traces(self) -> pd.DataFrame:
        """Every trace of the teacher, kept or not."""
        return self.frame("generate", "traces")

    def verdicts(self) -> pd.DataFrame:
        """What the verifier said of each trace that has an answer."""
        return self.frame("filter", "verdicts")

    def pass_rates(self) -> pd.DataFrame:
        """How often each problem's samples were correct: columns `problem_id`, `samples`,
        `correct`, and `pass_rate`, an unbiased estimate; it is missing where a budget ended the
        sampling of a problem before its rule did.

        Where the teacher was not sampled with `until_correct`, every problem has the same number of
        samples, and the rate is the plain share of those that the filter judged correct.
        """
        manifest = self.manifest("generate")
        if manifest is not None and "pass_rates" in manifest.tables:
            return self.frame("generate", "pass_rates")
        traces = self.frame("generate", "traces", ["id", "problem_id", "finish"])
        verdicts = self.frame("filter", "verdicts", ["trace_id", "outcome"])
        right = set(verdicts[verdicts["outcome"] == "correct"]["trace_id"])
        answered = traces[traces["finish"].isin(["stop", "length"])]
        answered = answered.assign(correct=answered["id"].isin(right))
        judged = answered.groupby("problem_id", sort=False)
        rates = judged["correct"].agg(samples="size", correct="sum").reset_index()
        return rates.assign(pass_rate=rates["correct"] / rates["samples"])

    def disputes(self) -> pd.DataFrame:
        """What people should decide: answers on which verifiers disagree, refusals put aside."""
        return self.frame("filter", "disputes")

    def doubts(self) -> pd.DataFrame:
        """The problems whose own reference, given as an answer, is not judged to be right."""
        return self.frame("filter", "doubts")

    def drops(self) -> pd.DataFrame:
        """Which traces were dropped, and why."""
        return self.frame("filter", "drops")

    def kept(self) -> pd.DataFrame:
        """The traces that no filter dropped: what the student is given."""
        traces = self.traces()
        return traces[self._is_kept(traces["id"])].reset_index(drop=True)

    def _is_kept(self, ids: pd.Series[str]) -> pd.Series[bool]:
        manifest = self.manifest("filter")
        if manifest is not None and "kept" in manifest.tables:
            return ids.isin(self.frame("filter", "kept", ["trace_id"])["trace_id"])
        return ~ids.isin(self.drops()["trace_id"])  # runs of before format 3

    def learnt(self) -> pd.DataFrame:
        """The traces that the student was given: columns `trace_id` and `heldout`, true for those
        that it was not trained on but measured with.
        """
        return self.frame("finetune", "learnt")

    def funnel(self) -> pd.DataFrame:
        """Traces by what became of them: columns `reason` and `traces`, "kept" last."""
        import pandas as pd

        counts = self.drops()["reason"].value_counts()
        ids = self.frame("generate", "traces", ["id"])["id"]
        rows = [*counts.items(), ("kept", int(self._is_kept(ids).sum()))]
        return pd.DataFrame(rows, columns=["reason", "traces"])

    def noted(self) -> pd.DataFrame:
        """What steps of the filter found that drop nothing: columns `step`, `reason`, `traces`."""
        import pandas as pd

        path = self.path / "filter" / FUNNEL
        steps = json.loads(path.read_text()) if path.is_file() else []  # older runs have none
        rows = [
            (step["step"], reason, count)
            for step in steps
            for reason, count in step.get("noted", {}).items()
        ]
        return pd.DataFrame(rows, columns=["step", "reason", "traces"])

    def metrics(self) -> pd.DataFrame:
        """The student's training, a row for each optimiser step."""
        import pandas as pd

        path = self.path / "finetune" / "metrics.jsonl"
        if not path.is_file():
            raise ValueError(f"{self.path} has no finetune/metrics.jsonl; run the stage finetune")
        return pd.read_json(path, lines=True)

    @property
    def has_heldout_loss(self) -> bool:
        """Whether the student was measured on traces that it does not learn from."""
        return _has_rows(self.path / "finetune" / "heldout.jsonl")

    def heldout_loss(self) -> pd.DataFrame:
        """The loss of held-out traces, in nats per token: columns `step`, `heldout_loss`, that of
        reasoning and answer apart, and `heldout_accuracy`, a share of tokens.
        """
        import pandas as pd

        if not self.has_heldout_loss:
            raise ValueError(f"{self.path}: no trace was held out; set finetune.holdout")
        return pd.read_json(self.path / "finetune" / "heldout.jsonl", lines=True)

    @property
    def has_monitor(self) -> bool:
        """Whether the student answered held-out problems while it learnt."""
        return _has_rows(self.path / "finetune" / "monitor.jsonl")

    def monitor(self) -> pd.DataFrame:
        """What the student's answers were like while it learnt, a row for each look: columns
        `step`, `problems`, `closed`, `ended`, `tokens`, `judged`, `passed`, `seconds`.
        """
        import pandas as pd

        if not self.has_monitor:
            raise ValueError(f"{self.path}: the training had no monitor; set finetune.monitor")
        return pd.read_json(self.path / "finetune" / "monitor.jsonl", lines=True)

    def results(self) -> dict[str, ModelFigures]:
        """The evaluation of each model, by its name.

        Raises:
            ValueError: the stage evaluate is not complete.

        """
        manifest = self.manifest("evaluate")
        if manifest is None or not isinstance(manifest.figures, EvaluationFigures):
            raise ValueError(f"{self.path} has no complete stage evaluate")
        return manifest.figures.results

    def training(self) -> TrainingFigures:
        """How the student was trained and exported.

        Raises:
            ValueError: the stage finetune is not complete.

        """
        manifest = self.manifest("finetune")
        if manifest is None or not isinstance(manifest.figures, TrainingFigures):
            raise ValueError(f"{self.path} has no complete stage finetune")
        return manifest.figures

    def evaluation(self) -> pd.DataFrame:
        """pass@1 by model and task: columns `model`, `task` ("all" for the whole), `pass_at_1`,
        `low`, `high`, `problems`.
        """
        import pandas as pd

        rows = [
            (model, task, part.pass_at_1, *part.ci95, part.problems)
            for model, result in self.results().items()
            for task, part in [("all", result), *result.by_task.items()]
        ]
        columns = ["model", "task", "pass_at_1", "low", "high", "problems"]
        return pd.DataFrame(rows, columns=columns)

    def show(self, trace_id: str) -> Shown:
        """One trace with its problem, verdict and drop, readable in notebooks and terminals.

        Raises:
            ValueError: there is no such trace.

        """
        if found := self.shown([trace_id]):
            return found[0]
        raise ValueError(f"{self.path} has no trace {trace_id}")

    def shown(self, trace_ids: Iterable[str]) -> list[Shown]:
        """Several traces made readable, in the order of the traces table."""
        return shown_traces(self.path, trace_ids)


def load_run(path: str | Path) -> Run:
    """Open a run's folder.

    Raises:
        ValueError: `path` is no run.

    """
    folder = Path(path)
    recipe_path(folder)  # or it is no run
    return Run(folder)


def _read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return values


def _has_rows(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _with_task(frame: pd.DataFrame) -> pd.DataFrame:
    frame["task"] = [
        str(meta.get("family") or source)
        for meta, source in zip(frame["meta"], frame["source"], strict=True)
    ]
    return frame
