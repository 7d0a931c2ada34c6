"""What the batch API was sent, on disk, so that a run that was killed finds its batches again.

A chunk of requests lies there before anything is sent, and its batch carries the chunk's name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracestill.records import write_atomic


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def status_of(row: Mapping[str, Any]) -> int:
    """The status of a line of results; lines of the error file may have no response at all."""
    status = (row.get("response") or {}).get("status_code")
    return status if isinstance(status, int) else 500


class Chunk:
    """Requests that are sent together: `NAME.jsonl`, then `NAME.batch` with the batch's id, then
    `NAME.out.jsonl` with its results. Each file is there only when it is whole.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.requests = folder / f"{name}.jsonl"
        self._id = folder / f"{name}.batch"
        self.results = folder / f"{name}.out.jsonl"
        self.polled = float("-inf")
        """When its batch was last looked at, by the monotonic clock."""

    @property
    def batch(self) -> str | None:
        """The id of its batch, once it is known."""
        return self._id.read_text() if self._id.exists() else None

    def note_batch(self, batch: str) -> None:
        """Keep the id of its batch."""
        write_atomic(self._id, batch.encode())

    def forget_batch(self) -> None:
        """Let it be sent again."""
        self._id.unlink(missing_ok=True)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines of its results."""
        with self.results.open("rb") as file:
            yield from map(json.loads, filter(bytes.strip, file))


class Chunks:
    """The chunks in a folder, and which of them holds which request."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._chunks: dict[str, Chunk] = {}
        self._sent: dict[str, tuple[str, str]] = {}  # by request: its line's digest, the chunk
        for path in sorted(folder.glob("*.jsonl")):
            if not path.name.endswith(".out.jsonl"):
                self._remember(Chunk(folder, path.stem))

    def __getitem__(self, name: str) -> Chunk:
        return self._chunks[name]

    def _remember(self, chunk: Chunk) -> None:
        """Know a chunk's requests; those that failed are to be sent again."""
        self._chunks[chunk.name] = chunk
        good = None
        if chunk.results.exists():
            good = {row["custom_id"] for row in chunk.rows() if status_of(row) == 200}
        with chunk.requests.open("rb") as file:
            for line in file:
                id_ = json.loads(line)["custom_id"]
                if good is None or id_ in good:
                    self._sent[id_] = (_digest(line), chunk.name)

    def holding(self, request: str, line: bytes) -> str | None:
        """The name of the chunk in which this request was sent with this line."""
        digest, name = self._sent.get(request, ("", ""))
        return name if digest == _digest(line) else None

    def forget(self, request: str) -> None:
        """Let a request be sent again."""
        self._sent.pop(request, None)

    def add(self, lines: list[bytes]) -> Chunk:
        """Write a new chunk of requests."""
        data = b"".join(lines)
        chunk = Chunk(self.folder, f"{len(self._chunks):05d}-{_digest(data)}")
        write_atomic(chunk.requests, data)
        self._remember(chunk)
        return chunk
