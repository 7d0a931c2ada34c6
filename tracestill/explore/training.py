"""What the report shows of the student's training."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from finetune.overlong import describe
from tracestill.explore import plots, svg
from tracestill.records.figures import TrainingFigures

if TYPE_CHECKING:
    import pandas as pd

    from tracestill.explore.load import Run

_HEIGHT = 2.5  # inches

_REASONING, _ANSWER = plots.COLOURS["student_after"], plots.COLOURS["teacher"]
_OTHER = plots.COLOURS["dropped"]


def training(run: Run) -> dict[str, Any]:
    """Plots by their titles, facts by their names, what was predicted, and notes to read.

    Stage `finetune` is complete.
    """
    figures, metrics = run.training(), run.metrics()
    curves = {"Loss": _losses(run, metrics)}
    if "accuracy" in metrics:  # trainings of before have none
        curves["Token accuracy"] = _accuracy(run, metrics)
    if run.has_monitor:
        curves["Answers while it learns"] = _answers(run.monitor())
    curves["Gradient norm"] = [plots.Curve(_points(metrics, "grad_norm"), "", _REASONING)]
    if len(curves) % 2:  # in pairs; else the facts say it
        curves["Tokens per second"] = _speed(metrics)
    units = {
        "Loss": "nats per token", "Token accuracy": "share of tokens",
        "Answers while it learns": "share of problems",
    }  # fmt: skip
    return {
        "plots": {
            title: svg.draw(
                partial(plots.over_steps, curves=drawn, unit=units.get(title, "")),
                title.lower(), _HEIGHT, svg.HALF,
            )
            for title, drawn in curves.items()
        },
        "facts": _facts(run, figures, metrics),
        "predicted": _predicted(figures),
        "why": _why(figures),
        "overlong": describe(figures.overlong) if figures.overlong else [],
        "findings": [*figures.export.findings, *figures.hints],
    }  # fmt: skip


def _points(frame: pd.DataFrame, column: str) -> list[tuple[int, float]]:
    """A column by its steps, where it has a value."""
    if column not in frame:
        return []
    rows = frame[["step", column]].dropna().itertuples(index=False)
    return [(int(step), float(value)) for step, value in rows]


def _losses(run: Run, metrics: pd.DataFrame) -> list[plots.Curve]:
    made = [
        plots.Curve(_points(metrics, "loss_reasoning"), "reasoning", _REASONING),
        plots.Curve(_points(metrics, "loss_answer"), "answer", _ANSWER),
    ]
    if run.has_heldout_loss:
        heldout = run.heldout_loss()
        for part, colour in (("reasoning", _REASONING), ("answer", _ANSWER)):
            points = _points(heldout, f"heldout_loss_{part}")
            made.append(plots.Curve(points, f"{part}, held out", colour, looked=True))
    return made


def _accuracy(run: Run, metrics: pd.DataFrame) -> list[plots.Curve]:
    made = [plots.Curve(_points(metrics, "accuracy"), "learnt", _REASONING, share=True)]
    if run.has_heldout_loss and (points := _points(run.heldout_loss(), "heldout_accuracy")):
        made.append(plots.Curve(points, "held out", _ANSWER, looked=True, share=True))
    return made


def _answers(monitor: pd.DataFrame) -> list[plots.Curve]:
    shown = (
        ("closed", "thinking closed", _REASONING), ("ended", "ended by itself", _ANSWER),
        ("passed", "right", _OTHER),
    )  # fmt: skip
    return [
        plots.Curve(_points(monitor, column), label, colour, looked=True, share=True)
        for column, label, colour in shown
    ]


def _speed(metrics: pd.DataFrame) -> list[plots.Curve]:
    return [
        plots.Curve(_points(metrics, "tokens_per_second"), "all", _REASONING),
        plots.Curve(_points(metrics, "learnt_tokens_per_second"), "learnt", _ANSWER),
    ]


def _facts(run: Run, figures: TrainingFigures, metrics: pd.DataFrame) -> dict[str, str]:
    """What is known, in the order of reading; a GPU tells more than a CPU."""
    facts = {
        "samples": f"{figures.samples:,} learnt, {figures.heldout_samples:,} held out",
        "steps": f"{figures.steps:,} in {figures.epochs:g} epochs",
        **({"end": figures.ended} if figures.ended else {}),
        **({"weights": figures.kept} if figures.kept else {}),
        **({"chosen": "; ".join(figures.rates)} if figures.rates else {}),
        "trained tokens": (
            f"{figures.trained_tokens:,} an epoch, for {figures.trainable_parameters:,} "
            "trainable parameters"
        ),
        "fill of packed rows": f"{figures.fill:.1%}",
    }
    if "tokens_per_second" in metrics:
        every, learnt = metrics["tokens_per_second"], metrics["learnt_tokens_per_second"]
        facts["tokens per second"] = (
            f"{every.median():,.0f}, of which learnt {learnt.median():,.0f} (medians of steps)"
        )
    if "mfu" in metrics:
        facts["model FLOPs utilisation"] = f"{metrics['mfu'].median():.1%}"
    if "memory_gb" in metrics:
        facts["most memory held"] = f"{metrics['memory_gb'].max():.1f} GB"
    if run.has_heldout_loss:
        seen = run.heldout_loss()["heldout_loss"]
        facts["held-out loss"] = f"{seen.iloc[0]:.3f} before, {seen.iloc[-1]:.3f} after"
    if "accuracy" in metrics:
        facts["token accuracy"] = _rise(metrics["accuracy"], "at the first step", "at the last")
        if run.has_heldout_loss and "heldout_accuracy" in (held := run.heldout_loss()):
            held_out = _rise(held["heldout_accuracy"], "before", "after")
            facts["token accuracy"] += f"; held out {held_out}"
    if run.has_monitor:
        last = run.monitor().iloc[-1]
        right = "" if not last["judged"] else f", {last['passed']:.0%} right"
        facts["answers at the end"] = (
            f"of {last['problems']:.0f} held-out problems {last['closed']:.0%} closed their "
            f"thinking, {last['ended']:.0%} ended{right}; {last['tokens']:,.0f} tokens in the mean"
        )
    if policy := figures.on_policy:
        facts["on-policy"] = (
            f"{policy.steps:,} steps, divergence from the teacher {policy.first_loss:.3f} "
            f"at first, {policy.last_loss:.3f} at last"
        )
    return facts


def _rise(values: pd.Series[float], first: str, last: str) -> str:
    return f"{values.iloc[0]:.1%} {first}, {values.iloc[-1]:.1%} {last}"


def _predicted(figures: TrainingFigures) -> list[tuple[str, str, str, str]]:
    """Rows of name, predicted, actual and difference."""
    rows = []
    for name, one in figures.predicted.items():
        label = name.removesuffix("_bytes").replace("_", " ")
        said, came = _amount(name, one.predicted), _amount(name, one.actual)
        rows.append((label, said, came, f"{one.difference:+.1%}"))
    if rows and figures.plan is not None and figures.plan.hours:
        planned, took = figures.plan.hours * 3600, figures.train_seconds
        if took:
            rows.append(
                ("seconds", f"{planned:,.0f}", f"{took:,.0f}", f"{planned / took - 1:+.1%}")
            )
    return rows


def _why(figures: TrainingFigures) -> list[str]:
    """What the plan was made for and why it chose what it did, then what came otherwise."""
    plan, lines = figures.plan, list[str]()
    if plan is not None:
        lines = [f"planned for {plan.device}", *plan.why, *_beside_steps(figures)]
    if figures.out_of_memory_at:
        steps = ", ".join(f"{step:,}" for step in figures.out_of_memory_at)
        lines.append(f"memory ran out at step {steps}, so the micro-batch was halved")
    if figures.resumed_from_step:
        lines.append(f"resumed from step {figures.resumed_from_step:,}: the time is since then")
    if figures.ended:
        lines.append(f"fewer epochs than planned: {figures.ended}")
    return lines


def _beside_steps(figures: TrainingFigures) -> list[str]:
    """What of the time is the speed's, and what lies outside of the steps."""
    speed, plan = figures.predicted.get("tokens_per_second"), figures.plan
    if speed is None or plan is None or not plan.hours or figures.resumed_from_step:
        return []
    steps = plan.hours * 3600 * speed.predicted / speed.actual
    rest = figures.train_seconds - steps
    if rest < 0.05 * figures.train_seconds:
        return []
    return [
        f"at the measured speed the planned tokens take {steps:,.0f} s; the other {rest:,.0f} s "
        "were spent outside of the steps, as on held-out loss, monitor and checkpoints"
    ]


def _amount(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e9:.2f} GB"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"
