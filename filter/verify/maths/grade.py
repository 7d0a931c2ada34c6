"""The grader: extract, normalise, compare exactly, guard, and only then ask math-verify."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from filter.boxes import boxed_answer, boxes, percent_after_box
from filter.extract import after_reasoning, final_answer
from filter.statements import explicitly_stated, said_to_be
from filter.verify.grading import Grade, Grader, Pair, Question, grade_with_workers
from filter.verify.maths.compare import same
from filter.verify.maths.forms import Form, Group, Scalar, Words
from filter.verify.maths.guard import too_dear
from filter.verify.maths.names import is_spelt, is_text
from filter.verify.maths.normalise import clean, is_placeholder, squeeze
from filter.verify.maths.read_forms import is_list_of_triples, read, read_decimal_comma
from filter.verify.maths.units import LETTER, LETTERS, is_listed, read_unit
from filter.verify.pool import shared_pool
from tracestill.records import Problem

MEMORY = 900 * 2**20  # address space of a process that runs math-verify
_MAX_ANSWER = 20_000  # characters of an answer that are read; a longer one is no answer
_FORMULAS = re.compile(r"(?<!\\)\$([^$]+)\$")
_COMMAND_OR_FUNCTION = re.compile(
    r"\\[A-Za-z]+(?:\{[a-z]*matrix\})?|(?:a|ar|arc)?(?:sinh?|cosh?|tanh?|cot|sec|csc)|sqrt|floor|ceil"
)
_PROSE = re.compile(r"[A-Za-z]{4,}")
NO_ANSWER = "the reference holds no answer: "
_JSON_TEXT = re.compile(r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'""")
_JSON_LIST = re.compile(rf"\[\s*(?:{_JSON_TEXT.pattern})(?:\s*,\s*(?:{_JSON_TEXT.pattern}))*\s*\]")
_LABELLED = re.compile(
    r"(?:\(([A-J])\)|([A-J])[.)](?= )) ?(?=\S)(?!.*[A-J]\))([^A-J].*|[A-J][^.):].*)"
)
_FENCED = re.compile(r"```\w*\n([^\n`]{1,200})\n```")
_WORD_NEXT = re.compile(rf"\s?({LETTER}{LETTERS}*)")
_DOUBLED = re.compile(r"\\\\[A-Za-z]")
_SINGLE = re.compile(r"(?<!\\)\\(?!\\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A reference: all of it, the answer in it, and that answer's spellings and form; the label of
    an option before it, and the answers within its words.
    """

    whole: str
    text: str
    cleaned: str
    squeezed: str
    triples: bool
    is_word: bool
    is_placeholder: bool
    form: Form
    label: str | None
    inner: tuple[Form, ...]


def maths(seconds: float = 5.0) -> Grader:
    r"""A grader of mathematical answers against `Problem.reference`.

    Takes the answer's last `\boxed{…}` after its last `</think>`, else the last answer stated in
    words; the reference's likewise, else all of it. Values are compared exactly, without
    tolerance: see `filter.verify.maths.compare`. What that can't tell is for math-verify
    (https://github.com/huggingface/Math-Verify), in processes of their own and within `seconds`:
    `error` where it takes longer, raises, or would cost too much to be asked.
    """
    return lambda problem, answer: maths_many([(problem, answer)], seconds=seconds)[0]


def maths_many(
    pairs: Iterable[Pair], *, seconds: float = 5.0, workers: int | None = None
) -> list[Grade]:
    """Grade many answers as `maths` does, in order; what needs math-verify goes to `workers`
    processes (None: one a core) in batches. A row that fails has the outcome `error`.

    Raises:
        RuntimeError: the processes can't be started.

    """
    pool = shared_pool(
        "filter.verify.maths:open_comparer", seconds=seconds, workers=workers, memory=MEMORY
    )
    return grade_with_workers(pairs, _decide, pool.map)


def _decide(problem: Problem, answer: str | None) -> Grade | Question:
    """A grade without math-verify, or what to ask it."""
    reference = problem.reference
    gold = _gold(reference)
    if gold.is_placeholder:
        return Grade(outcome="unverifiable", detail=f"{NO_ANSWER}{reference!r}")
    if not answer:
        return Grade(outcome="incorrect", detail="no answer found")
    if "`" in answer:  # one character is found in a hundredth of the time of three
        answer = _FENCED.sub(r"\1", answer)
    extracted = final_answer(answer)
    found = _compare(gold, answer, extracted)
    if isinstance(found, Question) or found.outcome == "correct" or not extracted:
        return found
    if isinstance(gold.form, Group) and gold.form.opens in ("", "{"):
        # Each answer of a list may have its own box.
        contents = list(dict.fromkeys(boxes(after_reasoning(answer))))[-len(gold.form.items) :]
        if len(contents) > 1 and same(gold.form, read(clean(", ".join(contents)))):
            return Grade(outcome="correct", extracted=", ".join(contents), detail="equal")
    # A percent sign may stand in the box, after it, or be left to the question.
    references, answers = [reference], [extracted]
    if percent_after_box(reference):
        references.append(f"{boxed_answer(reference)}\\%")
    if percent_after_box(after_reasoning(answer)):
        answers.append(f"{extracted}\\%")
    for one, other in list(product(references, answers))[1:]:  # the first is what was compared
        if same(_gold(one).form, _read(_clean(other))):
            return Grade(outcome="correct", extracted=other, detail="equal")
    return found


def _compare(gold: Gold, answer: str, extracted: str | None) -> Grade | Question:
    if not extracted:
        return _whole(gold, answer, extracted)
    if extracted in (gold.text, gold.whole):
        return Grade(outcome="correct", extracted=extracted, detail="same text")
    if len(extracted) > _MAX_ANSWER + len(gold.whole):
        return Grade(
            outcome="incorrect",
            extracted=extracted[:_MAX_ANSWER],
            detail=f"the answer is longer than {_MAX_ANSWER} characters",
        )
    cleaned = _clean(_listed(extracted))
    if cleaned == gold.cleaned or squeeze(cleaned) == gold.squeezed:
        return Grade(outcome="correct", extracted=extracted, detail="same text")
    verdict = _verdict(gold, extracted, cleaned)
    if verdict and _goes_on_otherwise(gold, answer, extracted):
        return Grade(outcome="incorrect", extracted=extracted, detail="another unit")
    if verdict or _same_with_comma(gold, cleaned):
        return Grade(outcome="correct", extracted=extracted, detail="equal")
    whole = _whole(gold, answer, extracted)
    if whole.outcome == "correct":
        return whole
    if verdict is False:
        return Grade(outcome="incorrect", extracted=extracted, detail="not equal")
    if isinstance(gold.form, Scalar) and _PROSE.search(_COMMAND_OR_FUNCTION.sub("", cleaned)):
        return Grade(outcome="incorrect", extracted=extracted, detail="prose, no value")
    dear = too_dear(gold.cleaned)
    if dear is not None:
        detail = f"the reference is too costly to evaluate: {dear}"
        return Grade(outcome="unverifiable", extracted=extracted, detail=detail)
    dear = too_dear(cleaned)
    if dear is not None:
        detail = f"the answer is too costly to evaluate: {dear}"
        return Grade(outcome="error", extracted=extracted, detail=detail)
    return Question(extracted=extracted, arguments=(gold.cleaned, cleaned))


def _verdict(gold: Gold, extracted: str, cleaned: str) -> bool | None:
    """Whether the answer's form is the reference's; None where the forms can't tell."""
    is_word = gold.is_word or is_text(extracted)
    form = gold.form if is_word == gold.is_word else _read(gold.cleaned, is_word=True)
    verdict = same(form, _read(cleaned, triples_are_lists=gold.triples, is_word=is_word))
    if verdict:
        return True
    label, within = _within(cleaned)
    if label and gold.label:
        return label == gold.label and any(same(f, _read(t)) for f in gold.inner for t in within)
    forms = [_read(_clean(text), triples_are_lists=gold.triples) for text in within]
    if label:
        forms.append(Words(label))
    if any(same(gold.form, one) for one in forms):
        return True
    own = _read(cleaned) if gold.inner or gold.label else None
    if any(same(one, other) for one in gold.inner for other in (own, *forms)):
        return True
    return True if gold.label and same(Words(gold.label), own) else verdict


def _goes_on_otherwise(gold: Gold, answer: str, extracted: str) -> bool:
    """Whether another unit than the reference's stands behind the number: of "180 hours" for 180
    days the number alone was found.
    """
    if not (isinstance(gold.form, Scalar) and gold.form.unit):
        return False
    place = answer.rfind(extracted)
    word = _WORD_NEXT.match(answer, place + len(extracted)) if place >= 0 else None
    unit = read_unit(word[1]) if word else None
    if unit is None or not is_listed(unit) or not unit.sure:
        return False
    return same(gold.form, Scalar(gold.form.value, unit)) is False


def _within(cleaned: str) -> tuple[str | None, list[str]]:
    r"""The option's label that an answer begins with, as `\textbf{(B) } 58` does, and the answers
    that stand within its words: "there are 7 ways".
    """
    labelled = _LABELLED.fullmatch(cleaned)
    if labelled:
        return labelled[1] or labelled[2], [labelled[3]]
    if cleaned.isascii() and not _PROSE.search(cleaned):
        return None, []
    found = (explicitly_stated(cleaned), said_to_be(cleaned))
    return None, [text for text in found if text and text != cleaned]


def _listed(text: str) -> str:
    """`["2", "5"]`, a list as JSON or Python shows it, as `2, 5`; any other text as it is."""
    if not _JSON_LIST.fullmatch(text):
        return text
    # Read without a JSON parser, to which `\\f` of an unescaped `\\frac` is a form feed.
    items = [match[1] or match[2] or "" for match in _JSON_TEXT.finditer(text)]
    return ", ".join(items).replace("\\\\", "\\")


def _same_with_comma(gold: Gold, cleaned: str) -> bool:
    """Whether the one is a decimal with a comma, as many languages write it, and the other the
    same with a point.
    """
    if "," in gold.cleaned and "," not in cleaned and "." in cleaned:
        return bool(same(read_decimal_comma(gold.cleaned), read(cleaned)))
    if "," in cleaned and "," not in gold.cleaned and "." in gold.cleaned:
        return bool(same(gold.form, read_decimal_comma(cleaned)))
    return False


# Many answers to a problem are the same one.
_clean = lru_cache(maxsize=4096)(clean)
_read = lru_cache(maxsize=4096)(read)


def _whole(gold: Gold, answer: str, extracted: str | None) -> Grade:
    """Correct where all of the answer is the reference, word by word."""
    said = after_reasoning(answer).strip()
    if said and len(said) < _MAX_ANSWER + len(gold.whole) and said in (gold.text, gold.whole):
        return Grade(outcome="correct", extracted=said, detail="same text")
    return Grade(outcome="incorrect", extracted=extracted, detail="no answer found")


@lru_cache(maxsize=4096)
def _gold(reference: str) -> Gold:
    whole = _listed(reference.strip())
    if _DOUBLED.search(whole) and not _SINGLE.search(whole):
        whole = whole.replace("\\\\", "\\")  # escaped once too often on its way here
    boxed = boxed_answer(whole)
    if not boxed and whole.startswith("\\boxed{"):  # a reference that was cut
        whole = whole.removeprefix("\\boxed{")
    text = boxed or explicitly_stated(whole) or whole
    formulas = _FORMULAS.findall(text)
    if formulas and _PROSE.search(_FORMULAS.sub("", text)):
        text = formulas[0] if len(formulas) == 1 else ", ".join(formulas)
    cleaned = clean(text)
    triples = is_list_of_triples(cleaned)
    is_word = is_text(text) or is_spelt(cleaned)
    label, within = _within(cleaned)
    return Gold(
        whole=whole,
        text=text,
        cleaned=cleaned,
        squeezed=squeeze(cleaned),
        triples=triples,
        is_word=is_word,
        is_placeholder=is_placeholder(cleaned),
        form=read(cleaned, triples_are_lists=triples, is_word=is_word),
        label=label,
        inner=tuple(read(clean(text)) for text in within),
    )
