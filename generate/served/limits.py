"""How much is asked at once, how often, and how long after a failure."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 60.0
_LONGEST_RETRY_AFTER = 3600.0


class Slots:
    """Concurrency that adapts: halved when a server says that it is too much, one more after
    each round of successes (additive increase, multiplicative decrease: Chiu and Jain 1989).

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
        """Wait for a slot, in the order of asking."""
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
        """Give a slot back."""
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
        """A server said that it is too much, of a request sent at that time (monotonic). What
        was sent before the last decrease says nothing new.
        """
        if sent > self._lowered:
            self._lowered = time.monotonic()
            self.limit = max(1.0, min(self.limit, float(self._used)) / 2)


class Bucket:
    """A token bucket of `per_minute`; no more than a second's worth is saved up, so that any
    minute has at most 1/60 too many. It may go into debt: what is larger than the bucket
    passes, and what comes after it waits.
    """

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate)
        self._level = self._most
        self._at = time.monotonic()

    async def take(self, amount: float) -> None:
        """Take so much, waiting until those before have been paid for."""
        now = time.monotonic()
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        self._level -= amount
        wait = -(self._level + amount - min(amount, self._most)) / self._rate
        if wait > 0:
            await asyncio.sleep(wait)

    def correct(self, surplus: float) -> None:
        """Give back what was taken too much; negative: take what was taken too little."""
        self._level += surplus


def backoff(tries: int) -> float:
    """Seconds to wait after the so-many-th failure in a row: exponential with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return random.uniform(0, min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** min(tries, 16)))


def retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, given as seconds or as an HTTP date; None if it says
    nothing readable. At most an hour.
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
