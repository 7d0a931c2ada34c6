"""What becomes of samples that are longer than `max_length`, and what that does to the data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Policy = Literal["drop", "error", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The traces of one source: how many, of how many tokens, and how much of it is overlong."""

    source: str
    traces: int
    tokens: int
    long_traces: int
    long_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlong:
    """Which samples were longer than `max_length` tokens, by source, and what became of them.

    `traces` are their ids, `longest` is the most tokens that any sample has.
    """

    policy: Policy
    max_length: int
    longest: int
    traces: list[str]
    sources: list[Lengths]

    @property
    def dropped(self) -> int:
        """How many traces were left out."""
        return len(self.traces) if self.policy == "drop" else 0

    def details(self) -> dict[str, Any]:
        """What a manifest says of it: counts, tokens, and the bias that dropping brings.

        `share_of_traces` and `share_of_tokens` are the parts that were overlong, `mean_kept` and
        `mean_long` mean lengths in tokens; null where there is none.
        """
        return {
            "policy": self.policy,
            "max_length": self.max_length,
            "longest": self.longest,
            **_figures(_all(self.sources)),
            "by_source": {one.source: _figures(one) for one in self.sources},
        }


def describe(details: Mapping[str, Any]) -> list[str]:
    """What `Overlong.details` says, for people; nothing where no sample was overlong."""
    if not details["long_traces"]:
        return []
    did = "left out" if details["policy"] == "drop" else "split into pieces"
    lines = [
        f"{details['long_traces']:,} of {details['traces']:,} traces are longer than "
        f"{details['max_length']:,} tokens: {did}, {_shares(details)}"
    ]
    if len(details["by_source"]) > 1:
        for source, figures in details["by_source"].items():
            lines.append(f"  {source or 'no source'}: {_shares(figures)}")
    if details["policy"] == "drop":
        lines.append(
            f"  mean tokens of a trace: {details['mean_kept']:,.0f} kept, "
            f"{details['mean_long']:,.0f} left out; the student sees shorter reasoning than the "
            "teacher's"
        )
    return lines


def _shares(figures: Mapping[str, Any]) -> str:
    return (
        f"{figures['share_of_traces']:.1%} of the traces with "
        f"{figures['share_of_tokens']:.1%} of the tokens"
    )


def _figures(one: Lengths) -> dict[str, Any]:
    kept = one.traces - one.long_traces
    return {
        "traces": one.traces,
        "long_traces": one.long_traces,
        "long_tokens": one.long_tokens,
        "share_of_traces": round(one.long_traces / one.traces, 4),
        "share_of_tokens": round(one.long_tokens / one.tokens, 4),
        "mean_kept": round((one.tokens - one.long_tokens) / kept, 1) if kept else None,
        "mean_long": round(one.long_tokens / one.long_traces, 1) if one.long_traces else None,
    }


def _all(sources: list[Lengths]) -> Lengths:
    return Lengths(
        source="",
        traces=sum(one.traces for one in sources),
        tokens=sum(one.tokens for one in sources),
        long_traces=sum(one.long_traces for one in sources),
        long_tokens=sum(one.long_tokens for one in sources),
    )


class Tally:
    """Counts samples by source while they are made."""

    def __init__(self, policy: Policy, max_length: int) -> None:
        """Begin with none."""
        self._policy: Policy = policy
        self._max_length = max_length
        self._longest: tuple[int, str] = (0, "")
        self._traces: list[str] = []
        self._sources: dict[str, list[int]] = {}

    def add(self, trace_id: str, source: str, tokens: int) -> bool:
        """Count a sample; whether it is overlong."""
        counts = self._sources.setdefault(source, [0, 0, 0, 0])
        long = tokens > self._max_length
        counts[0] += 1
        counts[1] += tokens
        self._longest = max(self._longest, (tokens, trace_id))
        if long:
            counts[2] += 1
            counts[3] += tokens
            self._traces.append(trace_id)
        return long

    def result(self) -> Overlong:
        """What was counted.

        Raises:
            ValueError: the policy is `error` and a sample was overlong, or with `drop` all were.

        """
        tokens, trace = self._longest
        count, of = len(self._traces), sum(counts[0] for counts in self._sources.values())
        if count and self._policy == "error":
            raise ValueError(
                f"{count:,} of {of:,} traces are longer than finetune.max_length "
                f"({self._max_length} tokens); the longest, {trace}, has {tokens:,}: raise "
                "max_length, or set finetune.overlong to drop or split"
            )
        if count == of and self._policy == "drop":
            raise ValueError(
                f"every trace is longer than finetune.max_length ({self._max_length} tokens), the "
                f"longest has {tokens:,}: raise max_length, or set finetune.overlong to split"
            )
        return Overlong(
            policy=self._policy,
            max_length=self._max_length,
            longest=tokens,
            traces=self._traces,
            sources=[
                Lengths(
                    source=source, traces=counts[0], tokens=counts[1], long_traces=counts[2],
                    long_tokens=counts[3],
                )
                for source, counts in sorted(self._sources.items())
            ],
        )  # fmt: skip


def pieces(completion: npt.NDArray[np.int32], room: int) -> Iterator[tuple[int, int]]:
    """Where each piece of a completion begins and ends, none longer than `room` tokens.

    They are as few as can be and of like length: else the last one could be a stop token alone,
    to be learnt after nothing.
    """
    count = -(-len(completion) // room)
    bounds = [round(len(completion) * index / count) for index in range(count + 1)]
    yield from itertools.pairwise(bounds)
