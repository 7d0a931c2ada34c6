"""Judge answers while others are sampled, in a thread beside the engine."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from generate.reasoning import VERSION
from tracestill.records import Journal, Problem, Trace, Verdict, write_atomic
from tracestill.records import journal as journals
from tracestill.records.usable import unusable
from tracestill.records.verifier import Verifier

BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTrace:
    """A trace to judge, its problem's row in the ledger, and the offset of its journal line."""

    row: int
    offset: int
    problem: Problem
    trace: Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSample:
    """A verdict with what else decides whether the sample counts as correct: why the filter would
    drop its trace whatever its length (`unusable`), and its tokens. `offset` is that of the
    response in its journal.
    """

    problem_id: str
    sample: int
    offset: int
    verdict: Verdict
    unusable: str | None
    completion_tokens: int

    def correct(self, max_kept_tokens: int | None) -> bool:
        """Whether it is correct and the filter can keep it, which keeps so many tokens at most."""
        kept = max_kept_tokens is None or self.completion_tokens <= max_kept_tokens
        return self.verdict.outcome == "correct" and self.unusable is None and kept


class BackgroundVerifier:
    """Judges traces in the order in which they come, in batches; verdicts go to a journal."""

    def __init__(
        self, verifier: Verifier, journal: Path, read_by: int | str, *, needs_reasoning: bool
    ) -> None:
        """`read_by` says how the traces were read (`SamplingJob.read_by`)."""
        self._verify = verifier.verify
        self._read_by = read_by
        self._needs_reasoning = needs_reasoning
        self._waiting: deque[PendingTrace] = deque()
        self._running: tuple[list[PendingTrace], Future[Sequence[Verdict]]] | None = None
        self._journal = Journal(journal)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    def __enter__(self) -> BackgroundVerifier:
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
    def pending(self) -> int:
        """How many traces have no verdict yet."""
        return len(self._waiting) + (len(self._running[0]) if self._running else 0)

    def add(self, pending: PendingTrace) -> None:
        """Queue a trace."""
        self._waiting.append(pending)

    def collect(self) -> Iterator[tuple[PendingTrace, JudgedSample]]:
        """The verdicts that have come in; does not wait.

        Raises:
            RuntimeError: the verifier can't judge at all, such as where its process can't start.

        """
        if self._running and self._running[1].done():
            batch, future = self._running
            self._running = None
            for pending, verdict in zip(batch, future.result(), strict=True):
                yield pending, self._record(pending, verdict)
        if not self._running and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            pairs = [(pending.problem, pending.trace) for pending in batch]
            self._running = (batch, self._thread.submit(self._verify, pairs))

    def _record(self, pending: PendingTrace, verdict: Verdict) -> JudgedSample:
        drop = unusable(pending.trace, needs_reasoning=self._needs_reasoning)
        judged = JudgedSample(
            problem_id=pending.problem.id,
            sample=pending.trace.sample,
            offset=pending.offset,
            verdict=verdict,
            unusable=drop.reason if drop else None,
            completion_tokens=pending.trace.completion_tokens,
        )
        row = asdict(judged)
        self._journal.append(row | row.pop("verdict") | {"read_by": self._read_by})
        return judged


def read_verdicts(
    journal: Path, names: Sequence[str], read_by: int | str = VERSION
) -> Iterator[JudgedSample]:
    """What verifiers of these names judged in earlier runs, of answers that were split as they are
    today (`read_by`). Rows of older journals, which do not say whether the trace is usable, are
    left out.

    Raises:
        ValueError: the journal holds a damaged line.

    """
    known = frozenset(names)
    for row, _ in journals.read(journal):
        if row["read_by"] == read_by and row["verifier"] in known and "unusable" in row:
            yield JudgedSample(
                problem_id=row["problem_id"],
                sample=row["sample"],
                offset=row["offset"],
                verdict=Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__}),
                unusable=row["unusable"],
                completion_tokens=row["completion_tokens"],
            )


def forget_lost(journal: Path, end: int) -> None:
    """Remove the verdicts on responses from the byte offset `end` on. A power cut may keep a
    verdict and lose its response: another response would come to lie in its place.
    """
    kept = [row for row, _ in journals.read(journal) if row["offset"] < end]
    write_atomic(journal, b"".join(json.dumps(row).encode() + b"\n" for row in kept))
