"""The corpus of benchmarks/curate.py, made of the real problems and solutions in ../shared/data.

Problems are sentences of real ones put together anew, with other numbers; traces are real solutions
joined until they are as long as a reasoning of R1's. In a tenth of them a copy of an earlier text
takes the place, with 1, 5, 10 or 20% of its words changed. Nothing of it is kept.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
EDITS = (0.01, 0.05, 0.1, 0.2)
_NUMBER = re.compile(r"\d+")
_SENTENCE = re.compile(r"(?<=[.?!])\s+")


def benchmarks() -> dict[str, list[str]]:
    """The questions of each benchmark in ../shared/data."""
    rows = {
        "math-500": ("math500.jsonl", "problem"),
        "aime24": ("aime24.jsonl", "problem"),
        "amc23": ("amc23.jsonl", "question"),
        "gsm8k": ("gsm8k_test.jsonl", "question"),
    }
    found = {name: [row[key] for row in _rows(file)] for name, (file, key) in rows.items()}
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        found["humaneval"] = [json.loads(line)["prompt"] for line in file]
    # Two more of a realistic size, of problems with other numbers.
    rng = random.Random(7)
    every = [text for texts in found.values() for text in texts]
    for name, count in (("renumbered-1", 900), ("renumbered-2", 300)):
        found[name] = [renumbered(rng.choice(every), rng) for _ in range(count)]
    return found


def solutions() -> list[str]:
    """Real solutions: of four models of GSM8K, and of one of MATH, eight of each problem."""
    made = [
        value["solution"]
        for row in _rows("gsm8k_model_solutions.jsonl")
        for value in row.values()
        if isinstance(value, dict)
    ]
    made += [text for row in _rows("math_cot_100x8.jsonl") for text in row["code"]]
    return [*made, *(row["solution"] for row in _rows("math500.jsonl"))]


def _rows(file: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / file).read_text(encoding="utf-8").splitlines()]


def renumbered(text: str, rng: random.Random) -> str:
    """A text with other numbers of as many digits."""
    return _NUMBER.sub(lambda found: str(rng.randrange(10 ** len(found[0]))), text)


def edited(text: str, share: float, rng: random.Random) -> str:
    """A text with a share of its words changed, left out or added."""
    words = text.split(" ")
    for _ in range(max(1, round(share * len(words)))):
        place = rng.randrange(len(words))
        kind = rng.randrange(3)
        if kind == 0:
            words[place] = f"w{rng.randrange(10_000)}"
        elif kind == 1 and len(words) > 2:
            del words[place]
        else:
            words.insert(place, f"w{rng.randrange(10_000)}")
    return " ".join(words)


def problems(count: int, seed: int = 0) -> list[str]:
    """Problems of some 300 characters, a tenth of them copies with edits."""
    rng = random.Random(seed)
    base = [text for name, texts in benchmarks().items() if name != "humaneval" for text in texts]
    sentences = [one for text in base for one in _SENTENCE.split(text) if len(one) > 20]

    def fresh() -> str:
        return " ".join(renumbered(rng.choice(sentences), rng) for _ in range(rng.randint(2, 5)))

    return _with_copies(count, fresh, rng)


def traces(count: int, characters: int = 15_000, seed: int = 0) -> list[str]:
    """Traces of about `characters`, a tenth of them copies with edits."""
    rng = random.Random(seed)
    base = solutions()

    def fresh() -> str:
        parts: list[str] = []
        size = rng.randint(characters // 2, characters * 3 // 2)
        while size > 0:
            parts.append(renumbered(rng.choice(base), rng))
            size -= len(parts[-1]) + 2
        return "\n\n".join(parts)

    return _with_copies(count, fresh, rng)


def _with_copies(count: int, fresh: object, rng: random.Random) -> list[str]:
    assert callable(fresh)
    made: list[str] = []
    for number in range(count):
        if number % 10 == 9:
            made.append(edited(rng.choice(made), rng.choice(EDITS), rng))
        else:
            made.append(fresh())
    return made
