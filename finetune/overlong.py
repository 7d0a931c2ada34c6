"""Samples longer than `max_length`: what becomes of them, and how that biases the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from finetune.findings import UnlearnableError
from tracestill.recipe.finetune import OverlongPolicy
from tracestill.records.figures import LengthFigures, OverlongFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedLength:
    """The length in tokens of a trace that is rendered whole, and of its prompt alone."""

    trace_id: str
    source: str
    prompt: int
    tokens: int


def overlong_figures(
    lengths: Sequence[RenderedLength], policy: OverlongPolicy, max_length: int
) -> OverlongFigures:
    """Count overlong traces in all and by source.

    Raises:
        ValueError: there are some and the policy is `error`.
        UnlearnableError: no trace is left.

    """
    long = [one for one in lengths if one.tokens > max_length]
    longest = max(lengths, key=lambda one: one.tokens)
    cuttable = [one for one in long if policy == "prefix" and one.prompt < max_length]
    no_room = len(long) - len(cuttable) if policy == "prefix" else 0
    if long and policy == "error":
        raise ValueError(
            f"{len(long):,} of {len(lengths):,} traces are longer than finetune.max_length "
            f"({max_length} tokens); the longest, {longest.trace_id}, has {longest.tokens:,}: "
            "raise max_length, or set finetune.overlong to drop or prefix"
        )
    if no_room == len(lengths):
        raise UnlearnableError(
            f"the prompt of every trace alone fills finetune.max_length ({max_length} tokens), "
            f"that of {longest.trace_id} has {longest.prompt:,}: raise max_length"
        )
    if len(long) == len(lengths) and policy == "drop":
        raise UnlearnableError(
            f"every trace is longer than finetune.max_length ({max_length} tokens), the longest "
            f"has {longest.tokens:,}: raise max_length, or set finetune.overlong to prefix"
        )
    by_source: dict[str, list[RenderedLength]] = {}
    for one in sorted(lengths, key=lambda one: one.source):
        by_source.setdefault(one.source, []).append(one)
    return OverlongFigures(
        policy=policy,
        max_length=max_length,
        longest=longest.tokens,
        by_source={source: _figures(some, max_length) for source, some in by_source.items()},
        cut_tokens=sum(one.tokens - max_length for one in cuttable),
        no_room=no_room,
        **asdict(_figures(lengths, max_length)),
    )


def _figures(lengths: Sequence[RenderedLength], max_length: int) -> LengthFigures:
    tokens = sum(one.tokens for one in lengths)
    long = [one.tokens for one in lengths if one.tokens > max_length]
    kept = len(lengths) - len(long)
    return LengthFigures(
        traces=len(lengths),
        long_traces=len(long),
        long_tokens=sum(long),
        share_of_traces=round(len(long) / len(lengths), 4),
        share_of_tokens=round(sum(long) / tokens, 4),
        mean_kept=round((tokens - sum(long)) / kept, 1) if kept else None,
        mean_long=round(sum(long) / len(long), 1) if long else None,
    )


def describe(figures: OverlongFigures) -> list[str]:
    """The figures as lines to read; none if no sample was overlong."""
    if not figures.long_traces:
        return []
    did = {
        "drop": "left out",
        "prefix": "cut there, without a stop token",
        "split": "split into pieces",  # by earlier releases
    }[figures.policy]
    lines = [
        f"{figures.long_traces:,} of {figures.traces:,} traces are longer than "
        f"{figures.max_length:,} tokens: {did}, {_shares(figures)}"
    ]
    if len(figures.by_source) > 1:
        for source, some in figures.by_source.items():
            lines.append(f"  {source or 'no source'}: {_shares(some)}")
    if figures.policy == "drop":
        lines.append(
            f"  mean tokens of a trace: {figures.mean_kept:,.0f} kept, {figures.mean_long:,.0f} "
            "left out; the student sees shorter reasoning than the teacher's"
        )
    if figures.cut_tokens:
        lines.append(f"  {figures.cut_tokens:,} tokens after the cuts are not trained on")
    if figures.no_room:
        lines.append(f"  {figures.no_room:,} left out, since the prompt alone is that long")
    return lines


def _shares(figures: LengthFigures) -> str:
    return (
        f"{figures.share_of_traces:.1%} of the traces with {figures.share_of_tokens:.1%} of the "
        "tokens"
    )
