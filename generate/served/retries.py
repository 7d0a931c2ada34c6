"""When a failed request is retried: one policy for requests and for the batch API."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential

from generate.served import replicas
from generate.served.replies import Failure

BACKOFF = wait_random_exponential(multiplier=0.5, max=60)
"""Seconds before a retry: exponential with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""


def may_pass(found: object) -> bool:
    """Whether what came of an attempt is a failure that a retry may overcome."""
    return isinstance(found, Failure) and found.kind in ("busy", "passing")


def wait(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the server asks for, and the backoff."""
    failure = result_of(state)
    return (failure.wait or 0.0) + BACKOFF(state)


def result_of(state: RetryCallState) -> Failure:
    """The failure with which the last attempt ended."""
    assert state.outcome is not None
    failure: Failure = state.outcome.result()
    return failure


@dataclass(slots=True)
class StopAfter:
    """Ends a request after so many retries that failed. An overloaded server is waited for, however
    often it refuses, until `replicas.PATIENCE` is over; a failed connection is no attempt. What is
    likely to come again (`Failure.lasting`) is paid for twice at most.
    """

    retries: int
    failures: int = 0
    lasting: int = 0

    def __call__(self, state: RetryCallState) -> bool:
        """Whether the attempt that failed was the last."""
        failure = result_of(state)
        self.failures += failure.counts
        self.lasting += failure.lasting
        if self.lasting > 1:
            return True
        waited = (state.seconds_since_start or 0.0) > replicas.PATIENCE
        return self.failures > self.retries and (failure.kind == "passing" or waited)
