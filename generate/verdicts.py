"""Judge answers while others are sampled, in a thread beside the engine."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from generate.reasoning import VERSION
from tracestill.records import Journal, Problem, Trace, Verdict, write_atomic
from tracestill.records import journal as journals

BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """What judges answers: `judge` takes problems and traces and returns their verdicts, in
    order; `names` are those of the verifiers of today, whose verdicts of earlier runs count.
    """

    judge: Callable[[Sequence[tuple[Problem, Trace]]], Sequence[Verdict]]
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A response to judge: where it stands in the ledger and the journal, and what it says."""

    row: int
    sample: int
    offset: int
    problem: Problem
    trace: Trace


class Judging:
    """Judges entries in the order in which they come, in batches; verdicts go to a journal."""

    def __init__(self, verifier: Verifier, journal: Path) -> None:
        self._judge = verifier.judge
        self._waiting: deque[Entry] = deque()
        self._running: tuple[list[Entry], Future[Sequence[Verdict]]] | None = None
        self._journal = Journal(journal)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judging")

    def __enter__(self) -> Judging:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._journal.close()

    @property
    def waiting(self) -> int:
        """How many entries have no verdict yet."""
        return len(self._waiting) + (len(self._running[0]) if self._running else 0)

    def add(self, entry: Entry) -> None:
        """Have an entry judged."""
        self._waiting.append(entry)

    def collect(self) -> Iterator[tuple[Entry, Verdict]]:
        """The verdicts that are there by now; does not wait.

        Raises:
            RuntimeError: a verifier's process can't be started.

        """
        if self._running and self._running[1].done():
            entries, future = self._running
            self._running = None
            for entry, verdict in zip(entries, future.result(), strict=True):
                self._journal.append(
                    {
                        "offset": entry.offset,
                        "problem_id": entry.problem.id,
                        "sample": entry.sample,
                        "read_by": VERSION,
                        **asdict(verdict),
                    }
                )
                yield entry, verdict
        if not self._running and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            pairs = [(entry.problem, entry.trace) for entry in batch]
            self._running = (batch, self._thread.submit(self._judge, pairs))


def read_verdicts(journal: Path, names: Sequence[str]) -> Iterator[tuple[str, int, int, Verdict]]:
    """The verdicts of earlier runs that verifiers of these names made of answers found as they
    are today: problem id, sample and the offset of the response, with the verdict.

    Raises:
        ValueError: the journal holds a damaged line.

    """
    known = frozenset(names)
    for row, _ in journals.read(journal):
        if row["read_by"] == VERSION and row["verifier"] in known:
            verdict = Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__})
            yield row["problem_id"], row["sample"], row["offset"], verdict


def forget_lost(journal: Path, end: int) -> None:
    """Take the verdicts on responses from the byte offset `end` on out of their journal. A loss of
    power may keep a verdict and take the response: another would come to lie in its place.
    """
    kept = [row for row, _ in journals.read(journal) if row["offset"] < end]
    write_atomic(journal, b"".join(json.dumps(row).encode() + b"\n" for row in kept))
