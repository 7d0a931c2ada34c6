"""Answers that must follow instructions a program can check (Zhou et al. 2023, "Instruction-
Following Evaluation for Large Language Models"), by the benchmark's own checkers as the library
if-verifiable has them.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from filter.verify.grading import Grade, Grader, Pair, failed
from tracestill.records import Problem, Verdict

LIBRARY = "if-verifiable"
# These two split a text with NLTK's tokenizer of sentences, whose data is no part of NLTK.
_NEED_PUNKT = frozenset(
    {"length_constraints:number_sentences", "change_case:capital_word_frequency"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instructions:
    """What a problem's reference holds: the ids of its instructions, and each one's arguments."""

    ids: list[str]
    arguments: list[dict[str, Any]]


def check_ifeval(problems: Iterable[Problem]) -> None:
    """Check that answers to these problems can be judged here; those of other kinds are no matter.

    Raises:
        ValueError: the library, or the data that it needs for them, is not installed.

    """
    ours = [problem for problem in problems if problem.kind == "ifeval"]
    if ours:
        _checkers()
    if any(_NEED_PUNKT & _ids(problem) for problem in ours) and not _has_punkt():
        raise ValueError(
            "IFEval counts sentences by NLTK's tokenizer, whose data is not here: `python -m "
            "nltk.downloader punkt_tab` fetches it once (NLTK_DATA names another folder for it)"
        )


def ifeval() -> Grader:
    """A grader of answers to problems whose reference is a JSON object with `instruction_id_list`
    and, for each of its ids, the arguments in `kwargs`. An answer is correct where it follows every
    instruction as it stands (the paper's strict accuracy, by prompt); `extracted` says how many it
    follows, which `followed` reads.

    Raises:
        ValueError: the library is not installed.

    """
    checkers, evaluate = _checkers()

    def grade(problem: Problem, answer: str | None) -> Grade:
        try:
            said = _read(problem.reference)
        except ValueError as error:
            return Grade(outcome="unverifiable", detail=str(error))
        if unknown := [one for one in said.ids if one not in checkers]:
            return Grade(outcome="unverifiable", detail=f"no checker knows {unknown[0]!r}")
        total = len(said.ids)
        if answer is None or not answer.strip():
            return Grade(outcome="incorrect", extracted=f"0 of {total}", detail="no answer")
        results, _ = evaluate(answer, said.ids, said.arguments, problem.prompt, checkers)
        broken = [one.instruction_id for one in results if not one.strict_pass]
        return Grade(
            outcome="incorrect" if broken else "correct",
            extracted=f"{total - len(broken)} of {total}",
            detail=f"does not follow {', '.join(broken)}" if broken else "follows all",
        )

    return grade


def ifeval_many(pairs: Iterable[Pair]) -> list[Grade]:
    """Grades of many answers, in order.

    Raises:
        ValueError: the library, or the data that it needs for them, is not installed.

    """
    pairs = list(pairs)
    check_ifeval(problem for problem, _ in pairs)
    grade = ifeval()
    grades = []
    for pair in pairs:
        begin = time.perf_counter()
        try:
            found = grade(*pair)
        except Exception as error:  # of this row: graded with others, it must cost them nothing
            found = failed(error)
        grades.append(replace(found, seconds=time.perf_counter() - begin))
    return grades


def followed(verdicts: Iterable[Verdict]) -> tuple[int, int] | None:
    """How many instructions answers follow, of how many, by their verdicts; None where none was
    judged by this verifier.
    """
    counts = [
        tuple(map(int, one.extracted.split(" of ")))
        for one in verdicts
        if one.verifier.startswith("ifeval/") and one.extracted is not None
    ]
    return (sum(good for good, _ in counts), sum(all_ for _, all_ in counts)) if counts else None


def _read(reference: str) -> _Instructions:
    try:
        said = json.loads(reference)
        ids, arguments = said["instruction_id_list"], said["kwargs"]
        one_each = len(ids) == len(arguments) > 0
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the reference has no instruction_id_list and kwargs") from error
    if not one_each:
        raise ValueError("the reference has not one of kwargs for each instruction")
    return _Instructions(ids=ids, arguments=[one or {} for one in arguments])


def _ids(problem: Problem) -> frozenset[str]:
    try:
        return frozenset(_read(problem.reference).ids)
    except ValueError:
        return frozenset()


@functools.cache
def _checkers() -> tuple[Mapping[str, Any], Callable[..., Any]]:
    try:
        import langdetect
        from if_verifiable.common import evaluate_instructions
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    except ImportError as error:
        raise ValueError(
            f"problems of kind ifeval are judged by {LIBRARY}: pip install 'tracestill[ifeval]'"
        ) from error
    langdetect.DetectorFactory.seed = 0  # else it draws, and judges a text now so, now otherwise
    return INSTRUCTION_DICT, evaluate_instructions


def _has_punkt() -> bool:
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError:
        return False
    return True
