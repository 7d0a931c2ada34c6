"""Stop a run where hardly any of the first traces can be used, before the rest is paid for."""

from __future__ import annotations

from collections import Counter

from tracestill.records import Trace
from tracestill.records.usable import unusable

TRACES = 50
_ALARM = 45  # unusable ones among them

_SHOWN = 160  # characters of an answer in the message
_FIXES = {
    "error": "see what the error says",
    "truncated": "raise generate.max_tokens",
    "too_long": "raise filter.max_tokens",
}
_NO_REASONING = (
    "check that the model reasons, and that its chat template or server leaves the think tags (or "
    "a reasoning field) in its answers; for plain solutions set generate.reasoning to solution, or "
    "finetune.think to none"
)


class Canary:
    """Watches the first `TRACES` samples in the order of requests, since short answers and failures
    arrive first. It is alarmed where nine in ten can't be used. Runs of fewer samples are never
    stopped.
    """

    def __init__(self, max_kept_tokens: int | None, *, needs_reasoning: bool = True) -> None:
        self._max_kept_tokens = max_kept_tokens
        self._needs_reasoning = needs_reasoning
        self._watched: set[str] = set()
        self._reasons: Counter[str] = Counter()
        self._example = ""

    def watch(self, trace: str) -> None:
        """Note that a trace is requested."""
        if len(self._watched) < TRACES:
            self._watched.add(trace)

    def watches(self, trace: str) -> bool:
        """Whether the trace is one of the first."""
        return trace in self._watched

    def see(self, trace: Trace) -> None:
        """Look at one of the first traces."""
        drop = unusable(trace, self._max_kept_tokens, needs_reasoning=self._needs_reasoning)
        if drop is None:
            return
        self._reasons[drop.reason] += 1
        if drop.reason == self._reasons.most_common(1)[0][0]:
            said = trace.error if drop.reason == "error" else trace.raw or trace.raw_reasoning
            self._example = " ".join((said or "").split())[:_SHOWN]

    @property
    def alarmed(self) -> bool:
        """Whether the run is to be stopped."""
        return len(self._watched) == TRACES and self._reasons.total() >= _ALARM

    def error(self) -> ValueError:
        """What is wrong with the traces, and what to change."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._reasons.most_common())
        fix = _FIXES.get(self._reasons.most_common(1)[0][0], _NO_REASONING)
        return ValueError(
            f"{self._reasons.total()} of the first {TRACES} traces can't be used ({reasons}); one "
            f"begins {self._example!r}: {fix}, or take another model. All responses are kept; "
            "generate.canary=false samples on regardless"
        )
