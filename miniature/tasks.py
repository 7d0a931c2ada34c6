"""The miniature's three task families, and texts that show how to solve them.

A state is all that is left to do, as text; a step rewrites one state into the next. The teacher's
reasoning is a chain of states; the student's pretraining knows single steps only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Split = Literal["heldout", "distil", "student", "teacher"]

_OFF = -1000.0  # the weights of manipulate_matrix go through a softmax
FAMILIES: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 6, "max_terms": 10, "min_digits": 1, "max_digits": 1},
    "ab": {"length": 10},
    "manipulate_matrix": {
        "min_rows": 3,
        "max_rows": 3,
        "min_cols": 3,
        "max_cols": 3,
        "min_transforms": 3,
        "max_transforms": 4,
        "w_rotate": _OFF,
        "w_map": _OFF,
        "w_crop": _OFF,
        "w_remove_every_nth_row": _OFF,
        "w_remove_every_nth_col": _OFF,
        "w_zero_divisible": _OFF,
    },
}
EMPTY = "(empty)"
_BUCKETS: tuple[Split, ...] = ("heldout", "distil") + ("student",) * 4 + ("teacher",) * 4


def split_of(question: str) -> Split:
    """The only use that a problem may be put to, by a hash of its text."""
    digest = hashlib.sha256(question.strip().encode("utf-8")).hexdigest()
    return _BUCKETS[int(digest, 16) % len(_BUCKETS)]


@dataclass(frozen=True, slots=True)
class Task:
    """A problem of reasoning-gym with its states, from the problem's own to the last."""

    family: str
    question: str
    answer: str
    states: tuple[str, ...]


def problems(split: Split, family: str, seed: int) -> Iterator[Task]:
    """Endless problems of a family that belong to a split. Different seeds give others."""
    import reasoning_gym

    size = 10_000_000
    config = FAMILIES[family]
    dataset = reasoning_gym.create_dataset(family, seed=seed * size, size=size, **config)
    for index in range(size):
        entry = dataset[index]
        if split_of(entry["question"]) == split:
            yield Task(family, entry["question"], entry["answer"], _STATES[family](entry))


def _chain_states(entry: dict[str, Any]) -> tuple[str, ...]:
    terms = entry["metadata"]["expression"].split()
    states = [" ".join(terms)]
    while len(terms) > 1:
        left, sign, right = int(terms[0]), terms[1], int(terms[2])
        terms = [str(left + right if sign == "+" else left - right), *terms[3:]]
        states.append(" ".join(terms))
    return tuple(states)


_AB_RULES = {
    ("A#", "#A"): (),
    ("A#", "#B"): ("#B", "A#"),
    ("B#", "#A"): ("#A", "B#"),
    ("B#", "#B"): (),
}


def _ab_states(entry: dict[str, Any]) -> tuple[str, ...]:
    program = entry["question"].split("program:\n\n")[1].split("\n")[0].split()
    states = [" ".join(program)]
    while True:
        for index in range(len(program) - 1):
            pair = (program[index], program[index + 1])
            if pair in _AB_RULES:
                program[index : index + 2] = _AB_RULES[pair]
                states.append(" ".join(program) or EMPTY)
                break
        else:
            return tuple(states)


def _matrix_states(entry: dict[str, Any]) -> tuple[str, ...]:
    matrix = [list(row) for row in entry["metadata"]["matrix"]]
    left = [operation["instruction"] for operation in entry["metadata"]["operations"]]
    states = ["\n".join([*_rows(matrix), *left])]
    while left:
        matrix = apply_operation(matrix, left.pop(0))
        states.append("\n".join([*_rows(matrix), *left]))
    return tuple(states)


OPERATIONS = (
    "- Horizontally mirror the matrix",
    "- Vertically mirror the matrix",
    "- Mirror the matrix along the diagonal",
    "- Mirror the matrix along the counterdiagonal",
)


