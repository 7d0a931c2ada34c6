"""The families of `verify_variations.py` for multiple choice: right and wrong answers by label and
by text to options of many kinds. What is right or wrong is so by construction, not by a judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import yaml
from verify_families import Case, Source

from tracestill.records import Outcome

_PHRASES = Path(__file__).parent.parent / "filter" / "phrases.yaml"
_THINGS = (
    "Paris", "Rome", "Ankara", "New Delhi", "copper", "zinc", "sodium chloride", "a mammal",
    "a reptile", "the liver", "the left atrium", "an acid", "a base", "photosynthesis", "osmosis",
    "Mercury", "the Moon", "Isaac Newton", "Marie Curie", "a decrease in price", "higher demand",
    "the Supreme Court", "oral tradition", "granite", "sedimentary rock", "in 1945", "since 1789",
    "seven days", "twice a year", "red and blue", "green", "It stays the same.", "It doubles.",
    "West Africa", "North America", "a noun", "an adverb", "iambic pentameter", "the cell wall",
    "mitochondria", "inertia", "gravity", "5 kg", "12 m/s", "a violin", "two trumpets",
)  # fmt: skip
_LIKE_LABELS = (
    "Both A and B", "A and C", "Neither A nor B", "A only", "B only", "C or D", "AB", "BC", "ABC",
    "I only", "I and II", "II and III only", "All of the above", "None of the above", "vitamin A",
    "B vitamins", "type O", "a B cell", "Group D", "C major", "A, B and C", "class A drugs",
)  # fmt: skip
_BY_LABEL = (
    "\\boxed{{{x}}}", "\\boxed{{\\text{{({x})}}}}", "\\boxed{{\\textbf{{{x}}}}}", "({x})", "{x}.",
    "**{x}**", "The answer is {x}.", "The answer is ({x}).", "The correct option is {x}.",
    "Answer: {x}", "**Answer: {x}**", "#### {x}", "Therefore, the correct choice is **{x}**.",
    "I choose {x}.", "So {x} is correct.", "Option {x} is the right one.", "{x}) {text}",
    "**{x}. {text}**", "The answer is {x}: {text}", "\\boxed{{{x}. \\text{{{text}}}}}",
    "<think>Perhaps {y}?</think>The answer is {x}.",
)  # fmt: skip
_BY_TEXT = (
    "\\boxed{{{text}}}", "\\boxed{{\\text{{{text}}}}}", "The answer is {text}.", "**{text}**",
    "Answer: {text}", "The correct answer is **{text}**.", "{text}", "Final answer: {text}",
)  # fmt: skip
_NOT_THE_OTHER = (
    "The answer is not {y}, but {x}.", "It is not {y}. The answer is {x}.", "{x}, not {y}.",
    "{y} is wrong. So the answer is {x}.", "The answer is {x}, not {y}.",
    "At first I thought {y}, but the answer is {x}.", "Wait, {y} is incorrect. The answer is {x}.",
    "{y} can't be right, so {x}.", "Option {y} is ruled out. Option {x} is correct.",
    "The answer is {y}. Wait, that's wrong. The answer is {x}.",
)  # fmt: skip
_NONE_NAMED = (
    "The answer is not {x}.", "It is not {x}.", "{x} is wrong.", "not {x}", "{x} is incorrect.",
    "I am not sure whether it is {x} or {y}.", "The answer is {x} or {y}.", "Is it {x}?",
    "Both {x} and {y} are correct.", "\\boxed{{{x}, {y}}}", "Option {x} can be ruled out.",
)  # fmt: skip


def _case(options: list[str], gold: int, completion: str, right: bool) -> Case:
    outcome: Outcome = "correct" if right else "incorrect"
    return Case(
        reference="ABCDEFGHIJ"[gold],
        completion=completion,
        outcome=outcome,
        choices=tuple(options),
    )


def _said(template: str, options: list[str], place: int, other: int) -> str:
    labels = "ABCDEFGHIJ"
    return template.format(x=labels[place], y=labels[other], text=options[place])


def _both(source: Source, options: list[str], templates: tuple[str, ...]) -> Iterator[Case]:
    """The right option as a template says it, and a wrong one."""
    gold, wrong = source.chance.sample(range(len(options)), 2)
    template = source.chance.choice(templates)
    yield _case(options, gold, _said(template, options, gold, wrong), True)
    yield _case(options, gold, _said(template, options, wrong, gold), False)


def choice_labels(source: Source) -> Iterator[Case]:
    """Labels, alone and with their text, among two to ten options."""
    while True:
        options = source.chance.sample(_THINGS, source.chance.randint(2, 10))
        yield from _both(source, options, _BY_LABEL)


def choice_texts(source: Source) -> Iterator[Case]:
    """An option's text without its label, and a text that is no option."""
    while True:
        *options, other = source.chance.sample(_THINGS, source.chance.randint(4, 8))
        yield from _both(source, options, _BY_TEXT)
        template = source.chance.choice(_BY_TEXT)
        gold = source.chance.randrange(len(options))
        yield _case(options, gold, template.format(text=other), False)
        yield _case(options, gold, template.format(text=options[gold].upper()), True)


def choice_lookalikes(source: Source) -> Iterator[Case]:
    """Options of which the texts look like labels."""
    chance = source.chance
    while True:
        options = [*chance.sample(_LIKE_LABELS, 3), *chance.sample(_THINGS, 2)]
        chance.shuffle(options)
        yield from _both(source, options, _BY_LABEL)
        yield from _both(source, options, _BY_TEXT)


