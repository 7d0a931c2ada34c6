"""Say what to change where the filter keeps nothing, or can't judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from filter.verify.maths import NO_ANSWER
from tracestill.records import Doubt

_SHOWN = 5

_ADVICE = {
    "error": "the teacher's requests failed: look at the drops' details and at the teacher's log",
    "truncated": "raise generate.max_tokens (and max_model_len, if it is smaller)",
    "malformed": "the traces lack a reasoning and an answer: use a teacher that reasons, or one "
    "whose engine or template gives its reasoning (a think block or a field of its own). For one "
    "that writes plain solutions set generate.reasoning to solution, which takes what precedes the "
    "final answer for the reasoning, or finetune.think to none, to learn answers alone",
    "empty": "the teacher leaves its reasoning or its answer blank: check generate.system_prompt "
    "and the prompts",
    **dict.fromkeys(
        ("refusal", "evasive", "political", "identity", "skipped_reasoning"),
        "the teacher does not answer: look at the drops' details, choose other problems or another "
        "teacher, or leave the topic out of topics in the filter's step `refusal`",
    ),
    **dict.fromkeys(
        ("email", "phone", "iban", "key"),
        "the traces hold personal data or secrets: look at where they come from, or say action: "
        "keep in the filter's step `private`",
    ),
    "too_long": "raise max_tokens of the filter's step `length`, or leave it out",
    "too_short": "lower min_tokens of the filter's step `length`, or leave it out",
    "incorrect": "compare some drops with their problems' references and kind, ask for the answer "
    "in \\boxed{}, or use a stronger teacher",
    "unverifiable": "give the problems references that can be checked, or set filter.agreement, "
    "filter.judge, or keep: [correct, unverifiable] in the filter's step `verify`",
    "verifier_error": "the verifier failed on the answers: look at the drops' details",
    "correct": "the filter's step `verify` leaves out the correct traces: add `correct` to keep",
    **dict.fromkeys(
        ("repetitive", "loop", "compressible", "second_thoughts"),
        "the teacher repeats itself: sample with temperature 0.6 and top_p 0.95, or change the "
        "bounds of the filter's step `quality`",
    ),
    "unreadable": "the texts have characters in them that nobody can read: look at the drops' "
    "details and at how the traces were encoded",
    "unsupported": "the answers do not follow from the reasoning: check that each trace has its "
    "own answer, or set supported: false in the filter's step `quality`",
    **dict.fromkeys(
        ("other_language", "mixed_language"),
        "the teacher answers in another language: say the problems' language, ask for it in "
        "generate.system_prompt, or allow others in the filter's step `language`",
    ),
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
    advice = _ADVICE.get(most, "a pattern of your own in the filter's step `refusal` matches")
    return f"none of {total:,} traces is kept: {said}. For {most}: {advice}"


def references_without_answer(doubts: Iterable[Doubt]) -> str | None:
    """A line on the problems whose reference only says that there is none, such as `notfound`: how
    many they are, and which references, the most frequent first. None where there are none.
    """
    said = [one.detail for one in doubts if one.detail.startswith(NO_ANSWER)]
    if not said:
        return None
    counts = Counter(detail.removeprefix(NO_ANSWER) for detail in said).most_common()
    which = ", ".join(f"{count:,} {text}" for text, count in counts[:_SHOWN])
    rest = f" and {len(counts) - _SHOWN:,} others" if len(counts) > _SHOWN else ""
    return (
        f"{len(said):,} problems have a reference that holds no answer, and no rule can judge what "
        f"is answered to them: {which}{rest}"
    )
