"""What a journal holds of the samples that a run wants: a few bytes each, however long they are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from generate.stopping import Rule, wanted
from tracestill.records import Finish, trace_id
from tracestill.records import journal as journals

# The fields of a response that the journal's index holds.
INDEXED = ("id", "problem_id", "sample", "finish", "max_tokens", "spent", "paid", "elapsed", "sent")

UNANSWERED: tuple[Finish, ...] = ("error",)  # what a later run requests again
_FAILED, _TRUNCATED, _DONE = 0, 1, 2
_UNJUDGED, _INCORRECT, _CORRECT = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has cost: tokens of prompts and completions, money, hours of sampling."""

    tokens: int = 0
    money: float = 0.0
    hours: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemCounts:
    """How many samples of a problem are there, how many of them are correct, and whether it needs
    no more by its rule.
    """

    samples: int
    correct: int
    finished: bool


class Ledger:
    """For each problem (by its row) how many samples it should have, and for each sample where its
    response lies in the journal, whether it must be requested again, and its verdict.

    With `judging` the rule goes by verdicts; else every problem gets what the rule begins with.
    A sample that failed in this run is not requested again in it. `mixed` asks the problems in an
    order without a pattern: however few come before a budget ends the sampling, they are a fair
    draw from all sources. An engine on a CPU takes nearly twice as long for it than for problems of
    like length one after the other, as sources have them.
    """

    def __init__(
        self, problems: Iterable[str], rule: Rule, *, judging: bool, mixed: bool = False
    ) -> None:
        self.rule = rule
        self.rows: dict[str, int] = {}
        for row, problem in enumerate(problems):
            self.rows[problem] = row
            assert len(self.rows) == row + 1, f"the problem {problem} is there twice"
        self._judging = judging
        self._targets = np.full(len(self.rows), rule.min, np.uint16)
        self._available = np.full(len(self.rows), rule.min, np.uint16)  # to be requested
        self._finished = np.zeros(len(self.rows), np.bool_)
        # Ids are digests, so that is an order without a pattern.
        order = sorted(self.rows) if mixed else self.rows
        self._order = np.array([self.rows[id_] for id_ in order], np.int32)
        self._slots: list[array[int]] = []  # by sample: offset, verdict and state in one integer
        self._unavailable: dict[int, set[int]] = {}  # samples in flight, or failed in this run
        self.samples = 0
        """Responses that need not be requested again."""
        self.correct = 0
        """Of those, the ones judged correct and usable."""
        self.finished = 0
        """Problems that need no more samples."""
        self.cut_short = False
        """Whether a budget ended the run before the rule had ended every problem."""

    def _slot(self, row: int, sample: int) -> int:
        return self._slots[sample][row] if sample < len(self._slots) else -1

    def _slots_of(self, row: int) -> list[int]:
        return [self._slot(row, sample) for sample in range(int(self._targets[row]))]

    def _put(self, row: int, sample: int, offset: int, verdict: int, state: int) -> None:
        while sample >= len(self._slots):
            self._slots.append(array("q", [-1]) * len(self.rows))
        self._count(self._slots[sample][row], -1)
        self._slots[sample][row] = slot = offset << 4 | verdict << 2 | state
        self._count(slot, 1)

    def _count(self, slot: int, sign: int) -> None:
        if _done(slot):
            self.samples += sign
            self.correct += sign * (_verdict(slot) == _CORRECT)

    def offset(self, row: int, sample: int) -> int | None:
        """The journal offset of a sample's response, if there is one."""
        slot = self._slot(row, sample)
        return slot >> 4 if slot >= 0 else None

    def record(self, row: int, sample: int, offset: int, *, failed: bool, truncated: bool) -> None:
        """Record where a response lies. `truncated`: a larger budget of tokens would have made it
        longer. A failure never replaces an earlier answer.
        """
        old = self._slot(row, sample)
        if failed and old >= 0 and old & 3 != _FAILED:
            return
        state = _FAILED if failed else _TRUNCATED if truncated else _DONE
        self._put(row, sample, offset, _UNJUDGED, state)

    def record_verdict(self, row: int, sample: int, *, correct: bool) -> None:
        """Record whether the response that lies there is correct and usable."""
        old = self._slot(row, sample)
        self._put(row, sample, old >> 4, _CORRECT if correct else _INCORRECT, old & 3)

    def refresh(self, row: int) -> None:
        """Apply the rule to a problem, after something of it was recorded."""
        while True:
            target, slots = int(self._targets[row]), self._slots_of(row)
            unavailable = self._unavailable.get(row, set())
            missing = [n for n, slot in enumerate(slots) if not _done(slot)]
            self._available[row] = sum(sample not in unavailable for sample in missing)
            done = [slot for slot in slots if _done(slot)]
            judged = [slot for slot in done if _verdict(slot) != _UNJUDGED]
            if len(judged if self._judging else done) < target:
                self._set_finished(row, False)
                return
            following = wanted(
                self.rule, target, sum(_verdict(slot) == _CORRECT for slot in judged)
            )
            if following == target:
                self._set_finished(row, True)
                return
            self._targets[row] = following

    def _set_finished(self, row: int, finished: bool) -> None:
        self.finished += int(finished) - int(self._finished[row])
        self._finished[row] = finished

    def available_rows(self) -> list[int]:
        """The problems of which a sample can be requested now, in the order to ask them."""
        return [int(row) for row in self._order[self._available[self._order] > 0]]

    def claim(self, row: int) -> tuple[int, int | None] | None:
        """The next sample of a problem to request, with the offset of the truncated response that
        it continues, if there is one; None where none is available. Nobody else gets it until
        `release`.
        """
        unavailable = self._unavailable.setdefault(row, set())
        for sample, slot in enumerate(self._slots_of(row)):
            if sample not in unavailable and not _done(slot):
                unavailable.add(sample)
                self._available[row] -= 1
                return sample, slot >> 4 if slot >= 0 and slot & 3 == _TRUNCATED else None
        return None

    def release(self, row: int, sample: int) -> None:
        """A sample that was claimed is no longer in flight: if it has no response, it can be
        requested again.
        """
        unavailable = self._unavailable[row]
        unavailable.discard(sample)
        if not unavailable:
            del self._unavailable[row]

    def missing(self) -> npt.NDArray[np.int64]:
        """For each problem how many samples its rule is known to want that are not there. A rule
        that goes by verdicts may want more once they are.
        """
        have = np.zeros(len(self.rows), np.int64)
        for sample, slots in enumerate(self._slots):
            states = np.frombuffer(slots, np.int64)
            have += (states >= 0) & (states & 3 == _DONE) & (sample < self._targets)
        return self._targets - have

    def held(self) -> int:
        """How many samples have a response that is final under today's settings, failed ones
        included.
        """
        states = (np.frombuffer(slots, np.int64) for slots in self._slots)
        return sum(int(((one >= 0) & (one & 3 != _TRUNCATED)).sum()) for one in states)

    def unjudged(self) -> Iterator[tuple[int, int, int]]:
        """Row, sample and offset of the responses that are there and have no verdict."""
        for sample, slots in enumerate(self._slots):
            for row, slot in enumerate(slots):
                if _done(slot) and _verdict(slot) == _UNJUDGED:
                    yield row, sample, slot >> 4

    def responses(self) -> Iterator[tuple[int, int, int]]:
        """Row, sample and offset of all wanted responses that are there, by sample and row."""
        for sample, slots in enumerate(self._slots):
            for row, slot in enumerate(slots):
                if slot >= 0 and sample < self._targets[row]:
                    yield row, sample, slot >> 4

    def counts(self, row: int, first: int | None = None) -> ProblemCounts:
        """The counts of a problem, or of its `first` samples."""
        done = [slot for slot in self._slots_of(row)[:first] if _done(slot)]
        return ProblemCounts(
            samples=len(done),
            correct=sum(_verdict(slot) == _CORRECT for slot in done),
            finished=bool(self._finished[row]),
        )


