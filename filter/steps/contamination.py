"""Drop traces of problems that a held-out problem gives away.

A shared run of n words (13, as in GPT-3's and most later decontaminations: Brown et al. 2020,
appendix C) is not enough where prompts are made from a template: all problems of a generator
share a long instruction. So a run counts only by the words in it that are the problem's own:

- *Boilerplate* is a short run (5 words) that occurs in many problems of one source, trained on
  and held out counted together: in more than 3 and more than 1% of them; for a generator's
  problems (kind `reasoning_gym`) in more than one, since two of them share nothing but template
  unless they are the same problem.
- A held-out problem's words that no boilerplate covers are its own. A run of n words counts
  where at least n - 5 of them are its own, so that one common phrase does not hide a copy.
  (Where n is below 13, 5 shrinks with it: two fifths of n.)

Whatever the boilerplate, a problem is contaminated that has a held-out one's identity, all of
its words, or all of them as a part (of held-out prompts shorter than n words only the first two).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from filter.benchmarks import Finder, described
from filter.steps.step import RowStep, whole_text
from filter.words import Gram, grams, prompt_words
from tracestill.records import AnyTrace, Drop, Problem

_SHARE = 0.01
_FEW = 3
_SHORT_RUN = 5
_RUNS = 2  # of an item, that a trace must hold
_SHOWN = 200  # characters of matching text in a drop's detail


def contamination(found: Mapping[str, str], benchmarks: Finder | None = None) -> RowStep:
    """Drop traces of contaminated problems: `contaminated`. `found` are those problems by id, each
    with what gives it away (`contaminated_problems`). So are traces that hold two runs of words of
    an item of `benchmarks`; one may be chance in a long text.
    """

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        rows = list(traces)
        details = [found.get(trace.problem_id) for trace in rows]
        if benchmarks is not None:
            texts = [whole_text(trace) for trace in rows]
            held = benchmarks.matches([trace.id for trace in rows], texts, least=_RUNS)
            shown = [None if match is None else described(match) for match in held]
            details = [one or other for one, other in zip(details, shown, strict=True)]
        for trace, detail in zip(rows, details, strict=True):
            if detail is not None:
                yield Drop(
                    trace_id=trace.id, step="contamination", reason="contaminated", detail=detail
                )

    return step


def contaminated_problems(
    problems: Iterable[Problem], heldout: Sequence[Problem], ngram: int
) -> dict[str, str]:
    """The contaminated ones of `problems` by id, each with what gives it away. They are all that
    are trained on: what is boilerplate depends on all of them.
    """
    problems = list(problems)
    check = find_contamination(problems, heldout, ngram)
    found = ((problem.id, check(problem)) for problem in problems)
    return {problem: detail for problem, detail in found if detail is not None}


def find_contamination(
    problems: Iterable[Problem], heldout: Sequence[Problem], ngram: int
) -> Callable[[Problem], str | None]:
    """A check of one of `problems`: None, or the held-out problem's id and the matching text."""
    words = [prompt_words(problem.prompt) for problem in heldout]
    ids = {problem.id for problem in heldout}
    whole: dict[str, str] = {}
    for held, own in zip(heldout, words, strict=True):
        whole.setdefault(" ".join(own), held.id)
    short = max(1, min(_SHORT_RUN, 2 * ngram // 5))
    runs = _runs(words, ngram, short, _boilerplate(problems, heldout, words, short))
    anchors = _anchors(words, ngram)
    watched = runs.keys() | anchors.keys()

    def check(problem: Problem) -> str | None:
        if problem.id in ids:
            return f"is held-out problem {problem.id}: {_show(problem.prompt)}"
        mine = prompt_words(problem.prompt)
        text = " ".join(mine)
        if text in whole:
            return f"same prompt as held-out problem {whole[text]}: {_show(text)}"
        if watched.isdisjoint(grams(mine, ngram)):
            return None
        for gram in grams(mine, ngram):
            if gram in runs:
                held = heldout[runs[gram]]
                return f"shares words with held-out problem {held.id}: {_show(' '.join(gram))}"
            for number in anchors.get(gram, ()):
                part = " ".join(words[number])
                if f" {part} " in f" {text} ":
                    return f"contains held-out problem {heldout[number].id}: {_show(part)}"
        return None

    return check


def _boilerplate(
    problems: Iterable[Problem],
    heldout: Sequence[Problem],
    words: Sequence[Sequence[str]],
    short: int,
) -> set[Gram]:
    """The runs of `short` words in held-out prompts that are boilerplate in some source."""
    watched = frozenset(gram for own in words for gram in grams(own, short))
    counts: dict[tuple[str, str], Counter[Gram]] = {}
    prompts: dict[tuple[str, str], set[str]] = {}
    train = ((problem, prompt_words(problem.prompt)) for problem in problems)
    for problem, own in itertools.chain(train, zip(heldout, words, strict=True)):
        group, text = (problem.source, problem.kind), " ".join(own)
        if text not in prompts.setdefault(group, set()):
            prompts[group].add(text)
            counts.setdefault(group, Counter()).update(watched.intersection(grams(own, short)))
    common: set[Gram] = set()
    for group, counter in counts.items():
        generated = group[1] == "reasoning_gym"
        few = 1 if generated else max(_FEW, _SHARE * len(prompts[group]))
        common.update(gram for gram, count in counter.items() if count > few)
    return common


def _runs(
    words: Sequence[Sequence[str]], ngram: int, short: int, boilerplate: Collection[Gram]
) -> dict[Gram, int]:
    """The runs of `ngram` words that give a held-out problem away, each with its number."""
    runs: dict[Gram, int] = {}
    for number, mine in enumerate(words):
        own = [True] * len(mine)
        for begin, gram in enumerate(grams(mine, short)):
            if gram in boilerplate:
                own[begin : begin + short] = [False] * short
        for begin, gram in enumerate(grams(mine, ngram)):
            if sum(own[begin : begin + ngram]) >= ngram - short:
                runs.setdefault(gram, number)
    return runs


def _anchors(words: Sequence[Sequence[str]], ngram: int) -> dict[Gram, list[int]]:
    """For each held-out prompt its rarest run, by which a prompt that contains it is found."""
    counts = Counter(gram for own in words for gram in grams(own, ngram))
    anchors: dict[Gram, list[int]] = {}
    for number, own in enumerate(words):
        if len(own) >= ngram:
            rarest = min(grams(own, ngram), key=counts.__getitem__)
            anchors.setdefault(rarest, []).append(number)
    return anchors


def _show(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
