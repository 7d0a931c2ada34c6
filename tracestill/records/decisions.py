"""What people decided of a run's traces: `filter/decisions.jsonl`, to which a line is appended for
each decision. The filter takes the last one of a trace as its verdict; nothing removes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tracestill.records import journal as journals
from tracestill.records.schema import Verdict

PERSON = "person/1"  # the verifier of these verdicts
DECISIONS = Path("filter") / "decisions.jsonl"  # in a run

Decided = Literal["correct", "incorrect", "undecided"]
"""`undecided` takes an earlier decision back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person said of a trace's answer. `at` is the time in ISO 8601."""

    trace_id: str
    verdict: Decided
    at: str
    note: str = ""

    def as_verdict(self) -> Verdict | None:
        """The verdict that it is, or None where there is none any more."""
        if self.verdict == "undecided":
            return None
        return Verdict(
            trace_id=self.trace_id,
            verifier=PERSON,
            outcome=self.verdict,
            extracted=None,
            detail=self.note or "decided by a person",
            seconds=0.0,
        )


def read_decisions(run: Path) -> dict[str, Decision]:
    """The last decision of each trace of which there is one, by trace id.

    Raises:
        ValueError: a line is no decision.

    """
    found: dict[str, Decision] = {}
    path = run / DECISIONS
    for number, (row, _) in enumerate(journals.read(path), 1):
        try:
            found[row["trace_id"]] = msgspec.convert(row, Decision)
        except (msgspec.ValidationError, KeyError) as error:
            raise ValueError(
                f"{path}, line {number} is no decision: it needs trace_id, verdict (correct, "
                f"incorrect or undecided) and at; correct it, or remove it (sed -i {number}d)"
            ) from error
    return found


def decided_verdicts(run: Path) -> dict[str, Verdict]:
    """The verdicts that people gave, by trace id.

    Raises:
        ValueError: a line is no decision.

    """
    found = {trace: one.as_verdict() for trace, one in read_decisions(run).items()}
    return {trace: verdict for trace, verdict in found.items() if verdict is not None}


def decided_settings(verdicts: Mapping[str, Verdict]) -> list[list[str]]:
    """Of these verdicts what decides whether the filter is made again: neither when they were given
    nor the notes.
    """
    return sorted([trace, one.outcome] for trace, one in verdicts.items())


def add_decision(run: Path, decision: Decision) -> None:
    """Append a decision; it is on disk when this returns.

    Raises:
        OSError: it can't be written.

    """
    with journals.Journal(run / DECISIONS) as journal:
        journal.append(asdict(decision))