def _done(slot: int) -> bool:
    return slot >= 0 and slot & 3 == _DONE


def _verdict(slot: int) -> int:
    return slot >> 2 & 3


def read_ledger(
    journal: Path,
    problems: Iterable[str],
    rule: Rule,
    *,
    teacher: str,
    max_tokens: int,
    judging: bool,
    mixed: bool = False,
    sent: Callable[[int], str | None] = lambda row: None,
) -> tuple[Ledger, Spent]:
    """The ledger of what a journal holds of these problems (ids), and what all in it has cost.
    `refresh` is still to be called for each row. A response counts only where its prompt was masked
    as it would be now: `sent` gives the digest for a row.

    Raises:
        ValueError: the journal holds a damaged line.

    """
    ledger = Ledger(problems, rule, judging=judging, mixed=mixed)
    tokens, money, hours = 0, 0.0, 0.0
    for values, offset in journals.read_heads(journal, INDEXED):
        identity, problem, sample, finish, budget, spent, paid, elapsed, masked = values
        tokens += spent or 0
        money += paid or 0.0
        hours = max(hours, (elapsed or 0.0) / 3600)
        row = ledger.rows.get(problem)
        if row is None or sample >= rule.max or identity != trace_id(problem, teacher, sample):
            continue  # of another run's recipe in this folder
        if masked != sent(row):
            continue  # its placeholders stand for something else
        truncated = finish == "length" and budget < max_tokens
        ledger.record(row, sample, offset, failed=finish in UNANSWERED, truncated=truncated)
    return ledger, Spent(tokens=tokens, money=money, hours=hours)


def spent_in(journal: Path) -> Spent:
    """What all responses in a journal have cost.

    Raises:
        ValueError: the journal holds a damaged line.

    """
    rule = Rule(min=1, max=1)
    return read_ledger(journal, (), rule, teacher="", max_tokens=1, judging=False)[1]
