"""Pack samples into rows, schedule rows as optimiser steps, and turn rows into tensors."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from finetune.sample import IGNORED, Ids, Sample

PackedRow = list[int]  # indices of the samples in a row
AttentionLayout = Literal["packed", "flash", "rows"]
REASONING, ANSWER = 1, 2


def pack(lengths: Sequence[int], size: int) -> list[PackedRow]:
    """Pack samples into rows of at most `size` tokens by best-fit decreasing, which takes at most
    11/9 of the fewest rows (Johnson, 1973).
    """
    rows: list[PackedRow] = []
    # Rows by the room left in them, and the rooms, sorted: a sample takes the smallest that fits.
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    for index in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        length = lengths[index]
        assert length <= size, f"a sample of {length} tokens does not fit a row of {size}"
        place = bisect.bisect_left(rooms, length)
        if place == len(rooms):
            room, row = size, len(rows)
            rows.append([])
        else:
            room = rooms[place]
            row = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        rows[row].append(index)
        if room > length:
            left = room - length
            if left not in by_room:
                by_room[left] = []
                bisect.insort(rooms, left)
            by_room[left].append(row)
    return rows


def steps(rows: Sequence[PackedRow], batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """The rows of each optimiser step of a training, as indices into `rows`.

    Each epoch takes every row once, shuffled anew, `batch_size` rows a step; its last step takes
    the rest. A fraction of an epoch takes that fraction of its steps.
    """
    made: list[list[int]] = []
    each = -(-len(rows) // batch_size)
    total = max(1, round(each * epochs))
    epoch = 0
    while len(made) < total:
        order = np.random.default_rng([seed, epoch]).permutation(len(rows)).tolist()
        made += [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        epoch += 1
    return made[:total]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows one after the other, as arrays of shape (tokens,).

    `targets` are the next tokens, -100 where masked; `parts` says whether a target belongs to the
    reasoning (1), to the answer (2) or is masked (0). `positions` restart with each sample.
    `segments` are the lengths of each row's samples.
    """

    ids: Ids
    targets: Ids
    parts: npt.NDArray[np.int8]
    positions: Ids
    segments: list[list[int]]

    @property
    def learnt(self) -> int:
        """How many targets are not masked."""
        return int((self.targets != IGNORED).sum())


def batch(samples: Sequence[Sample], rows: Iterable[PackedRow]) -> Batch:
    """The rows as one batch. The first token of a sample is never a target."""
    rows = list(rows)
    taken = [samples[index] for row in rows for index in row]
    ids = np.concatenate([sample.input_ids for sample in taken])
    targets = np.full(len(ids), IGNORED, dtype=np.int32)
    parts = np.zeros(len(ids), dtype=np.int8)
    begin = 0
    for sample in taken:
        end = begin + len(sample.input_ids)
        # A token is the target of the position before it.
        first, answer = begin + max(1, sample.prompt) - 1, begin + max(1, sample.answer) - 1
        targets[first : end - 1] = ids[first + 1 : end]
        parts[first : end - 1] = REASONING
        parts[answer : end - 1] = ANSWER
        begin = end
    return Batch(
        ids=ids,
        targets=targets,
        parts=parts,
        positions=np.concatenate([np.arange(len(s.input_ids), dtype=np.int32) for s in taken]),
        segments=[[len(samples[index].input_ids) for index in row] for row in rows],
    )


def tensors(
    batch: Batch, layout: AttentionLayout, pad: int, device: Any
) -> tuple[dict[str, Any], Any]:
    """The model's keyword arguments for a batch, and `parts` as a tensor of the ids' shape.

    With layout `packed` or `flash` the shape is (1, tokens), and the samples' lengths come with it;
    with `rows` it is (rows, longest row). There is no attention mask: transformers tells the
    samples of a row apart by their positions, and an all-ones mask would join them. Each padding
    token is a sample of its own.
    """
    import torch

    columns: dict[str, tuple[Any, int]] = {
        "input_ids": (batch.ids, pad),
        "shift_labels": (batch.targets, IGNORED),
        "position_ids": (batch.positions, 0),
        "parts": (batch.parts, 0),
    }
    made: dict[str, Any] = {}
    ends = np.cumsum([sum(row) for row in batch.segments])
    shape = (1, int(ends[-1]))
    if layout == "rows":
        shape = (len(batch.segments), max(sum(row) for row in batch.segments))
    for name, (values, filler) in columns.items():
        table = torch.full(shape, filler, dtype=torch.int8 if name == "parts" else torch.long)
        if layout != "rows":
            table[0] = torch.from_numpy(values)
        else:
            for row, part in enumerate(np.split(values, ends[:-1])):
                table[row, : len(part)] = torch.from_numpy(part)
        made[name] = table.to(device, non_blocking=True)
    parts = made.pop("parts")
    lengths = [length for row in batch.segments for length in row]
    if layout == "packed":
        made["segments"] = lengths
    elif layout == "flash":
        bounds = torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32, device=device)
        made["cu_seq_lens_q"] = made["cu_seq_lens_k"] = bounds
        made["max_length_q"] = made["max_length_k"] = max(lengths)
    return made, parts
