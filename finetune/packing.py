"""Put samples into rows of one length, without attention from one sample to another."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from finetune.render import IGNORED, Sample

Row = list[int]  # indices of the samples in a row


def pack(lengths: Sequence[int], size: int) -> list[Row]:
    """Rows of at most `size` tokens by best fit, the longest samples first.

    Best-fit decreasing is within 11/9 of the fewest rows (Johnson 1973).
    """
    rows: list[Row] = []
    free: list[tuple[int, int]] = []  # (room, row), sorted by room
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        assert length <= size, f"a sample of {length} tokens does not fit a row of {size}"
        place = bisect.bisect_left(free, (length, -1))
        if place == len(free):
            room, row = size, len(rows)
            rows.append([])
        else:
            room, row = free.pop(place)
        rows[row].append(index)
        if room > length:
            bisect.insort(free, (room - length, row))
    return rows


def row_features(samples: Sequence[Sample], rows: Sequence[Row]) -> dict[str, list[list[int]]]:
    """Columns for a dataset of packed rows: `input_ids`, `labels`, and `seq_lengths`, the
    lengths of the samples in a row. The first token of a sample is never a target.
    """
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "seq_lengths": []}
    for row in rows:
        columns["input_ids"].append([t for i in row for t in samples[i].input_ids])
        columns["labels"].append([t for i in row for t in (IGNORED, *samples[i].labels[1:])])
        columns["seq_lengths"].append([len(samples[i].input_ids) for i in row])
    return columns


class PackedCollator:
    """Batches of shape (rows, longest row): ids, labels and positions that begin anew with each
    sample.

    There is no attention mask: from positions alone, transformers keeps the samples of a row
    apart; an all-ones mask would join them. Each padding token is a sample of its own.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The batch of some rows of `row_features`."""
        import torch

        width = max(len(feature["input_ids"]) for feature in features)
        shape = (len(features), width)
        batch = {
            "input_ids": torch.full(shape, self._pad),
            "labels": torch.full(shape, IGNORED),
            "position_ids": torch.zeros(shape, dtype=torch.long),
        }
        for row, feature in enumerate(features):
            end = len(feature["input_ids"])
            positions = [p for length in feature["seq_lengths"] for p in range(length)]
            batch["input_ids"][row, :end] = torch.tensor(feature["input_ids"])
            batch["labels"][row, :end] = torch.tensor(feature["labels"])
            batch["position_ids"][row, :end] = torch.tensor(positions)
        return batch
