"""How a filter's steps are shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filter.filtering import Filtered


def print_funnel(found: Filtered) -> None:
    """Each step with the traces that it was given and that it dropped, and the seconds that it took
    in all processes together; then what is left, and what steps found that only count.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("step", "traces", "dropped", "share", "seconds"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step, (entered, lost) in found.funnel.items():
        share = f"{lost / entered:.1%}" if entered else ""
        table.add_row(step, f"{entered:,}", f"{lost:,}", share, f"{found.seconds[step]:.1f}")
    console = Console(highlight=False)
    console.print(table)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items())
    console.print(
        f"\nkept {found.kept:,} of {found.total:,} traces"
        + (f"; dropped {reasons}" if reasons else "")
    )
    console.print(f"verdicts took {found.judging:.1f} s")
    if found.noted:
        counts = ", ".join(f"{count:,} {name}" for name, count in found.noted.items())
        console.print(f"only counted: {counts}")
