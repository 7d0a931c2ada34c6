"""Read the graders' test cases of lighteval and NeMo-Skills, each with what its own grader says.

Run by `verify_peers_cases.py` with a Python that has the peer's requirements and pytest:
`python benchmarks/peer_cases.py lighteval|nemo_skills CHECKOUT`. Prints the cases, and the versions
of what the peer grades with, as JSON. The peer's tests are called with their own arguments, and its
comparison is listened to; what a test asserts of it is not heeded.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Case = dict[str, Any]
GRADES_WITH = {
    "lighteval": ("latex2sympy2_extended", "sympy"),
    "nemo_skills": ("math-verify", "latex2sympy2_extended", "sympy"),
}


def arguments(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The arguments that a parametrized test is called with, by name, a dictionary a case."""
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            names = [name.strip() for name in mark.args[0].split(",")]
            for row in mark.args[1]:
                yield dict(zip(names, row if len(names) > 1 else (row,), strict=True))


def tests(module: Any) -> Iterator[tuple[str, Callable[..., None]]]:
    """The tests of a module, in order, by name."""
    yield from ((name, test) for name, test in vars(module).items() if name.startswith("test_"))


def called(test: Callable[..., None], **values: Any) -> bool:
    """Whether a test passes."""
    try:
        test(**values)
    except AssertionError:
        return False
    return True


def lighteval(checkout: Path) -> Iterator[Case]:
    """Cases of the extractive match: the tests' own, and those of the metrics built on it."""
    folder = checkout / "tests" / "unit" / "metrics"
    sys.path[:0] = [str(checkout / "src"), str(folder)]
    samples = _listened_samples()  # before the metrics are made, which keep the method
    module = importlib.import_module("test_extractive_match")
    compare = module.compare_strings
    heard: list[Case] = []

    def listening(gold: str, pred: str, *rest: Any, **options: Any) -> Any:
        said = compare(gold, pred, *rest, **options)
        targets = options.get("match_types", rest[1] if len(rest) > 1 else ())
        kind = "choice" if "NativeLetters" in targets else "math"
        heard.append({"reference": gold, "answer": pred, "kind": kind, "peer": bool(said)})
        return said

    module.compare_strings = listening
    for name, test in tests(module):
        for values in arguments(test):
            called(test, **values)
            for case in heard:
                yield {"from": name, "expected": bool(values["expected"]), **case}
            heard.clear()
    yield from _of_metrics(folder, samples)


def _listened_samples() -> list[Case]:
    """A list to which each sample comes that the extractive match judges."""
    dynamic = importlib.import_module("lighteval.metrics.dynamic_metrics")
    metric = dynamic.MultilingualExtractiveMatchMetric
    compute = metric.compute
    heard: list[Case] = []

    def listening(self: Any, doc: Any, model_response: Any) -> Any:
        said = compute(self, doc=doc, model_response=model_response)
        for text in model_response.final_text:
            heard.append({"reference": doc.get_golds()[0], "answer": text, "peer": bool(said)})
        return said

    metric.compute = listening
    return heard


def _of_metrics(folder: Path, heard: list[Case]) -> Iterator[Case]:
    """The samples in the tables of the metrics for mathematics and for letters. Where a table
    gives a score of several samples, each is expected to be judged as the metric did that got it.
    """
    tables = importlib.import_module("test_metrics_automated")
    heard.clear()
    tester = tables.AutomatedMetricTester()
    for path in sorted(folder.glob("test_cases/*.json")):
        if not any(part in path.stem for part in ("math", "latex", "gpqa", "letters")):
            continue
        for row in json.loads(path.read_text(encoding="utf-8"))["test_cases"]:
            result = tester.run_test_case(tables.MetricTestCase(**row))
            kind = "choice" if "gpqa" in path.stem or "letters" in path.stem else "math"
            prompt = row["doc"]["query"] if kind == "choice" else "?"
            for case in heard:
                expected = case["peer"] if result["success"] else None
                yield {
                    "from": path.stem,
                    "expected": expected,
                    "kind": kind,
                    "prompt": prompt,
                } | case
            heard.clear()


def nemo_skills(checkout: Path) -> Iterator[Case]:
    """Cases of `math_equal`, in both orders as its tests have them."""
    sys.path[:0] = [str(checkout), str(checkout / "tests")]
    module = importlib.import_module("test_math_equal")
    compare = module.math_equal
    for name, test in tests(module):
        for values in arguments(test):
            (pair,) = values.values()
            for reference, answer in (pair, pair[::-1]):
                said = str(answer) + " " * str(answer).endswith("\\")  # else it would open the box
                yield {
                    "from": name,
                    "kind": "math",
                    "reference": str(reference),
                    "answer": None if answer is None else f"\\boxed{{{said}}}",
                    "expected": "incorrect" not in name,
                    "peer": bool(compare(reference, answer)),
                }


def main() -> None:
    """The command line."""
    peer, checkout = sys.argv[1], Path(sys.argv[2]).resolve()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # what the peer prints is not the cases
        cases = list({"lighteval": lighteval, "nemo_skills": nemo_skills}[peer](checkout))
    versions = {name: importlib.metadata.version(name) for name in GRADES_WITH[peer]}
    print(json.dumps({"cases": cases, "versions": versions}, ensure_ascii=False))


if __name__ == "__main__":
    main()
