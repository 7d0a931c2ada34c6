"""Say what to change where the filter keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping

_ADVICE = {
    "error": "the teacher's requests failed: look at the drops' details and at the teacher's log",
    "truncated": "raise generate.max_tokens (and max_model_len, if it is smaller)",
    "malformed": "the traces lack a reasoning and an answer: use a teacher that reasons, or one "
    "whose engine or template gives its reasoning (a think block or a field of its own)",
    "empty": "the teacher leaves its reasoning or its answer blank: check generate.system_prompt "
    "and the prompts",
    "too_long": "raise filter.max_tokens, or leave it out",
    "incorrect": "compare some drops with their problems' references and kind, ask for the answer "
    "in \\boxed{}, or use a stronger teacher",
    "unverifiable": "give the problems references that can be checked, or set filter.agreement, "
    "filter.judge or filter.keep",
    "verifier_error": "the verifier failed on the answers: look at the drops' details",
    "correct": "filter.keep leaves out the correct traces: put `correct` on it",
    "contaminated": "the problems are among the held-out ones: choose others for problems.train or "
    "problems.heldout",
}


def why_nothing_is_kept(dropped: Mapping[str, int], total: int) -> str:
    """A line for a run that keeps none of its `total` traces: what dropped them, the most frequent
    reason first, and what to change about that in the recipe.

    `dropped` counts drops by reason (`FilterResult.dropped`).
    """
    if not dropped:
        return "no trace is kept, since there is none: sample some (generate.samples)"
    counts = sorted(dropped.items(), key=lambda item: -item[1])
    said = ", ".join(f"{count:,} {reason}" for reason, count in counts)
    most = counts[0][0]  # never a duplicate or a cap: those keep one of the traces they are given
    return f"none of {total:,} traces is kept: {said}. For {most}: {_ADVICE[most]}"
