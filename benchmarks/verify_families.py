"""The families of `verify_variations.py`: each makes right and wrong answers from references,
without end where it can. That they are right or wrong is by construction, not by a judge.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from tracestill.records import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A reference, a completion and the outcome that is right; a choice among `choices`, if any."""

    reference: str
    completion: str
    outcome: Outcome
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the families are made from: chance, all references, and the plain numbers of them."""

    chance: random.Random
    references: list[str]
    numbers: list[str]

    def different(self) -> str:
        """A number that is no reference."""
        return str(self.chance.randrange(10**6, 10**7))

    def values(self, count: int) -> list[str]:
        """Different numbers of the references."""
        return self.chance.sample(self.numbers, count)


def boxed(reference: str, answer: str, right: bool) -> Case:
    """A case whose answer stands in a box."""
    outcome: Outcome = "correct" if right else "incorrect"
    return Case(reference=reference, completion=f"So $\\boxed{{{answer}}}$.", outcome=outcome)


_IN_BOX = (
    "\\text{{Answer: }} {}", "\\text{{The answer is }} {}", "\\textcolor{{blue}}{{{}}}",
    "\\color{{red}}{{{}}}", "{{\\color{{red}} {}}}", "\\underline{{{}}}", "\\mathbf{{{}}}",
    "\\textbf{{{}}}", "\\displaystyle {}", "\\large {}", "\\fbox{{{}}}", "${}$",
)  # fmt: skip
_AROUND = ("The answer is **{}**.", "The answer is `{}`.", "```\n{}\n```", "The answer is __{}__.")


def wrappers(source: Source) -> Iterator[Case]:
    """References in colours, fonts, phrases and Markdown."""
    chance = source.chance
    while True:
        reference, wrapper = chance.choice(source.references), chance.choice(_IN_BOX)
        yield boxed(reference, wrapper.format(reference), True)
        yield boxed(reference, wrapper.format(source.different()), False)
        number, around = chance.choice(source.numbers), chance.choice(_AROUND)
        yield Case(reference=number, completion=around.format(number), outcome="correct")
        wrong = around.format(source.different())
        yield Case(reference=number, completion=wrong, outcome="incorrect")


def cut_boxes(source: Source) -> Iterator[Case]:
    """A last box that never closes voids those before it."""
    while True:
        reference, other = source.chance.choice(source.references), source.different()
        for first, second in ((reference, other), (other, reference), (reference, reference)):
            text = f"First \\boxed{{{first}}}. That was hasty: it is \\boxed{{{second}"
            yield Case(reference=reference, completion=text, outcome="incorrect")
            whole: Outcome = "correct" if second == reference else "incorrect"
            yield Case(reference=reference, completion=f"{text}}}.", outcome=whole)


def names(source: Source) -> Iterator[Case]:
    """Words, points and compositions are no products; products still commute."""
    chance = source.chance
    while True:
        letters = chance.sample("ABCDEFGHKLMNPQRSTUVWXYZ", chance.randint(2, 5))
        word, turned = "".join(letters), "".join(letters[1:] + letters[:1])
        for form in ("{}", "\\text{{{}}}", "\\mathrm{{{}}}"):
            yield boxed(form.format(word), word, True)
            yield boxed(form.format(word), form.format(turned), False)
        small = word.lower()
        yield boxed(f"\\text{{{small}}}", f"\\text{{{turned.lower()}}}", False)
        a, b, c = chance.sample("ABCDEFGHKLMNPQRST", 3)
        yield boxed(f"\\angle {a}{b}{c}", f"\\angle {c}{b}{a}", True)
        yield boxed(f"\\angle {a}{b}{c}", f"\\angle {b}{a}{c}", False)
        yield boxed(f"\\overline{{{a}{b}}}", f"\\overline{{{b}{a}}}", True)
        yield boxed(f"\\overline{{{a}{b}}}", f"\\overline{{{b}{c}}}", False)
        f, g = chance.sample("fghpq", 2)
        yield boxed(f"{f}({g}(x))", f"{f}({g}(x))", True)
        yield boxed(f"{f}({g}(x))", f"{g}({f}(x))", False)
        x, y, z = sorted(chance.sample("bknpstxyz", 3))
        yield boxed(f"{x}{y}{z}", f"{z}{x}{y}", True)
        yield boxed(f"{x}{y}{z}", f"{x}{y}", False)


def ratios(source: Source) -> Iterator[Case]:
    """Ratios term by term, up to a common factor."""
    chance = source.chance
    while True:
        terms = chance.sample(range(1, 40), chance.randint(2, 4))
        times = chance.randint(2, 9)
        reference = ":".join(map(str, terms))
        yield boxed(reference, " : ".join(str(term * times) for term in terms), True)
        yield boxed(reference, ":".join(map(str, terms[1:] + terms[:1])), False)
        yield boxed(reference, ":".join(map(str, [*terms[:-1], terms[-1] + 1])), False)
        quotient = Fraction(terms[0], terms[1])
        for term in terms[2:]:
            quotient /= term
        divided = f"\\frac{{{quotient.numerator}}}{{{quotient.denominator}}}"
        yield boxed(reference, divided, len(terms) == 2)


def named_values(source: Source) -> Iterator[Case]:
    """Values by their names, in any order, and beside tuples."""
    chance = source.chance
    while True:
        count = chance.randint(2, 4)
        letters = chance.choice(["xyzw", "abcd", "pqrs", "klmn"])[:count]
        values = source.values(count)
        given = [f"{name}={value}" for name, value in zip(letters, values, strict=True)]
        swapped = [f"{name}={value}" for name, value in zip(letters, values[::-1], strict=True)]
        tuple_ = f"({','.join(values)})"
        for reference in (f"({','.join(letters)})={tuple_}", ", ".join(given)):
            yield boxed(reference, ", ".join(reversed(given)), True)
            yield boxed(reference, ", ".join(given), True)
            yield boxed(reference, tuple_, True)
            if values != values[::-1]:
                yield boxed(reference, ", ".join(swapped), False)
        yield boxed(tuple_, ", ".join(given), True)
        x, y = values[:2]
        if x != y:
            yield boxed(f"({x},{y})", f"{letters[1]}={x}, {letters[0]}={y}", False)
        n = chance.randint(1, 40)
        yield boxed(f"P(X={n})={x}", f"P(X={n + 1})={x}", False)
        yield boxed(f"f({n})={x}", x, True)


def matrices(source: Source) -> Iterator[Case]:
    """Matrices with gaps between rows, other brackets and decimals; determinants."""
    chance = source.chance
    while True:
        rows = [[chance.randint(-9, 9) for _ in range(2)] for _ in range(2)]
        kind, gap = (
            chance.choice("pbB"),
            chance.choice(["\\\\[4pt]", "\\\\", "\\cr ", "\\\\[1ex] "]),
        )
        shown = [" & ".join(map(str, row)) for row in rows]
        reference = _matrix("pmatrix", shown, "\\\\")
        yield boxed(reference, _matrix(f"{kind}matrix", shown, gap), True)
        decimal = [" & ".join(f"{value}.0" for value in row) for row in rows]
        yield boxed(reference, _matrix("array", decimal, gap, "{cc}"), True)
        (a, b), (c, d) = rows
        yield boxed(reference, _matrix(f"{kind}matrix", [shown[0], f"{c} & {d + 1}"], gap), False)
        if b != c:
            yield boxed(reference, _matrix("pmatrix", [f"{a} & {c}", f"{b} & {d}"], gap), False)
        bars = _matrix("vmatrix", shown, gap)
        yield boxed(bars, str(a * d - b * c), True)
        yield boxed(str(a * d - b * c), f"\\det {reference}", True)
        yield boxed(bars, str(a * d - b * c + 1), False)


def _matrix(kind: str, rows: list[str], gap: str, columns: str = "") -> str:
    return f"\\begin{{{kind}}}{columns}{gap.join(rows)}\\end{{{kind}}}"


def real_sets(source: Source) -> Iterator[Case]:
    """Intervals, inequalities, set-builder notation and what is left out."""
    chance = source.chance
    while True:
        a, b = sorted(chance.sample(range(-30, 30), 2))
        between = f"({a},{b})"
        forms = [
            f"{a}<x<{b}", f"x>{a} \\text{{ and }} x<{b}", f"x>{a}, x<{b}", f"]{a},{b}[",
            f"\\{{x : {a}<x<{b}\\}}", f"\\{{x \\mid {a}<x<{b}\\}}", f"x \\in ({a},{b})",
        ]  # fmt: skip
        outside = f"(-\\infty,{a})\\cup({b},\\infty)"
        apart = [f"x<{a} \\text{{ or }} x>{b}", f"x>{b} \\lor x<{a}", f"x<{a}, x>{b}"]
        for left, right in ((between, forms), (outside, apart)):
            for form in right:
                yield boxed(left, form, True)
                yield boxed(form, left, True)
                yield boxed(left, form.replace(str(b), str(b + 61)), False)
                closed = form.replace("<", "\\le ").replace(">", "\\ge ").replace("[", "]")
                if closed != form and "]" not in form:
                    yield boxed(left, closed, False)
        punctured = f"(-\\infty,{a})\\cup({a},\\infty)"
        for form in (f"x \\neq {a}", f"\\mathbb{{R}}\\setminus\\{{{a}\\}}"):
            yield boxed(punctured, form, True)
            yield boxed(punctured, form.replace(str(a), str(a + 61)), False)
        yield boxed(f"[-{b + 31},{b + 31}]", f"|x| \\le {b + 31}", True)
        yield boxed(f"[-{b + 31},{b + 31}]", f"|x| < {b + 31}", False)
        yield boxed(f"[{a},{b})", f"[{a},{b}[", True)
        yield boxed(f"[{a},{b})", f"[{a},{b}]", False)


def factorials(source: Source) -> Iterator[Case]:
    """Factorials and binomials of numbers and of symbols."""
    chance = source.chance
    while True:
        n, k = chance.randint(600, 9_000), chance.randint(1, 15)
        x = chance.choice("nmk")
        quotient = f"\\frac{{{n}!}}{{{n - 1}!}}"
        yield boxed(str(n), quotient, True)
        yield boxed(quotient, str(n + 1), False)
        yield boxed(f"({x}+{k})!", f"({x}+{k})({x}+{k - 1})!", True)
        yield boxed(f"({x}+{k})!", f"({x}+{k - 1})({x}+{k - 1})!", False)
        yield boxed(
            f"\\binom{{{k + 1}{x}}}{{{x}}}", f"\\frac{{({k + 1}{x})!}}{{{x}!({k}{x})!}}", True
        )
        yield boxed(f"\\binom{{{k + 1}{x}}}{{{x}}}", f"\\frac{{({k + 1}{x})!}}{{{x}!}}", False)
        yield boxed(f"\\binom{{{n}}}{{2}}", str(n * (n - 1) // 2), True)
        yield boxed(f"\\binom{{{n}}}{{2}}", str(n * (n + 1) // 2), False)
        yield boxed(f"\\binom{{{x}}}{{2}}", f"\\frac{{{x}({x}-1)}}{{2}}", True)
        yield boxed(f"2^{{{x}+{k}}}", f"{2**k} \\cdot 2^{x}", True)
        yield boxed(f"2^{{{x}+{k}}}", f"{2**k + 1} \\cdot 2^{x}", False)


def roundings(source: Source) -> Iterator[Case]:
    """A decimal of five digits or more stands for what it rounds, wherever it stands."""
    chance = source.chance
    while True:
        denominator = chance.choice([3, 7, 9, 11, 13, 17, 19, 21, 23, 29, 31])
        value = Fraction(denominator * chance.randint(1, 40) + 1, denominator)
        exact = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        places = chance.randint(4, 8) + (value < 1)
        close = f"{float(value):.{places}f}"
        off = f"{float(value) + 2 * 10**-places:.{places}f}"
        for shape in ("{}", "(2, {}, 3)", "[-1, {})", "\\begin{{pmatrix}}2\\\\{}\\end{{pmatrix}}"):
            yield boxed(shape.format(exact), shape.format(close), True)
            yield boxed(shape.format(exact), shape.format(off), False)
            yield boxed(shape.format(exact), shape.format(f"{float(value):.1f}"), False)


def lists(source: Source) -> Iterator[Case]:
    """Several answers: as JSON text, in several boxes, in any order."""
    chance = source.chance
    while True:
        values = source.values(chance.randint(2, 4))
        bare, turned = ", ".join(values), ", ".join(reversed(values))
        for reference in (bare, json.dumps(values)):
            yield boxed(reference, turned, True)
            yield boxed(reference, ", ".join(values[1:]), False)
            yield boxed(reference, ", ".join([*values[1:], source.different()]), False)
            for joint in (" and ", ", ", "\n\n", " or "):
                text = joint.join(f"$\\boxed{{{value}}}$" for value in values)
                yield Case(reference=reference, completion=text, outcome="correct")
                text = joint.join(f"$\\boxed{{{value}}}$" for value in values[1:])
                yield Case(reference=reference, completion=text, outcome="incorrect")


_UNITS = (
    ("天", "日", "days", "小时"), ("千克", "公斤", "kg", "克"), ("米", "公尺", "meters", "厘米"),
    ("小时", "小時", "hours", "分钟"), ("км", "км", "km", "см"), ("часов", "час", "hours", "дней"),
    ("분", "분", "minutes", "시간"), ("Tage", "Tagen", "days", "Stunden"),
    ("días", "día", "days", "horas"),
)  # fmt: skip


def units(source: Source) -> Iterator[Case]:
    """Units of any script, as reference and as answer."""
    chance = source.chance
    while True:
        n = chance.randint(2, 5_000)
        unit, synonym, english, other = chance.choice(_UNITS)
        for reference in (f"{n}{unit}", f"{n}\\text{{ {unit}}}", str(n)):
            for answer in (
                str(n),
                f"{n} {synonym}",
                f"{n}\\text{{{unit}}}",
                f"{n} \\text{{ {english}}}",
            ):
                yield boxed(reference, answer, True)
                yield boxed(reference, answer.replace(str(n), str(n + 1)), False)
        yield boxed(f"{n}{unit}", f"{n}{other}", False)
        yield boxed(f"{n} $", str(n), True)
        yield boxed(str(n), f"{n} \\$", True)
        yield boxed(f"{n} $", f"{n + 1} $", False)


_SAID = (
    "\\text{{There are }} {} \\text{{ ways}}", "\\text{{The number is }} {}",
    "\\text{{The total is }} {} \\text{{ apples}}", "\\textbf{{(B) }} {}", "\\textbf{{(D)}}\\ {}",
    "\\text{{A) }} {}",
)  # fmt: skip
_DENIED = (
    "\\text{{The number is not }} {}", "\\text{{at least }} {}", "{} \\text{{ or more}}",
    "{} \\text{{ more than }} x", "\\text{{divisible by }} {}", "{} \\text{{ million}}",
)  # fmt: skip


def words(source: Source) -> Iterator[Case]:
    """Numbers within a sentence, behind an option's label, and with words that change them."""
    chance = source.chance
    while True:
        number, said = chance.choice(source.numbers), chance.choice(_SAID)
        yield boxed(number, said.format(number), True)
        yield boxed(number, said.format(source.different()), False)
        yield boxed(said.format(number), number, True)
        yield boxed(number, chance.choice(_DENIED).format(number), False)
        n, (word, size) = (
            chance.randint(2, 900),
            chance.choice(
                [("million", 10**6), ("thousand", 1000), ("dozen", 12), ("hundred", 100)]
            ),
        )
        yield boxed(str(n * size), f"{n} \\text{{ {word}}}", True)
        m, k = chance.randint(600, 9000), chance.randint(1, 3)
        whole = " \\cdot ".join([*(str(m - i) for i in range(k)), f"{m - k}!"])
        yield boxed(f"{m}!", whole, True)
        yield boxed(f"{m}!", whole.replace(str(m), str(m + 1), 1), False)
        a, b = chance.sample(source.numbers, 2)
        for joint in ("`{}` and `{}`", "**{}** and **{}**", "$x={}$ and $x={}$", "${}$ or ${}$"):
            text = f"The solutions are {joint.format(b, a)}."
            yield Case(reference=f"{a}, {b}", completion=text, outcome="correct")
            text = f"The solutions are {joint.format(b, source.different())}."
            yield Case(reference=f"{a}, {b}", completion=text, outcome="incorrect")


def placeholders(source: Source) -> Iterator[Case]:
    """References that hold no answer."""
    held = ("notfound", "Not found", "proof", "\\text{proof}", "", "N/A", "null", "nan")
    while True:
        for reference in held:
            completion = f"\\boxed{{{source.different()}}}"
            yield Case(reference=reference, completion=completion, outcome="unverifiable")


FAMILIES: tuple[Callable[[Source], Iterator[Case]], ...] = (
    wrappers, cut_boxes, names, ratios, named_values, matrices, real_sets, factorials, roundings,
    lists, units, words, placeholders,
)  # fmt: skip