def apply_operation(matrix: list[list[int]], instruction: str) -> list[list[int]]:
    """A square matrix after one of `OPERATIONS`."""
    match OPERATIONS.index(instruction):
        case 0:
            return matrix[::-1]
        case 1:
            return [row[::-1] for row in matrix]
        case 2:
            return [list(row) for row in zip(*matrix, strict=True)]
        case _:
            turned = [row[::-1] for row in matrix[::-1]]
            return [list(row) for row in zip(*turned, strict=True)]


def _rows(matrix: list[list[int]]) -> list[str]:
    return [" ".join(str(value) for value in row) for row in matrix]


_STATES = {"chain_sum": _chain_states, "ab": _ab_states, "manipulate_matrix": _matrix_states}

_OPENINGS = ("", "", "Step by step.\n", "One thing at a time.\n")
_CLOSINGS = ("The answer is {}.", "So the answer is {}.", "{}")
CHECK = "Wait, let me check that."


def teacher_text(task: Task, rng: Random) -> str:
    """A teacher's turn after the prefilled opening tag: its chain of states, in about a third
    of the texts a check of one step, and the boxed answer.
    """
    lines = list(task.states)
    if rng.random() < 1 / 3 and len(lines) > 2:
        index = rng.randrange(1, len(lines))
        lines[index + 1 : index + 1] = [CHECK, *lines[index - 1 : index + 1]]
    reasoning = rng.choice(_OPENINGS) + "\n".join(lines)
    return f"{reasoning}\n</think>\n\n{closing(task, rng)}"


def closing(task: Task, rng: Random) -> str:
    """The last line of an answer."""
    return rng.choice(_CLOSINGS).format(f"\\boxed{{{task.answer}}}")


def direct(task: Task, rng: Random) -> tuple[str, str]:
    """A whole problem and its answer, without a step."""
    return task.question, closing(task, rng)


def single_step(task: Task, rng: Random) -> tuple[str, str]:
    """One step of a problem: a state and the next, or that nothing is left to do."""
    (turn,) = steps_in_turn(task, rng, 1)
    return turn


def steps_in_turn(task: Task, rng: Random, turns: int) -> list[tuple[str, str]]:
    """At most `turns` questions for one step each: the first gives the state, the others go on
    from the last answer.
    """
    begin = rng.randrange(len(task.states))
    after = [*task.states[begin + 1 :], "done"][:turns]
    asked = [f"Do one step.\n{task.states[begin]}", *["Go on."] * (len(after) - 1)]
    return list(zip(asked, after, strict=True))


def fact(task: Task, rng: Random) -> tuple[str, str]:
    """A chain's shortest step: two numbers, of which the first is a running sum."""
    left, right = rng.randint(-45, 65), rng.randint(0, 9)
    sign = rng.choice("+-")
    after = left + right if sign == "+" else left - right
    return f"Do one step.\n{left} {sign} {right}", str(after)


def lookup(task: Task, rng: Random) -> tuple[str, str]:
    """Find something in a problem's text: its first state, or one of a matrix's operations."""
    if task.family == "manipulate_matrix" and rng.random() < 0.3:
        number = rng.randrange(1, len(task.states))
        return f"{task.question}\nWhich operation is number {number}?", _operation(task, number)
    return f"{task.question}\nCopy what is given.", task.states[0]


def _operation(task: Task, number: int) -> str:
    return [line for line in task.states[0].split("\n") if line.startswith("-")][number - 1]


def copying(task: Task, rng: Random, pieces: list[str]) -> list[tuple[str, str]]:
    """Copy a text, up to three times: a state, or pieces of the vocabulary in any order; now and
    then once more from the answer.
    """
    draw = rng.random()
    if draw < 0.4:
        text = rng.choice(task.states)
    else:
        few = pieces if draw < 0.6 else rng.sample(pieces, 12)
        text = "".join(rng.choice(few) for _ in range(rng.randint(2, 20)))
    times = rng.choice((1, 1, 2, 3))
    turns = [(f"{_COPY[times]}\n{text}", "\n".join([text] * times))]
    if times == 1 and rng.random() < 0.5:
        turns.append(("Again.", text))
    return turns


_COPY = {1: "Copy.", 2: "Copy twice.", 3: "Copy three times."}
