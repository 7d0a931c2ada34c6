"""Score an answer by reasoning-gym. This runs in a process of its own: see `worker`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from filter.verify.gym.checks import Entry, deserved
from filter.verify.gym.guard import may_see_answer, may_see_entry
from tracestill.records import Outcome

# Their scorers compare the parsed answer with tuples, which JSON turned into lists.
_COMPARE_TUPLES = frozenset({"arc_agi", "rearc"})

_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|tt|rm|sf)?|math(?:rm|bf|it|tt|sf)|mbox|operatorname)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\s*\{([^{}]*)\}")
_POWER = re.compile(r"\^\s*(?:\{([^{}\\]*)\}|(\w))")
_ROW_ENDS = re.compile(r"\\\\[ \t]*\n?")
_BLANKS = re.compile(r"[ \t]+")
_THOUSANDS = re.compile(r"\D*\d{1,3}(?:,\d{3})+(?:\.\d+)?\D*")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[pbv]?(?:matrix|array|aligned)\}(?:\{[lcr| ]*\})?")
_COMMAND = re.compile(r"\\(?:([A-Za-z]+) ?|(.))", re.DOTALL)
_COMMANDS = {
    "times": "×", "cdot": "*", "rightarrow": "→", "to": "→", "Rightarrow": "→", "implies": "→",
    "leftrightarrow": "↔", "Leftrightarrow": "↔", "iff": "↔", "land": "∧", "wedge": "∧",
    "lor": "∨", "vee": "∨", "lnot": "¬", "neg": "¬", "left": "", "right": "",
    "quad": " ", "qquad": " ", "newline": "\n", "pi": "pi", "ln": "log", "log": "log",
    "exp": "exp", "sin": "sin", "cos": "cos", "tan": "tan",
}  # fmt: skip
_MARKS = {"\\": "\n", ",": "", ";": " ", ":": " ", " ": " ", "!": "", "(": "", ")": ""}
_DEEP = 20  # of commands in one another


def open_scorer() -> Callable[[str, str], tuple[Outcome, str]]:
    """The scorer of all families: (JSON of [family, config, entry], extracted answer) to the
    outcome and why.
    """
    import reasoning_gym

    datasets: dict[str, Any] = {}

    def score(asked: str, extracted: str) -> tuple[Outcome, str]:
        family, config, entry = _unfold(*json.loads(asked))
        if not may_see_entry(family, entry):
            return "unverifiable", f"the problem holds what a scorer of {family} must not evaluate"
        if family in _COMPARE_TUPLES:
            entry = _tuples(entry)
        key = json.dumps([family, config], sort_keys=True)
        if key not in datasets:
            datasets[key] = reasoning_gym.create_dataset(family, **{**config, "seed": 0, "size": 1})
        best, detail = -1.0, ""
        for answer in _spellings(extracted):
            if not may_see_answer(family, answer):
                value, why = 0.0, f", since it is not what a scorer of {family} may evaluate"
            else:
                value, why = _score(family, datasets[key], answer, entry)
            if value == 1.0:
                if deserved(family, answer, entry):
                    return "correct", "score 1"
                why = f", which the scorer of {family} gives to wrong answers too"
            if value > best:
                best, detail = value, f"score {value:g}{why}"
        return "incorrect", detail

    return score


def _score(family: str, dataset: Any, answer: str, entry: Entry) -> tuple[float, str]:
    """The score, and why there is none. A scorer that fails on the entry's own answer too raises
    what it raised: then it is not the answer that it can't read.
    """
    try:
        return float(dataset.score_answer(answer, entry)), ""
    except (
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
    ) as error:  # fmt: skip
        own = entry["answer"] if isinstance(entry["answer"], str) else "[]"
        if not may_see_answer(family, own):
            raise
        dataset.score_answer(own, entry)
        return 0.0, f", since the scorer can't read it: {type(error).__name__}: {error}"[:300]


def _unfold(family: str, config: dict[str, Any], entry: Entry) -> tuple[str, dict[str, Any], Entry]:
    """A problem of a composite as one of the family that made it."""
    if family != "composite":
        return family, config, entry
    made_by = entry["metadata"]["source_dataset"]
    parts = {part["name"]: part["config"] for part in config["datasets"]}
    return made_by, parts[made_by], entry


def _spellings(extracted: str) -> Iterator[str]:
    """The answer as it stands; then, where that is another text, what its LaTeX shows; the same
    as an expression of Python; a number without the commas between its thousands.
    """
    shown = _shown(extracted)
    python = _shown(_POWER.sub(lambda m: f"**({m[1] or m[2]})", extracted)).replace("×", "*")
    number = shown.replace(",", "") if _THOUSANDS.fullmatch(shown) else shown
    yield from dict.fromkeys([extracted, shown, python, number])


def _shown(text: str) -> str:
    text = _ENVIRONMENT.sub("", text.strip().strip("$").replace("{,}", ","))
    if _ROW_ENDS.search(text):
        text = _ROW_ENDS.sub("\n", _BLANKS.sub(" ", text.replace("&", " ")))
    for _ in range(_DEEP):
        before = text
        text = _WRAPPED.sub(r"\1", text)
        text = _ROOT.sub(r"sqrt(\1)", text)
        text = _FRACTION.sub(_quotient, text)
        if text == before:
            break
    lines = _COMMAND.sub(_command, text).split("\n")
    return "\n".join(line.strip() for line in lines).strip()


def _quotient(match: re.Match[str]) -> str:
    return "/".join(
        part.strip() if re.fullmatch(r"\s*\w+\s*", part) else f"({part})"
        for part in (match[1], match[2])
    )


def _command(match: re.Match[str]) -> str:
    if match[1]:
        return _COMMANDS.get(match[1], match[0])
    return _MARKS.get(match[2], match[2])


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
