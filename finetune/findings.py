"""Traces that can't be learnt as they are: what is wrong with how many, and which is the first."""

from __future__ import annotations


class Findings:
    """Findings about traces, by kind, in the order in which they come."""

    def __init__(self) -> None:
        """Begin with none."""
        self._first: dict[str, tuple[str, str]] = {}
        self._traces: dict[str, set[str]] = {}

    def add(self, kind: str, trace_id: str, what: str) -> None:
        """Note what is wrong with a trace; of those of one `kind` the first is told."""
        self._first.setdefault(kind, (trace_id, what))
        self._traces.setdefault(kind, set()).add(trace_id)

    def joined(self, other: Findings) -> Findings:
        """Both together."""
        both = Findings()
        for one in (self, other):
            for kind, (trace_id, what) in one._first.items():
                both.add(kind, trace_id, what)
                both._traces[kind] |= one._traces[kind]
        return both

    @property
    def traces(self) -> set[str]:
        """The ids of all that something is wrong with."""
        return set().union(*self._traces.values())

    def lines(self) -> list[str]:
        """A line for each kind: how many traces, the first one's id, and what is wrong with it."""
        made = []
        for kind, (trace_id, what) in self._first.items():
            count = len(self._traces[kind])
            who = f"trace {trace_id}" if count == 1 else f"{count:,} traces, first {trace_id}"
            made.append(f"{who}: {what}")
        return made

    def check(self) -> None:
        """Raise what was found.

        Raises:
            ValueError: anything was; all of it in one line, with the fix.

        """
        if self._first:
            raise ValueError(
                f"{'; '.join(self.lines())}. Set finetune.unlearnable to drop to leave such traces "
                "out"
            )
