"""Put samples into rows, rows into steps, and steps into batches of tensors."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.render import IGNORED, Sample

if TYPE_CHECKING:
    import numpy.typing as npt

Row = list[int]  # indices of the samples in a row
Layout = Literal["packed", "flash", "rows"]
REASONING, ANSWER = 1, 2


def pack(lengths: Sequence[int], size: int) -> list[Row]:
    """Rows of at most `size` tokens by best fit, the longest samples first.

    Best-fit decreasing is within 11/9 of the fewest rows (Johnson 1973).
    """
    rows: list[Row] = []
    # Rows by the room that is left in them, and which rooms there are, sorted: a sample looks for
    # the smallest that holds it.
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


def steps(rows: Sequence[Row], batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Which rows each optimiser step learns from, for the whole training.

    An epoch takes every row once, in an order of its own, `batch_size` a step; its last step has
    what is left. A part of an epoch takes that part of its steps.
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
    """Some rows, one after the other, as arrays of shape (tokens,).

    `targets` is the token that is to come after each, or -100; `parts` says whether that belongs
    to the reasoning (1), to the answer (2), or is not learnt (0). `positions` begin anew with each
    sample. `segments` holds the lengths of each row's samples.
    """

    ids: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    parts: npt.NDArray[np.int8]
    positions: npt.NDArray[np.int32]
    segments: list[list[int]]

    @property
    def learnt(self) -> int:
        """How many tokens are learnt."""
        return int((self.targets != IGNORED).sum())


def batch(samples: Sequence[Sample], rows: Iterable[Row]) -> Batch:
    """The rows as one batch. The first token of a sample is never a target."""
    rows = list(rows)
    taken = [samples[index] for row in rows for index in row]
    ids = np.concatenate([sample.input_ids for sample in taken])
    targets = np.full(len(ids), IGNORED, dtype=np.int32)
    parts = np.zeros(len(ids), dtype=np.int8)
    begin = 0
    for sample in taken:
        end = begin + len(sample.input_ids)
        # What is learnt of a token is shown where the one before it stands.
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


def tensors(batch: Batch, layout: Layout, pad: int, device: Any) -> tuple[dict[str, Any], Any]:
    """What the model gets, and `parts` as a tensor of the same shape.

    `packed` and `flash`: of shape (1, tokens), the samples' lengths beside it, for attention that
    goes by them. `rows`: of shape (rows, longest row). There is no attention mask: from positions
    alone transformers keeps the samples of a row apart; an all-ones mask would join them. Each
    padding token is a sample of its own.
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