def _spellings(value: Fraction) -> list[str]:
    a, b = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    if b == 1:
        return [f"{sign}{a}", f"${sign}{a}$", f"{sign}{a}.0"]
    spelt = [f"{sign}\\frac{{{a}}}{{{b}}}", f"${sign}\\dfrac{{{a}}}{{{b}}}$", f"{sign}{a}/{b}"]
    return [*spelt, f"{float(value):g}"] if b in (2, 4, 5, 8, 10, 20, 25) else spelt


def choice_formulas(source: Source) -> Iterator[Case]:
    """Options in LaTeX, answered by label, by formula and by value."""
    chance = source.chance
    while True:
        values: set[Fraction] = set()
        while len(values) < 4:
            values.add(Fraction(chance.randint(-40, 40), chance.choice([1, 1, 2, 3, 4, 5, 7, 8])))
        spelt = [_spellings(value) for value in values]
        options = [chance.choice(forms) for forms in spelt]
        yield from _both(source, options, _BY_LABEL)
        gold, wrong = chance.sample(range(4), 2)
        for place in (gold, wrong):
            form = chance.choice(spelt[place])
            for template in ("\\boxed{{{}}}", "The answer is {}.", "Answer: {}"):
                yield _case(options, gold, template.format(form), place == gold)
        references = chance.sample(source.references, 4)
        yield from _both(source, references, _BY_LABEL)


def choice_negations(source: Source) -> Iterator[Case]:
    """What is said not to be the answer, beside what is, and alone."""
    chance = source.chance
    while True:
        options = chance.sample(_THINGS, 4)
        yield from _both(source, options, _NOT_THE_OTHER)
        gold, other = chance.sample(range(4), 2)
        yield _case(options, gold, _said(chance.choice(_NONE_NAMED), options, gold, other), False)
        others = [n for n in range(4) if n != gold]
        chance.shuffle(others)
        ruled_out = ". ".join(f"{'ABCD'[n]} is wrong" for n in others)
        yield _case(options, gold, f"{ruled_out}.", True)
        yield _case(options, others[0], f"{ruled_out}.", False)


_OPPOSITES = (
    ("Yes", "No"), ("True", "False"), ("Correct", "Incorrect"), ("Right", "Wrong"),
    ("always", "never", "sometimes"), ("None", "One", "Two"), ("Possible", "Impossible"),
    ("Yes, it is", "No, it is not"), ("All", "None"), ("Either", "Neither", "Both"),
    ("not guilty", "guilty"), ("valid", "invalid"),
)  # fmt: skip


def choice_opposites(source: Source) -> Iterator[Case]:
    """Options of which the texts are words that affirm, deny or judge."""
    while True:
        options = list(source.chance.choice(_OPPOSITES))
        source.chance.shuffle(options)
        options = options + source.chance.sample(_THINGS, source.chance.randint(0, 3))
        yield from _both(source, options, _BY_LABEL)
        yield from _both(source, options, _BY_TEXT)


def choice_sets(source: Source) -> Iterator[Case]:
    """References of several labels."""
    chance = source.chance
    while True:
        options = chance.sample(_THINGS, 5)
        labels = sorted(chance.sample("ABCDE", chance.randint(2, 4)))
        other = chance.choice(sorted(set("ABCDE") - set(labels)))
        wrong = sorted({*labels[1:], other})
        joint = chance.choice([", ", " and ", ""])
        template = chance.choice(
            ["\\boxed{{{}}}", "The answer is {}.", "The correct options are {}.", "{}"]
        )
        for given in (labels, wrong, labels[1:]):
            outcome: Outcome = "correct" if given == labels else "incorrect"
            yield Case(
                reference="".join(labels),
                completion=template.format(joint.join(given)),
                outcome=outcome,
                choices=tuple(options),
            )


def _plain(slot: str) -> list[str]:
    """Those of a slot's phrases that are words and no pattern."""
    outside = re.sub(r"\([^()]*\)", "()", re.sub(r"\([^()]*\)", "()", slot))
    return [one for one in outside.split("|") if re.fullmatch(r"[^\W\d_]+(?: [^\W\d_]+)*", one)]


def choice_languages(source: Source) -> Iterator[Case]:
    """Answers announced by the words of each language's table."""
    chance = source.chance
    table = yaml.safe_load(_PHRASES.read_text(encoding="utf-8"))
    says = [
        (_plain(slots["answer"]), _plain(slots.get("is", "")), code in ("zh", "ja", "ko"))
        for code, slots in table.items()
    ]
    while True:
        answers, links, unspaced = chance.choice(says)
        if not answers:
            continue
        options = chance.sample(_THINGS, 4)
        answer = chance.choice(answers)
        gap = "" if unspaced else " "
        templates = [answer.capitalize() + ": {x}", answer.capitalize() + ": ({x}) {text}"]
        if links and not unspaced:
            templates.append(f"{answer.capitalize()}{gap}{chance.choice(links)}{gap}" + "{x}.")
        yield from _both(source, options, tuple(templates))


CHOICE_FAMILIES: tuple[Callable[[Source], Iterator[Case]], ...] = (
    choice_labels, choice_texts, choice_lookalikes, choice_formulas, choice_negations,
    choice_opposites, choice_sets, choice_languages,
)  # fmt: skip
