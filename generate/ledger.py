"""What is there of every trace that a run asks for: a few bytes each, however long the trace."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generate.stopping import Rule, wanted
from tracestill.records import Finish, trace_id
from tracestill.records import journal as journals

# What the journal's index holds of each response.
HEADS = ("id", "problem_id", "sample", "finish", "max_tokens", "spent", "paid", "elapsed", "sent")

UNANSWERED: tuple[Finish, ...] = ("error",)  # what a later run asks for again
_FAILED, _CUT, _DONE = 0, 1, 2
_UNJUDGED, _INCORRECT, _CORRECT = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has cost: tokens of prompts and completions, money, hours of sampling."""

    tokens: int = 0
    money: float = 0.0
    hours: float = 0.0


class Ledger:
    """For each problem (by its row) how many samples it should have, and for each sample where
    its response lies in the journal, whether it need not be asked for again, and its verdict.

    With `judging` the rule goes by verdicts; else every problem gets what the rule begins with.
    A sample that failed in this run is not asked for again in it.
    """

    def __init__(self, problems: Iterable[str], rule: Rule, *, judging: bool) -> None:
        self.rule = rule
        self.rows: dict[str, int] = {}
        for row, problem in enumerate(problems):
            self.rows[problem] = row
            assert len(self.rows) == row + 1, f"the problem {problem} is there twice"
        self._judging = judging
        self._targets = np.full(len(self.rows), rule.min, np.uint16)
        self._lacking = np.full(len(self.rows), rule.min, np.uint16)
        self._finished = np.zeros(len(self.rows), np.bool_)
        self._slots: list[array[int]] = []  # by sample: offset, verdict and state in one integer
        self._away: dict[int, set[int]] = {}  # in flight, or failed in this run
        self.samples = 0  # responses that are done
        self.correct = 0  # of which judged correct
        self.finished = 0  # problems that need no more samples

    def _slot(self, row: int, sample: int) -> int:
        return self._slots[sample][row] if sample < len(self._slots) else -1

    def _put(self, row: int, sample: int, offset: int, verdict: int, state: int) -> None:
        while sample >= len(self._slots):
            self._slots.append(array("q", [-1]) * len(self.rows))
        self._slots[sample][row] = offset << 4 | verdict << 2 | state

    def offset(self, row: int, sample: int) -> int | None:
        """Where the response lies, if there is one."""
        slot = self._slot(row, sample)
        return slot >> 4 if slot >= 0 else None

    def put(self, row: int, sample: int, offset: int, *, failed: bool, cut: bool) -> None:
        """Note where a response lies. `cut`: a larger budget would have made it longer. A failure
        never hides an earlier answer.
        """
        old = self._slot(row, sample)
        if failed and old >= 0 and old & 3 != _FAILED:
            return
        self._count(old, -1)
        state = _FAILED if failed else _CUT if cut else _DONE
        self._put(row, sample, offset, _UNJUDGED, state)
        self._count(self._slot(row, sample), 1)

    def judge(self, row: int, sample: int, *, correct: bool) -> None:
        """Note the verdict on the response that lies there."""
        old = self._slot(row, sample)
        self._count(old, -1)
        self._put(row, sample, old >> 4, _CORRECT if correct else _INCORRECT, old & 3)
        self._count(self._slot(row, sample), 1)

    def _count(self, slot: int, sign: int) -> None:
        if slot >= 0 and slot & 3 == _DONE:
            self.samples += sign
            self.correct += sign * (slot >> 2 & 3 == _CORRECT)

    def refresh(self, row: int) -> None:
        """Decide anew what a problem lacks, after what was noted of it."""
        while True:
            target = int(self._targets[row])
            slots = [self._slot(row, sample) for sample in range(target)]
            done = [slot for slot in slots if slot >= 0 and slot & 3 == _DONE]
            away = self._away.get(row, set())
            lacking = [n for n, slot in enumerate(slots) if slot < 0 or slot & 3 != _DONE]
            self._lacking[row] = sum(sample not in away for sample in lacking)
            judged = [slot for slot in done if slot >> 2 & 3 != _UNJUDGED]
            if len(judged if self._judging else done) < target:
                self._finish(row, False)
                return
            correct = sum(slot >> 2 & 3 == _CORRECT for slot in judged)
            following = wanted(self.rule, target, correct)
            if following == target:
                self._finish(row, True)
                return
            self._targets[row] = following

    def _finish(self, row: int, finished: bool) -> None:
        self.finished += int(finished) - int(self._finished[row])
        self._finished[row] = finished

    def wanting(self) -> list[int]:
        """The problems of which a sample can be asked for now."""
        return [int(row) for row in np.flatnonzero(self._lacking)]

    def take(self, row: int) -> tuple[int, int | None] | None:
        """The next sample to ask for of a problem, with the offset of the response that it is to
        go on with, if there is one; None where there is nothing to ask for. It is away until
        `give_back`.
        """
        away = self._away.setdefault(row, set())
        for sample in range(int(self._targets[row])):
            slot = self._slot(row, sample)
            if sample not in away and (slot < 0 or slot & 3 != _DONE):
                away.add(sample)
                self._lacking[row] -= 1
                return sample, slot >> 4 if slot >= 0 and slot & 3 == _CUT else None
        return None

    def give_back(self, row: int, sample: int) -> None:
        """A sample that was taken is no longer away: it can be asked for again, unless it is
        there now.
        """
        away = self._away[row]
        away.discard(sample)
        if not away:
            del self._away[row]

    def lacking(self) -> tuple[int, int]:
        """How many problems are not finished, and how many samples they lack for now."""
        unfinished = np.flatnonzero(~self._finished)
        lack = 0
        for row in unfinished:
            slots = (self._slot(row, sample) for sample in range(int(self._targets[row])))
            lack += sum(slot < 0 or slot & 3 != _DONE for slot in slots)
        return len(unfinished), lack

    def unjudged(self) -> Iterator[tuple[int, int, int]]:
        """Row, sample and offset of the responses that are done and have no verdict."""
        for sample, slots in enumerate(self._slots):
            for row, slot in enumerate(slots):
                if slot >= 0 and slot & 3 == _DONE and slot >> 2 & 3 == _UNJUDGED:
                    yield row, sample, slot >> 4

    def responses(self) -> Iterator[tuple[int, int, int]]:
        """Row, sample and offset of all that is there of what was asked for, by sample and row."""
        for sample, slots in enumerate(self._slots):
            for row, slot in enumerate(slots):
                if slot >= 0 and sample < self._targets[row]:
                    yield row, sample, slot >> 4

    def counts(self, row: int) -> tuple[int, int, bool]:
        """A problem's samples, how many of them are correct, and whether it is finished."""
        slots = [self._slot(row, sample) for sample in range(int(self._targets[row]))]
        done = [slot for slot in slots if slot >= 0 and slot & 3 == _DONE]
        correct = sum(slot >> 2 & 3 == _CORRECT for slot in done)
        return len(done), correct, bool(self._finished[row])


