"""What the cards say of the miniature's models: `python -m miniature.measure teacher`.

On held-out problems: how many a model solves, asked as the quickstart asks it, and how often it
gets what the student's pretraining knows right (single steps, looking up, copying, sums of two).
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from generate.engine import Request
from generate.vllm_engine import Model, VllmEngine
from miniature import tasks
from tracestill.records import Sampling

Maker = Callable[[tasks.Task, Random], tuple[str, str]]


def solved(engine: Any, count: int) -> dict[str, float]:
    """The share of `count` held-out problems of each family that the model solves."""
    wanted = {
        f"{family} {index}": task
        for family in tasks.FAMILIES
        for index, task in enumerate(itertools.islice(tasks.problems("heldout", family, 2), count))
    }
    requests = [ask(name, task.question) for name, task in wanted.items()]
    right = Counter(
        response.id.split()[0]
        for response in engine.stream(requests)
        if f"\\boxed{{{wanted[response.id].answer}}}" in response.raw.rpartition("</think>")[2]
    )
    return {family: right[family] / count for family in tasks.FAMILIES}


def primitives(engine: Any, count: int) -> dict[str, float]:
    """The share of `count` questions of each kind and family that are answered to the letter."""
    rng, pieces = Random(3), list("abcxyz 0123456789")
    wanted: dict[str, str] = {}
    requests = []
    for family in tasks.FAMILIES:
        makers: dict[str, Maker] = {
            "one step": tasks.single_step,
            "look-up": tasks.lookup,
            "copy": lambda task, rng: tasks.copying(task, rng, pieces)[0],
        }
        if family == "chain_sum":
            makers["sum of two"] = tasks.fact
        for kind, maker in makers.items():
            some = itertools.islice(tasks.problems("heldout", family, 9), count)
            for index, task in enumerate(some):
                question, answer = maker(task, rng)
                name = f"{family}, {kind} {index}"
                wanted[name] = answer
                requests.append(ask(name, question))
    right: Counter[str] = Counter()
    for response in engine.stream(requests):
        right[response.id.rpartition(" ")[0]] += response.raw == wanted[response.id]
    return {name: total / count for name, total in right.items()}


def ask(name: str, question: str) -> Request:
    """A request of one question, its seed its name's."""
    seed = int.from_bytes(name.encode()) % 2**31
    return Request(id=name, messages=[{"role": "user", "content": question}], seed=seed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="teacher, student, or a folder")
    parser.add_argument("--count", type=int, default=200, help="questions of a kind and family")
    arguments = parser.parse_args()
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    here = Path(__file__).parent
    path = str(here / arguments.model if (here / arguments.model).is_dir() else arguments.model)
    for temperature in (1.0, 0.6, 0.0):
        sampling = Sampling(temperature=temperature, top_p=1.0, top_k=-1, max_tokens=320, seed=0)
        engine = VllmEngine(Model(path=path, max_model_len=512), sampling)
        shares = solved(engine, arguments.count)
        whole = sum(shares.values()) / len(shares)
        shown = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        print(f"solved at temperature {temperature}: {whole:.1%} ({shown})", flush=True)
        if temperature == 0.0 and "student" in arguments.model:
            for name, share in primitives(engine, arguments.count).items():
                print(f"{name}: {share:.1%}", flush=True)
        engine.close()


if __name__ == "__main__":
    main()
