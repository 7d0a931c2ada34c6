"""Several endpoints of one model: which is asked, which is out, and when it is tried again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

FAILURES = 3  # in a row, after which a replica that still takes connections is out
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between looks at one that is out
WATCH = 30.0  # seconds without a word, after which a replica that works is looked at
PATIENCE = 900.0  # seconds that all may be gone
_LOOK = 0.2  # seconds between looks for one that is back

Probe = Callable[[str], Awaitable[str | None]]
"""Asks an endpoint for a sign of life; None, or what went wrong."""


class AllGoneError(Exception):
    """No replica has been there for too long."""


@dataclass(slots=True, kw_only=True, eq=False)
class Replica:
    """An endpoint. `running` are the tasks that wait for it."""

    url: str
    up: bool = True
    running: set[asyncio.Task[object]] = field(default_factory=set)
    failures: int = 0
    pause: float = FIRST_PAUSE
    rests_until: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    why: str = ""
    look: asyncio.Event = field(default_factory=asyncio.Event)


class Replicas:
    """Gives out the replica with the fewest in flight. To be made inside a running loop."""

    def __init__(self, urls: list[str], probe: Probe) -> None:
        self.all = [Replica(url=url) for url in urls]
        self.evicted: set[asyncio.Task[object]] = set()
        self._probe = probe
        self._watchers: list[asyncio.Task[None]] = []

    def watch(self) -> None:
        """Begin to look after the replicas."""
        self._watchers = [asyncio.create_task(self._look_after(one)) for one in self.all]

    async def pick(self, avoid: Replica | None = None) -> Replica:
        """The replica to ask, not `avoid` if there is another; waits while all are out or rest.

        Raises:
            AllGoneError: all have been out for `PATIENCE` seconds.

        """
        while True:
            now = time.monotonic()
            ready = [one for one in self.all if one.up and one.rests_until <= now]
            ready = [one for one in ready if one is not avoid] or ready
            if ready:
                fewest = min(len(one.running) for one in ready)
                return random.choice([one for one in ready if len(one.running) == fewest])
            if not any(one.up for one in self.all):
                last = max(self.all, key=lambda one: one.heard)
                if now - last.heard > PATIENCE:
                    minutes = PATIENCE / 60
                    raise AllGoneError(
                        f"no endpoint has answered for {minutes:.0f} minutes, the last was "
                        f"{last.url} ({last.why})"
                    )
            await asyncio.sleep(_LOOK * random.uniform(0.5, 1))

    def answered(self, replica: Replica) -> None:
        """It gave an answer."""
        replica.failures, replica.pause, replica.up = 0, FIRST_PAUSE, True
        replica.heard = time.monotonic()

    def rest(self, replica: Replica, seconds: float) -> None:
        """Ask it nothing for so long: it said so."""
        replica.rests_until = max(replica.rests_until, time.monotonic() + seconds)
        replica.heard = time.monotonic()

    def failed(self, replica: Replica, why: str, *, unreachable: bool = False) -> None:
        """It failed in a way that is not the request's fault."""
        replica.failures += 1
        replica.why = why
        if unreachable or replica.failures >= FAILURES:
            replica.up = False
            replica.look.set()

    async def _look_after(self, replica: Replica) -> None:
        while True:
            if replica.up:
                await self._quiet(replica)
            if not replica.up:
                await asyncio.sleep(replica.pause * random.uniform(0.5, 1))
                replica.pause = min(LONGEST_PAUSE, 2 * replica.pause)
            why = await self._probe(replica.url)
            if why is None:
                # It lives; whether it also works, the next answer tells: one more failure and it
                # is out again, for twice as long.
                replica.up, replica.failures = True, FAILURES - 1
                replica.heard = time.monotonic()
                continue
            was_up = replica.up
            self.failed(replica, why)
            if not replica.up and not was_up:  # twice deaf: what it was asked is lost
                self.evicted |= replica.running
                for task in replica.running:
                    task.cancel()

    async def _quiet(self, replica: Replica) -> None:
        """Until the replica is taken out, or owes answers and has said nothing for a while."""
        while replica.up:
            replica.look.clear()
            silent = time.monotonic() - replica.heard
            if replica.running and silent >= WATCH:
                return
            wait = WATCH - silent if replica.running and silent < WATCH else WATCH
            try:
                await asyncio.wait_for(replica.look.wait(), wait)
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Look after them no more."""
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