def read_ledger(
    journal: Path,
    problems: Iterable[str],
    rule: Rule,
    *,
    teacher: str,
    max_tokens: int,
    judging: bool,
    sent: Callable[[int], str | None] = lambda row: None,
) -> tuple[Ledger, Spent]:
    """The ledger of what a journal holds of these problems (ids), and what all in it has cost.
    `refresh` is still to be called for each row. A response counts only where what was masked in
    its prompt is what `sent` says of the problem's row.

    Raises:
        ValueError: the journal holds a damaged line.

    """
    ledger = Ledger(problems, rule, judging=judging)
    tokens, money, hours = 0, 0.0, 0.0
    for head, offset in journals.read_heads(journal, HEADS):
        identity, problem, sample, finish, budget, spent, paid, elapsed, masked = head
        tokens += spent or 0
        money += paid or 0.0
        hours = max(hours, (elapsed or 0.0) / 3600)
        row = ledger.rows.get(problem)
        if row is None or sample >= rule.max or identity != trace_id(problem, teacher, sample):
            continue  # of another run's recipe in this folder
        if masked != sent(row):
            continue  # its placeholders stand for something else
        cut = finish == "length" and budget < max_tokens
        ledger.put(row, sample, offset, failed=finish in UNANSWERED, cut=cut)
    return ledger, Spent(tokens=tokens, money=money, hours=hours)
