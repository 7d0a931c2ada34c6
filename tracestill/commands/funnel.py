"""How a filter's steps are shown in a terminal."""

from __future__ import annotations

from collections.abc import Mapping


def print_funnel(funnel: Mapping[str, tuple[int, int]], dropped: Mapping[str, int]) -> None:
    """Each step with the traces that it was given and that it dropped, then what is left."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("step", "traces", "dropped", "share"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step, (entered, lost) in funnel.items():
        share = f"{lost / entered:.1%}" if entered else ""
        table.add_row(step, f"{entered:,}", f"{lost:,}", share)
    console = Console(highlight=False)
    console.print(table)
    asked = next(iter(funnel.values()))[0] if funnel else 0
    left = asked - sum(dropped.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    console.print(
        f"\nkept {left:,} of {asked:,} traces" + (f"; dropped {reasons}" if reasons else "")
    )
