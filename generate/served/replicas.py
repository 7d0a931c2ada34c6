"""Several endpoints of one model: which gets a request, which is down, and when it is probed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

FAILURES = 3  # in a row, after which a replica that still takes connections is down
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between probes of one that is down
WATCH = 30.0  # seconds of silence after which a replica that owes answers is probed
PATIENCE = 900.0  # seconds that all may be down
_POLL = 0.2  # seconds between checks whether one is up again

Probe = Callable[[str], Awaitable[str | None]]
"""A health check of an endpoint: None, or what is wrong."""


class AllGoneError(Exception):
    """All replicas have been down for too long."""


@dataclass(slots=True, kw_only=True, eq=False)
class Replica:
    """An endpoint. `running` are the tasks that await its answers."""

    url: str
    up: bool = True
    running: set[asyncio.Task[object]] = field(default_factory=set)
    failures: int = 0
    pause: float = FIRST_PAUSE
    rests_until: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    why: str = ""
    went_down: asyncio.Event = field(default_factory=asyncio.Event)


class Replicas:
    """Balances by requests in flight. To be made inside a running loop.

    `evicted` are tasks that were cancelled because their replica no longer answers.
    """

    def __init__(self, urls: list[str], probe: Probe) -> None:
        self.all = [Replica(url=url) for url in urls]
        self.evicted: set[asyncio.Task[object]] = set()
        self._probe = probe
        self._watchers: list[asyncio.Task[None]] = []

    def watch(self) -> None:
        """Start the health checks."""
        self._watchers = [asyncio.create_task(self._check(one)) for one in self.all]

    async def pick(self, avoid: Replica | None = None) -> Replica:
        """The replica with the fewest requests in flight, not `avoid` if there is another; waits
        while all are down or resting.

        Raises:
            AllGoneError: all have been down for `PATIENCE` seconds.

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
            await asyncio.sleep(_POLL * random.uniform(0.5, 1))

    def answered(self, replica: Replica) -> None:
        """Note that a replica answered."""
        replica.failures, replica.pause, replica.up = 0, FIRST_PAUSE, True
        replica.heard = time.monotonic()

    def rest(self, replica: Replica, seconds: float) -> None:
        """Send a replica nothing for so long, as it asked."""
        replica.rests_until = max(replica.rests_until, time.monotonic() + seconds)
        replica.heard = time.monotonic()

    def failed(self, replica: Replica, why: str, *, unreachable: bool = False) -> None:
        """Note a failure of a replica that is not the request's fault."""
        replica.failures += 1
        replica.why = why
        if unreachable or replica.failures >= FAILURES:
            replica.up = False
            replica.went_down.set()

    async def _check(self, replica: Replica) -> None:
        while True:
            if replica.up:
                await self._until_silent(replica)
            if not replica.up:
                await asyncio.sleep(replica.pause * random.uniform(0.5, 1))
                replica.pause = min(LONGEST_PAUSE, 2 * replica.pause)
            why = await self._probe(replica.url)
            if why is None:
                # Whether it also works, the next answer tells: one more failure and it is down
                # again, for twice as long.
                replica.up, replica.failures = True, FAILURES - 1
                replica.heard = time.monotonic()
                continue
            was_up = replica.up
            self.failed(replica, why)
            if not replica.up and not was_up:  # two probes failed: what it was sent is lost
                self.evicted |= replica.running
                for task in replica.running:
                    task.cancel()

    async def _until_silent(self, replica: Replica) -> None:
        """Wait until the replica is down, or owes answers and was silent for `WATCH` seconds."""
        while replica.up:
            replica.went_down.clear()
            silent = time.monotonic() - replica.heard
            if replica.running and silent >= WATCH:
                return
            wait = WATCH - silent if replica.running and silent < WATCH else WATCH
            try:
                await asyncio.wait_for(replica.went_down.wait(), wait)
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Stop the health checks."""
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
