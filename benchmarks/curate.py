"""The filter's rows: `python -m benchmarks.curate [near|contamination|quality|whole …]
--peers PYTHON`, where PYTHON has rensa, datasketch and datatrove.

`near`: texts per second beside the peers on the same texts, n-grams, bands and threshold, and what
goes against an exact join. `contamination`: MB/s of traces against seven benchmarks, beside a
dictionary of n-grams as open-r1 has it, and what each finds of planted items. `quality`: MB/s of
all measures by row, and false drops among real correct solutions. `whole`: the default steps on
many traces with one and two processes, memory, and the time of each part. Writes
benchmarks/results/curate.json, beside what rows that are not asked for gave before.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import curate_corpus as corpus
from benchmarks.curate_whole import whole
from filter.benchmarks import finder
from filter.hashing import buffers, run_sets, similarities, spaced_buffers
from filter.measures import measure_buffers
from filter.near import bands_of, near_twins
from filter.overlap import find_in_buffers, index_items
from filter.steps.language import language
from filter.steps.quality import quality
from generate.reasoning import split_reasoning
from generate.solutions import with_solution
from tracestill.recipe.filter_steps import Language, Quality
from tracestill.records import BenchmarkItem, TraceText
from tracestill.run.provenance import provenance

RESULT = Path(__file__).parent / "results" / "curate.json"
_REPEATS = 3


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """The median seconds of some calls, and what the last one gave."""
    seconds = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        made = function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), made


def exact_pairs(texts: Sequence[str], ngram: int, threshold: float) -> dict[tuple[int, int], float]:
    """All pairs at least `threshold` similar, by a join on rare shingles (Bayardo et al. 2007): two
    sets that are so similar share one of the first few in an order by frequency.
    """
    data, offsets = spaced_buffers(texts)
    sets, begins = run_sets(data, offsets[:-1], offsets[1:], ngram)
    _, numbers, counts = np.unique(sets, return_inverse=True, return_counts=True)
    rarity = counts[numbers].astype(np.int64)
    postings: list[np.ndarray[Any, Any]] = []
    owners: list[np.ndarray[Any, Any]] = []
    for text in range(len(texts)):
        own = slice(begins[text], begins[text + 1])
        size = begins[text + 1] - begins[text]
        prefix = size - int(np.ceil(threshold * size)) + 1
        order = np.lexsort((sets[own], rarity[own]))[:prefix]
        shared = order[rarity[own][order] > 1]
        postings.append(sets[own][shared])
        owners.append(np.full(len(shared), text))
    tokens, texts_of = np.concatenate(postings), np.concatenate(owners)
    order = np.argsort(tokens, kind="stable")
    tokens, texts_of = tokens[order], texts_of[order]
    groups = np.split(texts_of, np.flatnonzero(tokens[1:] != tokens[:-1]) + 1)
    pairs: set[tuple[int, int]] = set()
    for group in groups:
        members = sorted(set(group.tolist()))
        pairs.update((a, b) for i, a in enumerate(members) for b in members[i + 1 :])
    left, right = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    found = similarities(sets, begins, left, right)
    return {
        (int(a), int(b)): float(value)
        for a, b, value in zip(left, right, found, strict=True)
        if value >= threshold
    }


def gone_exactly(pairs: dict[tuple[int, int], float], count: int) -> set[int]:
    """The texts that go, if the first of likes stays."""
    by_later: dict[int, list[int]] = {}
    for first, later in pairs:
        by_later.setdefault(later, []).append(first)
    gone: set[int] = set()
    for text in range(count):
        if any(first not in gone for first in by_later.get(text, [])):
            gone.add(text)
    return gone


def near(peers: str | None, small: int) -> dict[str, Any]:
    """Near duplicates of problems and of traces."""
    rows: dict[str, Any] = {}
    for name, texts, threshold in (
        ("problems", corpus.problems(100_000 // small), 0.7),
        ("traces", corpus.traces(20_000 // small), 0.7),
    ):
        near_twins(texts[:50], 5, threshold)  # compiles
        seconds, twins = timed(lambda texts=texts, t=threshold: near_twins(texts, 5, t))
        ours = set(np.flatnonzero(twins.of >= 0).tolist())
        pairs = exact_pairs(texts, 5, threshold)
        truth = gone_exactly(pairs, len(texts))
        named = {(int(twins.of[text]), text) for text in ours}
        row: dict[str, Any] = {
            "texts": len(texts),
            "mb": sum(map(len, texts)) / 1e6,
            "pairs": len(pairs),
            "ours": {
                "per_second": len(texts) / seconds,
                "recall": len(ours & truth) / len(truth),
                "precision": len(named & pairs.keys()) / len(named),
            },
        }
        for peer in ("rensa", "datasketch", "datatrove") if peers else ():
            few = texts if peer != "datatrove" or name == "problems" else texts[: len(texts) // 10]
            with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
                json.dump(few, file)
                file.flush()
                done = subprocess.run(
                    [
                        str(peers), str(Path(__file__).parent / "curate_peers.py"), peer, file.name,
                        "--threshold", str(threshold), "--ngram", "5",
                        "--bands", str(bands_of(threshold)),
                    ],
                    check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            made = json.loads(lines[-1].removeprefix("RESULT "))
            gone, wanted = set(made["gone"]), {text for text in truth if text < len(few)}
            each = len(few) / made["seconds"]
            row[peer] = {
                "version": made["version"], "texts": len(few), "per_second": each,
                "recall": len(gone & wanted) / len(wanted),
                "precision": len(gone & wanted) / max(1, len(gone)),
                "ratio": row["ours"]["per_second"] / each,
            }  # fmt: skip
        rows[name] = row
        print(name, json.dumps(row), flush=True)
    return rows


def _as_open_r1(texts: Sequence[str], items: Sequence[str], n: int = 8) -> list[bool]:
    """Whether a text shares n words with an item, by a dictionary of word n-grams: lower case,
    punctuation out.
    """

    def runs(text: str) -> set[str]:
        words = "".join(c if c.isalnum() or c.isspace() else " " for c in text.lower()).split()
        return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}

    known = set().union(*map(runs, items))
    return [not known.isdisjoint(runs(text)) for text in texts]


def contamination(small: int) -> dict[str, Any]:
    """Traces against seven benchmarks, and planted items."""
    named = corpus.benchmarks()
    items = [text for texts in named.values() for text in texts]
    index = index_items(items, 8)
    texts = corpus.traces(20_000 // small, seed=3)
    data, offsets = buffers(texts)
    find_in_buffers(data, offsets, index, least=2)
    seconds, _ = timed(lambda: find_in_buffers(data, offsets, index, least=2))
    mb = len(data) / 1e6
    few = texts[: max(20, len(texts) // 20)]
    theirs, _ = timed(lambda: _as_open_r1(few, items))
    begin = time.perf_counter()
    _as_open_r1([], items)  # what preparing the items takes
    theirs -= time.perf_counter() - begin
    their_mb = sum(len(text.encode()) for text in few) / 1e6 / theirs
    row = {
        "benchmarks": len(named), "items": len(items), "texts": len(texts), "mb": mb,
        "mb_per_second": mb / seconds, "texts_per_second": len(texts) / seconds,
        "open_r1_mb_per_second": their_mb, "ratio": mb / seconds / their_mb,
        "planted": _planted(named),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return row


def _planted(named: dict[str, list[str]]) -> dict[str, Any]:
    """How many planted items are found, of those in each disguise, by both ways."""
    rng = random.Random(5)
    real = [text for name, texts in named.items() if "renumbered" not in name for text in texts]
    items = [text for text in real if len(text.split()) >= 5]
    fresh = corpus.problems(2_000, seed=11)
    ways: dict[str, Callable[[str], str]] = {
        "verbatim": lambda text: text,
        "upper case": lambda text: text.upper(),
        "embedded": lambda text: f"{rng.choice(fresh)} {text} {rng.choice(fresh)}",
        "zero-width": lambda text: text.replace("e", "e\u200b"),
        "full-width": lambda text: "".join(
            chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text
        ),
        "renumbered": lambda text: corpus.renumbered(text, rng),
    }
    index = finder([BenchmarkItem(benchmark="b", id=str(n), text=t) for n, t in enumerate(real)], 8)
    made: dict[str, Any] = {}
    for way, disguise in ways.items():
        chosen = rng.sample(items, 400)
        texts = [disguise(text) for text in chosen]
        ours = index.matches([""] * len(texts), texts, renumbered=0.8)
        theirs = _as_open_r1(texts, real)
        made[way] = {
            "items": len(texts),
            "ours": sum(match is not None for match in ours),
            "open_r1": sum(theirs),
            "only_open_r1": sum(b and a is None for a, b in zip(ours, theirs, strict=True)),
        }
    return made


def by_row(small: int) -> dict[str, Any]:
    """The speed of quality and language, and what they drop of real correct solutions."""
    texts = corpus.traces(4_000 // small, seed=2)
    data, offsets = buffers(texts)
    words = Quality().branch_words
    measure_buffers(data, offsets, words)
    measures, _ = timed(lambda: measure_buffers(data, offsets, words))
    rows = [_text(str(number), "p", 0, text) for number, text in enumerate(texts)]
    steps = {"quality": quality(Quality()), "language": language(Language(), {})}
    mb = len(data) / 1e6
    seconds = {}
    for name, step in steps.items():
        list(step(rows[:10]))
        seconds[name], _ = timed(lambda step=step: list(step(rows)))
    made = {
        "mb": mb,
        "measures_mb_per_second": mb / measures,
        **{f"{name}_mb_per_second": mb / value for name, value in seconds.items()},
        "together_mb_per_second": mb / sum(seconds.values()),
        "false_drops": _false_drops(),
    }
    print(json.dumps(made), flush=True)
    return made


def _false_drops() -> dict[str, Any]:
    """Of real solutions that are labelled correct, those that a step drops."""
    rows = []
    for row in corpus._rows("gsm8k_model_solutions.jsonl"):
        for value in row.values():
            if isinstance(value, dict) and value["is_correct"]:
                reasoning, _, answer = value["solution"].rpartition("\n")
                rows.append(_text(str(len(rows)), "p", 0, reasoning, answer))
        truth = str(row["ground_truth"])
        rows.append(_text(str(len(rows)), "p", 0, truth, truth[-200:]))
    for row in corpus._rows("math_cot_100x8.jsonl"):
        for text, right in zip(row["code"], row["score"], strict=True):  # type: ignore[call-overload]
            if right:
                rows.append(_text(str(len(rows)), "p", 0, text, text[-400:]))
                # As a solution without marks is imported: the end is the answer.
                split = with_solution(split_reasoning(text))
                rows.append(
                    _text(str(len(rows)), "p", 0, split.reasoning or text, split.answer or text)
                )
    for row in corpus._rows("math500.jsonl"):
        answer = f"\\boxed{{{row['answer']}}}"
        rows.append(_text(str(len(rows)), "p", 0, str(row["solution"]), answer))
    made: dict[str, Any] = {"solutions": len(rows)}
    for name, step in (("quality", quality(Quality())), ("language", language(Language(), {}))):
        made[name] = dict(Counter(drop.reason for drop in step(rows)))
    return made


def _text(
    own: str, problem: str, sample: int, reasoning: str, answer: str = "It is 4."
) -> TraceText:
    return TraceText(
        id=own, problem_id=problem, sample=sample, reasoning=reasoning, answer=answer,
        finish="stop", error=None, completion_tokens=len(reasoning) // 4,
    )  # fmt: skip


ROWS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "near": lambda asked: near(asked.peers, asked.small),
    "contamination": lambda asked: contamination(asked.small),
    "quality": lambda asked: by_row(asked.small),
    "whole": lambda asked: whole(asked.small),
}


def chosen(names: Sequence[str]) -> Iterator[str]:
    """The rows that are asked for; all by default."""
    yield from names or ROWS


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []])
    parser.add_argument("--peers", help="a Python with rensa, datasketch and datatrove")
    parser.add_argument("--small", type=int, default=1, help="divide all sizes by this, to try")
    asked = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in chosen(asked.rows):
        found[name] = ROWS[name](asked)
        found["provenance"] = provenance(0)
        if asked.small == 1:
            RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
