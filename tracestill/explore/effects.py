"""The plot of an ablation: what each value of a varied key changes of pass@1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracestill.evaluate.seeds import OverSeeds
from tracestill.explore.plots import COLOURS
from tracestill.explore.svg import WIDE, house_style

_INK = "#22262b"
_ROW, _REST = 0.3, 0.9  # inches of a row, and of title and axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A varied key: its name, its first value, and each other value's effect (None: no runs)."""

    key: str
    first: str
    values: Sequence[tuple[str, OverSeeds | None]]


def plot_effects(groups: Sequence[Group], path: Path) -> None:
    """Write a PNG with a row for each value: the difference in pass@1 from the key's first value,
    in percentage points, with its 95% interval. Grey where the interval holds 0 or is not known.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows: list[tuple[str, OverSeeds | None, bool]] = []
    for group in groups:
        rows.append((f"{group.key}, against {_cut(group.first)}", None, True))
        rows += [(_cut(value), effect, False) for value, effect in group.values]
    with rc_context(house_style(_INK)):
        height = _ROW * len(rows) + _REST
        figure = Figure(figsize=(WIDE, height), layout="constrained", facecolor="white")
        axes = figure.subplots()
        axes.axvline(0, color=_INK, linewidth=0.8)
        for place, (_, effect, _heading) in enumerate(rows):
            if effect is not None:
                shown = effect.verdict in ("higher", "lower")
                colour = COLOURS["kept" if effect.mean > 0 else "dropped"] if shown else "#80868b"
                if effect.ci95 is not None:
                    span = [100 * bound for bound in effect.ci95]
                    axes.plot(span, [place, place], color=colour, linewidth=2)
                axes.plot(100 * effect.mean, place, "o", color=colour, markersize=6)
                edge = 100 * (effect.ci95[1] if effect.ci95 else effect.mean)
                axes.annotate(
                    f"{100 * effect.mean:+.1f}", (edge, place), xytext=(7, 0),
                    textcoords="offset points", va="center", color=colour,
                )  # fmt: skip
        axes.set_yticks(range(len(rows)), [text for text, _, _ in rows])
        for label, (_, _, heading) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if heading else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel("change of pass@1, percentage points, with 95% interval over seeds")
        figure.savefig(path, format="png", dpi=160)


def _cut(text: str) -> str:
    return text if len(text) <= 32 else f"{text[:31]}…"
