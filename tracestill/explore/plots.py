"""The report's plots, as SVG that reads on light and on dark paper."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tracestill.explore.svg import INK as _INK
from tracestill.explore.svg import tell
from tracestill.records.figures import ModelFigures
from tracestill.records.rates import PassAt1

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Chosen to be told apart by colour-blind readers, on white and on near-black.
COLOURS = {
    "student_before": "#9aa0a6",
    "student_after": "#2f9e77",
    "teacher": "#c77d2e",
    "kept": "#2f9e77",
    "dropped": "#c2568b",
}
_BINS = 30
_LEVELS = 10  # pass rates that have a bar each
_GOLDEN = 0.6180339887498949
NAMES = {"student_before": "base", "student_after": "student", "teacher": "teacher"}


def rates(axes: Axes, results: Mapping[str, ModelFigures]) -> None:
    """pass@1 of each model with its 95% interval."""
    names = list(results)[::-1]
    for place, name in enumerate(names):
        (low, high), rate = results[name].ci95, results[name].pass_at_1
        (bar,) = axes.barh(place, rate, color=COLOURS[name], height=0.62)
        tell(bar, f"{NAMES[name]}: {rate:.1%}, 95% interval {low:.1%} to {high:.1%}")
        axes.plot([low, high], [place, place], color=_INK, linewidth=1.4)
        axes.text(high + 0.015, place, f"{rate:.1%}", va="center")
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.set_xlim(0, 1.12)
    _percent(axes.xaxis)


def by_task(axes: Axes, results: Mapping[str, ModelFigures]) -> None:
    """pass@1 by task, a group of bars for each task."""
    tasks = list(dict.fromkeys(t for result in results.values() for t in result.by_task))
    width = 0.8 / len(results)
    for index, (name, result) in enumerate(results.items()):
        for place, task in enumerate(tasks):
            part = result.by_task.get(task)
            if part is None:
                continue
            x = place + (index - (len(results) - 1) / 2) * width
            label = NAMES[name] if place == 0 else None
            (bar,) = axes.bar(x, part.pass_at_1, width * 0.9, color=COLOURS[name], label=label)
            tell(bar, f"{NAMES[name]} on {task}: {_interval(part)}, {part.problems:,} problems")
            axes.plot([x, x], part.ci95, color=_INK, linewidth=1.1)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_ylim(0, 1.05)
    _percent(axes.yaxis)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def funnel(axes: Axes, counts: Sequence[tuple[str, int]]) -> None:
    """How many traces were dropped for which reason, and kept."""
    total = sum(n for _, n in counts)
    left = total
    for place, (reason, n) in enumerate([("sampled", total), *counts]):
        kept = reason in ("kept", "sampled")
        start = 0 if kept else left - n
        colour = COLOURS["kept" if kept else "dropped"]
        axes.barh(place, n, left=start, color=colour, height=0.66)
        wanted = urlencode({"reason": reason}) if reason != "sampled" else "sort="
        said = f"{n:,} {reason.replace('_', ' ')}, {n / max(1, total):.1%} of all: show them"
        # All of the row answers: a bar of one trace in thousands is too thin to be met.
        (row,) = axes.barh(place, total * 1.1, color="none", height=0.9)
        tell(row, said, query=wanted, kind="row")
        axes.text(max(start + n, 0) + total * 0.01, place, f"{n:,}", va="center")
        if not kept:
            left -= n
    labels = ["sampled", *(reason.replace("_", " ") for reason, _ in counts)]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, total * 1.1)
    axes.set_xlabel("traces")


def lengths(
    axes: Axes,
    groups: Mapping[str, Sequence[int]],
    colours: Mapping[str, str],
    *,
    filters: bool = False,
) -> None:
    """Distributions of lengths in tokens, each as a share of its own group. With `filters` a bin
    shows the traces in it.
    """
    import numpy as np

    longest = max((max(values) for values in groups.values() if len(values)), default=1)
    bins = [longest * i / _BINS for i in range(_BINS + 1)]
    counts = {}
    for name, values in groups.items():
        if len(values):
            weights = [1 / len(values)] * len(values)
            axes.hist(
                values, bins, weights=weights, histtype="stepfilled", alpha=0.45,
                color=colours[name], label=f"{name.replace('_', ' ')} ({len(values):,})",
            )  # fmt: skip
            counts[name] = np.histogram(values, bins)[0]
    top = axes.get_ylim()[1]
    for low, high, *own in zip(bins[:-1], bins[1:], *counts.values(), strict=True):
        if any(own):
            (bin_,) = axes.bar((low + high) / 2, top, high - low, color="none")
            first, last = math.ceil(low), math.ceil(high) - (high != bins[-1])
            said = ", ".join(
                f"{n:,} {name.replace('_', ' ')}" for name, n in zip(counts, own, strict=True)
            )
            wanted = urlencode({"min": first, "max": last}) if filters else ""
            tell(bin_, f"{first:,} to {last:,} tokens: {said}", query=wanted, kind="bin")
    axes.set_ylim(0, top)
    axes.set_xlabel("completion tokens")
    _percent(axes.yaxis)
    axes.legend(frameon=False)


def tokens_by_rate(
    axes: Axes, points: Sequence[tuple[float, int, bool]], numbers: Sequence[int]
) -> None:
    """Traces by their problem's pass rate and their length: kept ones above the line of their rate,
    dropped ones below. `numbers` are those of the page's traces.
    """
    for kept, sign in ((True, 1), (False, -1)):
        own = [(n, *point) for n, point in zip(numbers, points, strict=True) if point[2] == kept]
        if not own:
            continue
        heights = [
            rate + sign * (0.006 + 0.034 * (number * _GOLDEN % 1)) for number, rate, _, _ in own
        ]
        name = "kept" if kept else "dropped"
        dots = axes.scatter(
            [tokens for _, _, tokens, _ in own], heights, s=9, alpha=0.6, linewidths=0,
            color=COLOURS[name], label=name, marker="o" if kept else "v",
        )  # fmt: skip
        tell(dots, "", rows=[number for number, *_ in own])
    axes.set_xlabel("completion tokens")
    axes.set_ylabel("pass rate of the problem")
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(left=0)
    _percent(axes.yaxis)
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))


@dataclass(frozen=True, slots=True)
class Curve:
    """Values by optimiser step. `looked`: measured now and then, not at every step; `share`: from
    0 to 1.
    """

    points: Sequence[tuple[int, float]]
    label: str
    colour: str
    looked: bool = False
    share: bool = False


def over_steps(axes: Axes, curves: Sequence[Curve], unit: str) -> None:
    """Curves over a training. Of a long one each point is the mean of some steps."""
    top = 0.0
    for curve in curves:
        points = curve.points if curve.looked else _thinned(curve.points)
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        top = max(top, *values)
        axes.plot(
            steps, values, color=curve.colour, linewidth=1.5, label=curve.label,
            linestyle="--" if curve.looked and not curve.share else "-",
            marker="o" if curve.looked and len(points) <= 30 else None, markersize=3.5,
            clip_on=not curve.share,  # points at 0% and 100% are whole ones
        )  # fmt: skip
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(unit)
    axes.set_ylim(0, 1.04 if any(curve.share for curve in curves) else top * 1.06 or 1)
    if any(curve.share for curve in curves):
        _percent(axes.yaxis)
    if any(curve.label and curve.points for curve in curves):
        axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _thinned(points: Sequence[tuple[int, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of as many neighbours."""
    width = -(-len(points) // most)
    parts = [points[at : at + width] for at in range(0, len(points), width or 1)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]


def solved(axes: Axes, rates: Sequence[float]) -> None:
    """How many problems the teacher solves at which pass rate; tenths where they are many."""
    counts = Counter(rates)
    spans = [(level, level) for level in sorted(counts)]
    if len(spans) > _LEVELS:
        counts = Counter(min(9, int(rate * 10)) / 10 for rate in rates)
        spans = [(low / 10, (low + 1) / 10) for low in range(10)]
    labels = [f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}" for low, high in spans]
    heights = [counts[low] for low, _ in spans]
    bars = axes.bar(range(len(spans)), heights, color=COLOURS["teacher"], width=0.7)
    for place, (bar, (low, high)) in enumerate(zip(bars, spans, strict=True)):
        axes.text(place, heights[place], f"{heights[place]:,}", ha="center", va="bottom")
        said = f"{heights[place]:,} problems with a pass rate of {labels[place]}: show them"
        wanted = urlencode({"rate": f"{low:g}-{high:g}", "sort": "problem"})
        tell(bar, said, query=wanted)
    axes.set_xticks(range(len(spans)), [f"{low:.0%}" for low, _ in spans])
    axes.set_xlabel("pass rate of a problem")
    axes.set_ylabel("problems")
    axes.margins(y=0.15)


def _interval(part: PassAt1) -> str:
    return f"{part.pass_at_1:.1%} ({part.ci95[0]:.1%} to {part.ci95[1]:.1%})"


def _percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
