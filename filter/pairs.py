"""Preference pairs: two traces of one problem, of which a student should prefer one.

A rule says which traces may be chosen and which rejected. The choice among them goes by hashes of
the traces' identities, so that neither the order of the traces nor of the rules' candidates is part
of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tracestill.records import Finish, Outcome, digest

Rule = Literal["correct_over_incorrect", "correct_over_truncated", "shorter_over_longer"]
RULES: tuple[Rule, ...] = get_args(Rule)

_SHORTER = 2.0  # how many times the length of the chosen trace a longer one has at least
# Drops that say a trace is no sound text, or not to be seen in training.
_UNFIT = frozenset({"error", "truncated", "malformed", "empty", "contaminated"})
_LACKS: dict[Rule, str] = {
    "correct_over_incorrect": "no incorrect trace that is well-formed",
    "correct_over_truncated": "no truncated trace",
    "shorter_over_longer": "no correct trace at least twice as long as a kept one",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of a trace without its texts. `outcome` is None where it was not judged,
    `dropped` is the reason for which the filter dropped it, None where it was kept.
    """

    id: str
    problem_id: str
    finish: Finish
    tokens: int
    outcome: Outcome | None
    dropped: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two traces of a problem."""

    problem_id: str
    rule: Rule
    chosen: Candidate
    rejected: Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The pairs, by problem. `problems` is how many problems have traces; `lacking` counts those
    that gave no pair by why, the most frequent first.
    """

    pairs: list[Pair]
    problems: int
    lacking: dict[str, int]


def read_rules(names: Sequence[str]) -> list[Rule]:
    """The rules with these names, each once, in order.

    Raises:
        ValueError: there is no rule with such a name.

    """
    found: list[Rule] = [rule for name in dict.fromkeys(names) for rule in RULES if rule == name]
    if len(found) < len(set(names)):
        wrong = next(name for name in names if name not in RULES)
        raise ValueError(f"--rule {wrong}: the rules are {', '.join(RULES)}")
    return found


def choose_pairs(
    candidates: Iterable[Candidate],
    rules: Sequence[Rule] = RULES[:1],
    per_problem: int = 1,
    max_ratio: float | None = None,
) -> Chosen:
    """Choose at most `per_problem` pairs of each problem, by the first rule as far as it gives
    them, then by the next. The chosen trace is a kept one that was judged correct; no trace is in
    two pairs. `max_ratio` bounds how many times longer (in completion tokens) one trace of a pair
    may be than the other.

    Raises:
        ValueError: `max_ratio` leaves no room for a rule.

    """
    if max_ratio is not None and "shorter_over_longer" in rules and max_ratio < _SHORTER:
        raise ValueError(
            f"--max-ratio {max_ratio:g} forbids every pair of shorter_over_longer, whose rejected "
            f"trace is at least {_SHORTER:g} times as long: raise it to more than {_SHORTER:g}"
        )
    problems: dict[str, list[Candidate]] = {}
    for one in candidates:
        problems.setdefault(one.problem_id, []).append(one)
    pairs: list[Pair] = []
    lacking: Counter[str] = Counter()
    for problem in sorted(problems):
        own = sorted(problems[problem], key=lambda one: digest("pair", one.id))
        found: list[Pair] = []
        for rule in rules:
            used = {id_ for pair in found for id_ in (pair.chosen.id, pair.rejected.id)}
            for pair in _of_rule(own, rule, max_ratio, used):
                if len(found) == per_problem:
                    break
                found.append(pair)
        pairs += found
        if not found:
            lacking[_why(own, rules)] += 1
    return Chosen(pairs=pairs, problems=len(problems), lacking=dict(lacking.most_common()))


def _of_rule(
    traces: Sequence[Candidate], rule: Rule, max_ratio: float | None, used: set[str]
) -> Iterator[Pair]:
    """The pairs that a rule gives, without those whose traces are used."""
    used = set(used)
    for chosen in filter(_good, traces):
        if chosen.id in used:
            continue
        for rejected in traces:
            if (
                rejected.id not in used
                and rejected.id != chosen.id
                and _fits(rule, chosen, rejected)
                and (max_ratio is None or _ratio(chosen, rejected) <= max_ratio)
            ):
                used |= {chosen.id, rejected.id}
                yield Pair(
                    problem_id=chosen.problem_id, rule=rule, chosen=chosen, rejected=rejected
                )
                break


def _good(one: Candidate) -> bool:
    return one.dropped is None and one.outcome == "correct"


def _sound(one: Candidate) -> bool:
    return one.finish == "stop" and one.dropped not in _UNFIT


def _fits(rule: Rule, chosen: Candidate, rejected: Candidate) -> bool:
    """Whether a rule lets a trace be rejected for a good one."""
    if rule == "correct_over_incorrect":
        return rejected.outcome == "incorrect" and _sound(rejected)
    if rule == "correct_over_truncated":
        return rejected.finish == "length" and rejected.dropped != "contaminated"
    longer = rejected.tokens >= _SHORTER * chosen.tokens
    return rejected.outcome == "correct" and _sound(rejected) and longer


def _ratio(one: Candidate, other: Candidate) -> float:
    short, long = sorted((one.tokens, other.tokens))
    return long / max(1, short)


def _why(traces: Sequence[Candidate], rules: Sequence[Rule]) -> str:
    """Why a problem's traces gave no pair."""
    good = [one for one in traces if _good(one)]
    if not good:
        correct = any(one.outcome == "correct" for one in traces)
        return "no correct trace that was kept" if correct else "no correct trace"
    fitting = any(_fits(rule, one, other) for rule in rules for one in good for other in traces)
    return "only pairs beyond --max-ratio" if fitting else " and ".join(_LACKS[r] for r in rules)
