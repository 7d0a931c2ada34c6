"""The verifier: extract, normalise, compare exactly, guard, and only then ask math-verify."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from filter.extract import (
    after_reasoning,
    boxed_answer,
    explicitly_stated,
    final_answer,
    percent_after_box,
)
from filter.verify.judgement import Judgement, Verifier, failed
from filter.verify.maths.compare import same
from filter.verify.maths.forms import Form, Scalar
from filter.verify.maths.guard import too_dear
from filter.verify.maths.normalise import clean, squeeze
from filter.verify.maths.read_forms import is_list_of_triples, read, read_decimal_comma
from filter.verify.pools import shared_pool
from filter.verify.worker import Pool, WorkerError
from tracestill.records import Problem

MEMORY = 900 * 2**20  # address space of a process that runs math-verify
_MAX_ANSWER = 20_000  # characters of an answer that are read; a longer one is no answer
_FORMULAS = re.compile(r"(?<!\\)\$([^$]+)\$")
_COMMAND_OR_FUNCTION = re.compile(
    r"\\[A-Za-z]+(?:\{[a-z]*matrix\})?|(?:a|ar|arc)?(?:sinh?|cosh?|tanh?|cot|sec|csc)|sqrt|floor|ceil"
)
_PROSE = re.compile(r"[A-Za-z]{4,}")
_DOUBLED = re.compile(r"\\\\[A-Za-z]")
_SINGLE = re.compile(r"(?<!\\)\\(?!\\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A reference: all of it, the answer in it, and that answer's spellings and form."""

    whole: str
    text: str
    cleaned: str
    squeezed: str
    triples: bool
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What is left for math-verify: the reference and the answer, both cleaned."""

    extracted: str
    question: tuple[str, str]


def maths(seconds: float = 5.0) -> Verifier:
    r"""A verifier of mathematical answers against `Problem.reference`.

    Takes the answer's last `\boxed{…}` after its last `</think>`, else the last answer stated in
    words; the reference's likewise, else all of it. Values are compared exactly, without
    tolerance: see `filter.verify.maths.compare`. What that can't tell is for math-verify
    (https://github.com/huggingface/Math-Verify), in processes of their own and within `seconds`:
    `error` where it takes longer, raises, or would cost too much to be asked.
    """

    def judge(problem: Problem, answer: str | None) -> Judgement:
        found = _decide(problem.reference, answer)
        if isinstance(found, Judgement):
            return found
        try:
            value = _pool(seconds, None).call(*found.question)
        except WorkerError as error:
            value = error
        return _judgement(found, value)

    return judge


def maths_many(
    pairs: Iterable[tuple[Problem, str | None]], *, seconds: float = 5.0, workers: int | None = None
) -> list[Judgement]:
    """Judge many answers as `maths` does, in order; what needs math-verify goes to `workers`
    processes (None: one a core) in batches. What fails on a row is told in that row.

    Raises:
        RuntimeError: the processes can't be started.

    """
    found = [_decide_or_tell(problem, answer) for problem, answer in pairs]
    rest = [item for item in found if isinstance(item, _Open)]
    values = iter(_pool(seconds, workers).map(item.question for item in rest) if rest else ())
    judgements: list[Judgement] = []
    for item in found:
        if isinstance(item, Judgement):
            judgements.append(item)
            continue
        value = next(values)
        judgements.append(_judgement(item, value))
    return judgements


def _judgement(asked: _Open, value: Any) -> Judgement:
    if isinstance(value, WorkerError):
        return Judgement(outcome="error", extracted=asked.extracted, detail=str(value))
    outcome, detail = value
    return Judgement(outcome=outcome, extracted=asked.extracted, detail=detail)


def _pool(seconds: float, workers: int | None) -> Pool:
    opener = "filter.verify.maths:open_comparer"
    return shared_pool(opener, seconds=seconds, workers=workers, memory=MEMORY)


def _decide_or_tell(problem: Problem, answer: str | None) -> Judgement | _Open:
    try:
        return _decide(problem.reference, answer)
    except Exception as error:  # of this row: judged with others, it must cost them nothing
        return failed(error)


def _decide(reference: str, answer: str | None) -> Judgement | _Open:
    """A judgement without math-verify, or what to ask it."""
    if not answer:
        return Judgement(outcome="incorrect", detail="no answer found")
    extracted = final_answer(answer)
    found = _compare(_gold(reference), answer, extracted)
    if isinstance(found, _Open) or found.outcome == "correct" or not extracted:
        return found
    # A percent sign may stand in the box, after it, or be left to the question.
    references = [reference]
    if percent_after_box(reference):
        references.append(f"{boxed_answer(reference)}\\%")
    answers = [extracted]
    if percent_after_box(after_reasoning(answer)):
        answers.append(f"{extracted}\\%")
    for one in references:
        for other in answers:
            if same(_gold(one).form, read(clean(other))):
                return Judgement(outcome="correct", extracted=other, detail="equal")
    return found


def _compare(gold: Gold, answer: str, extracted: str | None) -> Judgement | _Open:
    if not extracted:
        return _whole(gold, answer, extracted)
    if extracted in (gold.text, gold.whole):
        return Judgement(outcome="correct", extracted=extracted, detail="same text")
    if len(extracted) > _MAX_ANSWER + len(gold.whole):
        return Judgement(
            outcome="incorrect",
            extracted=extracted[:_MAX_ANSWER],
            detail=f"the answer is longer than {_MAX_ANSWER} characters",
        )
    cleaned = clean(extracted)
    if cleaned == gold.cleaned or squeeze(cleaned) == gold.squeezed:
        return Judgement(outcome="correct", extracted=extracted, detail="same text")
    verdict = same(gold.form, read(cleaned, triples_are_lists=gold.triples))
    if verdict or _same_with_comma(gold, cleaned):
        return Judgement(outcome="correct", extracted=extracted, detail="equal")
    whole = _whole(gold, answer, extracted)
    if whole.outcome == "correct":
        return whole
    if verdict is False:
        return Judgement(outcome="incorrect", extracted=extracted, detail="not equal")
    if isinstance(gold.form, Scalar) and _PROSE.search(_COMMAND_OR_FUNCTION.sub("", cleaned)):
        return Judgement(outcome="incorrect", extracted=extracted, detail="prose, no value")
    dear = too_dear(gold.cleaned)
    if dear is not None:
        detail = f"the reference is too costly to evaluate: {dear}"
        return Judgement(outcome="unverifiable", extracted=extracted, detail=detail)
    dear = too_dear(cleaned)
    if dear is not None:
        detail = f"the answer is too costly to evaluate: {dear}"
        return Judgement(outcome="error", extracted=extracted, detail=detail)
    return _Open(extracted=extracted, question=(gold.cleaned, cleaned))


def _same_with_comma(gold: Gold, cleaned: str) -> bool:
    """Whether the one is a decimal with a comma, as many languages write it, and the other the
    same with a point.
    """
    if "," in gold.cleaned and "," not in cleaned and "." in cleaned:
        return bool(same(read_decimal_comma(gold.cleaned), read(cleaned)))
    if "," in cleaned and "," not in gold.cleaned and "." in gold.cleaned:
        return bool(same(gold.form, read_decimal_comma(cleaned)))
    return False


def _whole(gold: Gold, answer: str, extracted: str | None) -> Judgement:
    """Correct where all of the answer is the reference, word by word."""
    said = after_reasoning(answer).strip()
    if said and len(said) < _MAX_ANSWER + len(gold.whole) and said in (gold.text, gold.whole):
        return Judgement(outcome="correct", extracted=said, detail="same text")
    return Judgement(outcome="incorrect", extracted=extracted, detail="no answer found")


@lru_cache(maxsize=4096)
def _gold(reference: str) -> Gold:
    whole = reference.strip()
    if _DOUBLED.search(whole) and not _SINGLE.search(whole):
        whole = whole.replace("\\\\", "\\")  # escaped once too often on its way here
    boxed = boxed_answer(whole)
    if boxed is None and whole.startswith("\\boxed{"):  # a reference that was cut
        whole = whole.removeprefix("\\boxed{")
    text = (explicitly_stated(whole) or whole) if boxed is None else boxed
    formulas = _FORMULAS.findall(text)
    if formulas and _PROSE.search(_FORMULAS.sub("", text)):
        text = formulas[0] if len(formulas) == 1 else ", ".join(formulas)
    cleaned = clean(text)
    triples = is_list_of_triples(cleaned)
    return Gold(
        whole=whole,
        text=text,
        cleaned=cleaned,
        squeezed=squeeze(cleaned),
        triples=triples,
        form=read(cleaned, triples_are_lists=triples),
    )
