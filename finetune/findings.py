"""Traces that can't be learnt as they are: how many have which fault."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracestill.recipe.finetune import UnlearnablePolicy

_ONE_IN = 100  # so many traces one may be left out without a word in the recipe


class UnlearnableError(ValueError):
    """Traces can't be learnt, and the recipe does not let them be left out, or they are all."""


@dataclass(slots=True)
class Findings:
    """Faults of traces by kind, in the order in which they were found: pairs of a trace's id and
    its fault in words.
    """

    kinds: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, kind: str, trace_id: str, what: str) -> None:
        """Record a fault."""
        self.kinds.setdefault(kind, []).append((trace_id, what))

    def joined(self, other: Findings) -> Findings:
        """The findings of both."""
        names = dict.fromkeys([*self.kinds, *other.kinds])
        return Findings({k: [*self.kinds.get(k, []), *other.kinds.get(k, [])] for k in names})

    @property
    def traces(self) -> set[str]:
        """The ids of all faulty traces."""
        return {trace_id for found in self.kinds.values() for trace_id, _ in found}

    def lines(self) -> list[str]:
        """A line for each kind: how many traces, the first one's id, and its fault."""
        made = []
        for (trace_id, what), *others in self.kinds.values():
            count = 1 + len(others)
            who = f"trace {trace_id}" if count == 1 else f"{count:,} traces, first {trace_id}"
            made.append(f"{who}: {what}")
        return made

    def settle(self, policy: UnlearnablePolicy, of: int) -> None:
        """Let what was found go, of so many traces, or raise.

        Raises:
            UnlearnableError: these are more than the policy leaves out, or all.

        """
        count = len(self.traces)
        most = {"error": 0, "auto": of // _ONE_IN, "drop": of - 1}[policy]
        if count > most:
            self.check()

    def check(self) -> None:
        """Raise if anything was found.

        Raises:
            UnlearnableError: all findings in one line, with the fix.

        """
        if self.kinds:
            raise UnlearnableError(
                f"{'; '.join(self.lines())}. Set finetune.unlearnable to drop to leave such traces "
                "out"
            )
