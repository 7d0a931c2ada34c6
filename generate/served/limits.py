"""How many requests are in flight at once, how many are sent a minute, and how long a server asks
to be left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST_RETRY_AFTER = 3600.0


class Slots:
    """Adaptive concurrency: halved when a server is overloaded, one more after each round of
    successes (additive increase, multiplicative decrease: Chiu and Jain 1989).

    It begins at `most`: servers queue what they can't run yet, and an answer may take an hour,
    so that a slow start would never end.
    """

    def __init__(self, most: int) -> None:
        self.limit = float(most)
        self._most = most
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lowered = 0.0

    async def acquire(self) -> None:
        """Wait for a slot, first come, first served."""
        if self._used < int(self.limit) and not self._waiting:
            self._used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the slot just before
                self.release()
            raise

    def release(self) -> None:
        """Free a slot."""
        self._used -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._used < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)

    def succeeded(self) -> None:
        """An answer came."""
        if self.limit < self._most:
            self.limit = min(float(self._most), self.limit + 1 / self.limit)
            self._wake()

    def too_many(self, sent: float) -> None:
        """A server refused a request sent at that (monotonic) time as one too many. What was sent
        before the last decrease says nothing new.
        """
        if sent > self._lowered:
            self._lowered = time.monotonic()
            self.limit = max(1.0, min(self.limit, float(self._used)) / 2)


class Bucket:
    """A token bucket that fills by `per_minute` and holds a second's worth, so that any minute has
    at most 1/60 too many. It may go into debt: what is larger than the bucket passes, and what
    comes after it waits.
    """

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate)
        self._level = self._most
        self._at = time.monotonic()

    async def take(self, amount: float) -> None:
        """Take so much, after waiting until the debt of those before is paid off."""
        now = time.monotonic()
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        self._level -= amount
        wait = -(self._level + amount - min(amount, self._most)) / self._rate
        if wait > 0:
            await asyncio.sleep(wait)

    def correct(self, surplus: float) -> None:
        """Return what was taken too much; negative: take what was taken too little."""
        self._level += surplus


def retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, given as seconds or as an HTTP date; None if it
    can't be read. At most an hour.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        seconds = (until - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER) if seconds == seconds else None
