"""General data that the student learns beside the traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.replay import Replay

if TYPE_CHECKING:
    from finetune.sample import Example


def replay_settings(replay: Replay) -> Any:
    """The section, its data by their content."""
    from generate.importing import fingerprint

    return [replay.model_dump(exclude={"path", "dataset"}), fingerprint(_rows(replay))]


def replay_examples(section: FinetuneSection, kept: Sequence[Example]) -> list[Example]:
    """The rows that are replayed beside the kept traces: in their order, until they have the share
    of all characters that the recipe says. None where it replays nothing.

    Raises:
        ValueError: the rows can't be read, or there are fewer than asked for, or they have no
            reasoning and the student is to learn none without.

    """
    if (replay := section.replay) is None:
        return []
    wanted = replay.share / (1 - replay.share) * sum(map(_size, kept))
    taken: list[Example] = []
    size = 0.0
    for example in _examples(replay):
        if size >= wanted:
            return taken
        if not example.thinks and section.needs_reasoning:
            raise ValueError(
                "finetune.replay: its rows have no reasoning, and the student would learn not to "
                "think: set finetune.mixed: true, for a template that can turn thinking off, or "
                "replay rows that have some"
            )
        taken.append(example)
        size += _size(example)
    if size < wanted:
        raise ValueError(
            f"finetune.replay: its {len(taken):,} rows are {size / wanted:.0%} of what a share of "
            f"{replay.share:g} takes; lower it, or name more rows"
        )
    return taken


def _size(example: Example) -> int:
    return len(example.prompt) + len(example.reasoning) + len(example.answer)


def _rows(replay: Replay) -> ImportTeacher:
    """The rows as the importer knows them."""
    return ImportTeacher(
        engine="import", layout="table", path=replay.path, dataset=replay.dataset,
        config=replay.config, split=None if replay.path else replay.split,
        revision=replay.revision, columns=replay.columns, kind="open",
    )  # fmt: skip


def _examples(replay: Replay) -> Iterator[Example]:
    """The readable rows that have an answer."""
    from finetune.sample import REPLAYED, Example
    from generate.importing import import_traces, walk

    section = _rows(replay)
    for row in walk(section, []):
        if row.problem is None:
            continue
        for trace in import_traces(section, [row], Counter()):
            if trace.answer and trace.answer.strip() and trace.finish == "stop":
                yield Example(
                    trace_id=f"{REPLAYED}-{trace.id}",
                    prompt=row.problem.prompt,
                    reasoning=trace.reasoning or "",
                    answer=trace.answer,
                    source=REPLAYED,
                    language=row.problem.language,
                )
