"""Drop traces that no student could learn from, whatever their answers are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from tracestill.records import Drop, Trace
from tracestill.records.usable import unusable


def usable(
    step: Literal["finish", "form", "length"],
    max_tokens: int | None = None,
    *,
    needs_reasoning: bool = True,
) -> Callable[[Iterable[Trace]], Iterator[Drop]]:
    """Drop what `tracestill.records.usable.unusable` finds in this step. `finish`: `error`,
    `truncated`; `form`: `malformed`, `empty`; `length`: `too_long`, above `max_tokens`.
    """

    def drops(traces: Iterable[Trace]) -> Iterator[Drop]:
        for trace in traces:
            drop = unusable(trace, max_tokens, needs_reasoning=needs_reasoning)
            if drop is not None and drop.step == step:
                yield drop

    return drops
