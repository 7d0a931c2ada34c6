"""The rows of benchmarks/verify.py that concern mathematics.

Rates on one core are rows per second of processor time, of all processes together, so that a busy
machine does not change them; those of 1 and 2 workers, and of hostile answers, are of the clock.
"""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filter.extract import final_answer
from filter.verify.maths import maths, maths_many
from filter.verify.maths.grade import MEMORY
from filter.verify.pool import Pool, close_pools
from tracestill.records import Problem

ROOT = Path(__file__).parent.parent
TABLES = ROOT / "tests" / "tables"
Pair = tuple[str, str]


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def problem(reference: str) -> Problem:
    """A problem of which only the reference counts."""
    return Problem(id="p", prompt="?", reference=reference, kind="math", source="benchmark")


def judged(pairs: list[Pair], **options: Any) -> list[str]:
    """The outcomes of (reference, answer) pairs."""
    found = maths_many([(problem(reference), answer) for reference, answer in pairs], **options)
    return [judgement.outcome for judgement in found]


def by_math_verify(reference: str, answer: str) -> bool:
    """What math-verify alone says, as its documentation uses it."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(reference), parse(answer)))
    except Exception:  # whatever it raises, it has not accepted
        return False


def processor_seconds(work: Callable[[], Any]) -> float:
    """The processor time that work takes, in this process and in workers, which it ends."""

    def now() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    close_pools()  # only what has ended is counted
    begin = now()
    work()
    close_pools()
    return now() - begin


def gsm8k(data: Path) -> tuple[list[Pair], list[bool]]:
    """Solutions of GSM8K problems by four models, with their labels."""
    pairs: list[Pair] = []
    labels: list[bool] = []
    for row in lines(data / "gsm8k_model_solutions.jsonl"):
        for model in row.values():
            if isinstance(model, dict):
                pairs.append((row["ground_truth"], model["solution"]))
                labels.append(model["is_correct"])
    return pairs, labels


def labels_row(data: Path) -> dict[str, Any]:
    """The 5,276 labels of GSM8K solutions."""
    pairs, labels = gsm8k(data)
    outcomes = judged(pairs)
    differing = [
        {"reference": pair[0][-60:], "answer": pair[1][-80:], "label": label, "outcome": outcome}
        for pair, label, outcome in zip(pairs, labels, outcomes, strict=True)
        if (outcome == "correct") != label
    ]
    return {"rows": len(pairs), "agreeing": len(pairs) - len(differing), "differing": differing}


_PLAIN = (
    (re.compile(r"(\d) ?\\frac\{(\d+)\}\{(\d+)\}"), r"\1 \2/\3"),
    (re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\sqrt\{([^{}]*)\}"), r"sqrt(\1)"),
    (re.compile(r"\\pi(?![a-z])"), "pi"),
    (re.compile(r"\\(?:left|right)(?![a-z])"), ""),
    (re.compile(r"\^\\circ"), " degrees"),
    (re.compile(r"\\(?:text|mbox)\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\cup"), " U "),
)
_UNICODE = (
    ("\\frac{1}{2}", "½"), ("\\pi", "π"), ("\\infty", "∞"), ("^\\circ", "°"), ("^2", "²"),
    ("^3", "³"), ("\\pm", "±"), ("\\cup", "∪"), ("\\in ", "∈ "), ("-", "−"),
)  # fmt: skip


def forms(reference: str) -> dict[str, str]:
    """Six ways in which people write an answer."""
    plain = reference
    for pattern, replacement in _PLAIN:
        plain = pattern.sub(replacement, plain)
    fancy = re.sub(r"\\sqrt\{(\d+)\}", r"√\1", reference)
    for latex, character in _UNICODE:
        fancy = fancy.replace(latex, character)
    dense = re.sub(r"(?<![a-zA-Z]) (?=[^a-zA-Z])|(?<![a-zA-Z\\]) ", "", reference)
    wide = reference.replace("(", "\\left( ").replace(")", " \\right)").replace("+", " + ")
    wide = (
        wide.replace("\\frac", "\\dfrac")
        .replace("\\left\\left", "\\left")
        .replace("\\right\\right", "\\right")
    )
    return {
        "boxed, \\dfrac and spaces": f"So $\\boxed{{{wide} }}$.",
        "boxed, no spaces": f"\\[\\boxed{{{dense}}}\\]",
        "a sentence": f"Therefore, the final answer is ${reference}$.",
        "Markdown": f"Some steps.\n\n**Answer:** \\( {reference} \\)",
        "plain text": f"\\boxed{{{plain}}}",
        "Unicode": f"\\boxed{{{fancy}}}",
    }


def golds(data: Path) -> list[str]:
    """The references of MATH-500, AIME 2024 and AMC 2023."""
    found = []
    for name in ("math500", "aime24", "amc23"):
        for row in lines(data / f"{name}.jsonl"):
            answer = row["answer"]
            found.append(f"{answer:g}" if isinstance(answer, float) else str(answer))
    return found


def golds_row(data: Path) -> dict[str, Any]:
    """References against themselves in six forms, and every one against every other."""
    references = golds(data)
    pairs = [(r, form) for r in references for form in forms(r).values()]
    names = [name for r in references for name in forms(r)]
    outcomes = judged(pairs)
    refused = [
        {"reference": pair[0], "answer": pair[1], "form": name, "outcome": outcome}
        for pair, name, outcome in zip(pairs, names, outcomes, strict=True)
        if outcome != "correct"
    ]
    distinct = sorted(set(references))
    others = [(a, f"\\boxed{{{b}}}") for a in distinct for b in distinct if a != b]
    accepted = [
        f"{a} ← {b[7:-1]}"
        for (a, b), outcome in zip(others, judged(others), strict=True)
        if outcome == "correct"
    ]
    return {
        "references": len(references), "forms": len(pairs), "correct": len(pairs) - len(refused),
        "refused": refused, "other_pairs": len(others), "others_accepted": accepted,
    }  # fmt: skip


def rate_row(data: Path) -> dict[str, Any]:
    """Rows a second of 6,076 real solutions on one core, beside math-verify alone."""
    pairs, labels = gsm8k(data)
    pairs = [(final_answer(reference) or "", answer) for reference, answer in pairs]
    for row in lines(data / "math_cot_100x8.jsonl"):
        for solution, score in zip(row["code"], row["score"], strict=True):
            pairs.append((row["gt"], solution))
            labels.append(score)
    ours: list[str] = []
    theirs: list[bool] = []
    seconds = processor_seconds(lambda: ours.extend(judged(pairs, workers=1)))
    warm = [(r, a) for r, a in pairs if r]
    again = time.process_time()
    judged(warm, workers=1)
    again = time.process_time() - again
    begin = time.process_time()
    for reference, answer in pairs:
        theirs.append(by_math_verify(f"\\boxed{{{reference}}}", answer))
    alone = time.process_time() - begin
    differing = [
        {"reference": r, "extracted": final_answer(a), "ours": o, "math_verify": t, "label": label}
        for (r, a), o, t, label in zip(pairs, ours, theirs, labels, strict=True)
        if (o == "correct") != t
    ]
    return {
        "rows": len(pairs), "rows_per_second": len(pairs) / seconds,
        "rows_per_second_without_start_of_worker": len(warm) / again,
        "math_verify_rows_per_second": len(pairs) / alone, "times": alone / seconds,
        "differing": differing,
        "differing_where_the_label_is_ours": sum(
            (row["ours"] == "correct") == row["label"] for row in differing
        ),
    }  # fmt: skip


def traces_row() -> dict[str, Any]:
    """Rows a second of long traces."""
    found: dict[str, Any] = {}
    step = "Let me check: if $x = 3$ then (2x + 1) = 7, so the answer is perhaps {7}, or a box. "
    for size in (8_000, 16_000, 32_000, 64_000):
        text = (step * (size // len(step) + 1))[:size]
        shapes = {
            "reasoning": f"<think>{text}</think>The answer is \\boxed{{\\frac{{1}}{{2}}}}.",
            "no reasoning": f"{text} Thus \\boxed{{\\frac{{1}}{{2}}}}.",
            "no box": f"{text}\nThe answer is 1/2.",
        }
        for name, trace in shapes.items():
            pairs = [(problem("0.5"), trace)] * 2_000
            best = min(_process_time(lambda pairs=pairs: maths_many(pairs)) for _ in range(3))
            found[f"{size // 1000}k, {name}"] = 2_000 / best
        begin = time.process_time()
        for _ in range(20):
            by_math_verify("\\boxed{0.5}", shapes["no reasoning"])
        found[f"{size // 1000}k, math-verify"] = 20 / (time.process_time() - begin)
    return found


def _process_time(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def scaling_row() -> dict[str, Any]:
    """Rows a second by the clock with one worker and with two, on rows that need sympy.

    Each turn has fresh processes, since sympy remembers what it has computed.
    """
    pairs = [pair for n in range(2, 102) for pair in _needing_sympy(n)]
    spent: dict[int, list[float]] = {1: [], 2: []}
    for workers in (1, 2, 2, 1, 1, 2):
        close_pools()
        judged([pair for n in range(200, 204) for pair in _needing_sympy(n)], workers=workers)
        begin = time.perf_counter()
        judged(pairs, workers=workers)
        spent[workers].append(time.perf_counter() - begin)
    one, two = (len(pairs) / statistics.median(spent[workers]) for workers in (1, 2))
    return {"rows": len(pairs), "one": one, "two": two, "times": two / one, "seconds": spent}


def _needing_sympy(n: int) -> list[Pair]:
    return [
        (rf"\sin^2 x + {n}", rf"\boxed{{{n + 1}-\cos^2 x}}"),
        (rf"{n} \ln 2", rf"\boxed{{\ln 2^{{{n}}}}}"),
        (rf"\sqrt[3]{{{2 * n**3}}}", rf"\boxed{{{n}\sqrt[3]{{2}}}}"),
    ]


def built(recipe: Any) -> str:
    """A text from its recipe in the table."""
    if isinstance(recipe, str):
        return recipe
    return "".join(
        part if isinstance(part, str) else part["repeat"] * part["times"] for part in recipe
    )


def hostile_row(seconds: float) -> dict[str, Any]:
    """Hostile answers, as the verifier meets them and, without its guard, straight to workers."""
    rows = lines(TABLES / "maths_hostile.jsonl")
    good = (r"\sin^2 x", r"1-\cos^2 x")
    judge = maths(seconds=seconds)
    judge(problem(good[0]), f"\\boxed{{{good[1]}}}")
    late: list[str] = []
    fooled: list[str] = []
    leaks = 0
    longest = 0.0
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for row in rows:
                answer = built(row["answer"])
                text = answer if row.get("plain") else f"\\boxed{{{answer}}}"
                begin = time.perf_counter()
                outcome = judge(problem(built(row.get("reference", "4"))), text).outcome
                taken = time.perf_counter() - begin
                longest = max(longest, taken)
                if taken > seconds + 1.5:
                    late.append(row["what"])
                if outcome == "correct":
                    fooled.append(row["what"])
                leaks += judge(problem(good[0]), f"\\boxed{{{good[1]}}}").outcome != "correct"
            left = sorted(path.name for path in Path(folder).iterdir())
        finally:
            os.chdir(here)
    pool = Pool("filter.verify.maths:open_comparer", workers=1, seconds=1.0, memory=MEMORY)
    pool.map([good])
    straight = {"rows": 0, "ended_by_the_bound": 0, "late": 0, "leaks": 0}
    for row in rows:
        answer = built(row["answer"])
        if len(answer) > 100_000:
            continue
        begin = time.perf_counter()
        straight["ended_by_the_bound"] += pool.map([("4", answer)])[0].error is not None
        straight["rows"] += 1
        straight["late"] += time.perf_counter() - begin > 2.5
        straight["leaks"] += pool.map([good])[0].value[0] != "correct"
    pool.close()
    close_pools()
    return {
        "rows": len(rows), "bound": seconds, "longest_seconds": longest, "late": late,
        "judged_correct": fooled, "leaks": leaks, "files_left": left, "without_guard": straight,
        "largest_worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }  # fmt: skip


def known_row() -> dict[str, Any]:
    """The table of what is known to go wrong."""
    rows = lines(TABLES / "maths_known.jsonl")
    pairs = [(row["reference"], f"\\boxed{{{row['answer']}}}") for row in rows]
    wrong = [
        row
        for row, outcome in zip(rows, judged(pairs), strict=True)
        if (outcome == "correct") != row["right"]
    ]
    theirs = sum(
        by_math_verify(f"\\boxed{{{reference}}}", answer) == row["right"]
        for row, (reference, answer) in zip(rows, pairs, strict=True)
    )
    return {"rows": len(rows), "right": len(rows) - len(wrong), "wrong": wrong,
            "math_verify_right": theirs}  # fmt: skip


def peer_cases(checkout: Path) -> list[dict[str, Any]]:
    """The (reference, answer, right) cases in the tests of a checkout of Math-Verify."""
    cases: list[dict[str, Any]] = []
    for path in sorted((checkout / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and len(node.args) > 1):
                continue
            if getattr(node.func, "attr", "") != "parametrize":
                continue
            try:
                table = ast.literal_eval(node.args[1])
            except ValueError:  # built by code: its rows are no facts to be read off
                continue
            for row in table:
                if isinstance(row, tuple) and len(row) == 4 and row[3] == 6:
                    row = row[:3]  # the fourth is its default precision
                match row:
                    case (str(reference), str(answer), bool(right) | int(right)):
                        cases.append(
                            {"reference": reference, "answer": answer, "right": bool(right)}
                        )
    return cases


# What its tests expect and mathematics does not: an answer over two lines is none, 1 + 1/e is
# 1 - 1/e, and whoever says that 1/2 = 10/9 says 10/9.
_MISTAKEN = {
    ("$9$", "Answer $ \n 9 \n $"),
    ("$9$", "Answer \\( \n 9 \n \\)"),
    (r"$1 - \frac{1}{\mathrm{e}}$", r"$1 + \frac{1}{\mathrm{e}}$"),
    ("$10/9$", r"Answer $ \frac{1}{2} \$ = \frac{10}{9} $"),
}


def peer_cases_row(checkout: Path) -> dict[str, Any]:
    """Math-Verify's own test cases, as it expects them and with its mistakes set right."""
    rows = peer_cases(checkout)
    ours = judged([(row["reference"], row["answer"]) for row in rows])
    theirs = [by_math_verify(row["reference"], row["answer"]) for row in rows]
    mistaken = [(row["reference"], row["answer"]) in _MISTAKEN for row in rows]
    assert sum(mistaken) == len(_MISTAKEN), "the cases are not those that were read"
    said = {"ours": [outcome == "correct" for outcome in ours], "math_verify": theirs}
    return {
        "rows": len(rows),
        "right": {
            who: sum(s == row["right"] for s, row in zip(found, rows, strict=True))
            for who, found in said.items()
        },
        "right_with_mistakes_set_right": {
            who: sum(
                s == (row["right"] != wrong)
                for s, row, wrong in zip(found, rows, mistaken, strict=True)
            )
            for who, found in said.items()
        },
        "differing": [
            {
                **{k: str(row[k])[-60:] for k in ("reference", "answer", "right")},
                "ours": outcome,
                "math_verify": their,
                "mistaken": wrong,
            }
            for row, outcome, their, wrong in zip(rows, ours, theirs, mistaken, strict=True)
            if (outcome == "correct") != row["right"] or their != row["right"]
        ],
    }
