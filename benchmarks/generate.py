"""What sampling costs: `python benchmarks/generate.py [ROW …]`.

Rows, all of them if none is named: `engine` (tokens/s through `generate` and through vLLM alone, on
the same engine and prompts; with and without seeds), `client` (requests/s of the client of servers
and of bare clients), `problems` (memory with a million problems), `journal` (the time
until a million traces of 30 kB are resumed; writes 31 GB below --folder), `until_correct` (teacher
tokens for a verified trace). Each row runs in a process of its own. Writes
benchmarks/results/generate.json, other rows' results left as they are.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.remove(str(Path(__file__).parent))  # or this file would be what `generate` names


from generate.engine import Request, Response
from generate.job import SamplingJob, teacher_fingerprint
from generate.ledger import INDEXED
from generate.problems import load_problems
from generate.sampling import read_traces, sample_missing
from generate.stopping import Rule, fixed
from tracestill.recipe.generate import Prices
from tracestill.recipe.loading import load_recipe
from tracestill.records import (
    Journal,
    Problem,
    Sampling,
    StageResult,
    Table,
    Teacher,
    Verdict,
    as_manifest,
    open_table,
    problem_id,
    trace_id,
    write_manifest,
    write_table,
)
from tracestill.records import journal as journals
from tracestill.records.progress import ignore_progress
from tracestill.records.verifier import Verifier
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
MILLION = 1_000_000


def sampling(max_tokens: int = 320) -> Sampling:
    """The quickstart's way of sampling."""
    return Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=max_tokens, seed=0)


def teacher(max_tokens: int = 320) -> Teacher:
    """A teacher by name."""
    return Teacher(
        model="teacher", revision=None, content="c", engine="vllm", engine_version="",
        quantisation=None, provider="local", sampling=sampling(max_tokens),
    )  # fmt: skip


def job_of(folder: Path, engine: Any, rule: Rule, **options: Any) -> SamplingJob:
    """A job for an engine, with the journal in a folder."""
    return SamplingJob(
        teacher=teacher(),
        open_engine=lambda: engine,
        rule=rule,
        journal=folder / "journal.jsonl",
        seed=0,
        prices=Prices(prompt=1.0, completion=1.0),
        **options,
    )


def quickstart_problems() -> list[Problem]:
    """The problems that the quickstart distils from."""
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml")
    return load_problems(recipe.problems.train, instruction=recipe.problems.instruction)[0]


def engine_row(folder: Path, repeats: int = 7) -> dict[str, Any]:
    """Tokens/s through `sample_missing` into a durable journal, and of `vllm.LLM.generate` given
    all prompts at once: the same engine, prompts and seeds, in turn.
    """
    from generate.vllm_engine import Model, VllmEngine

    path = str(ROOT / "miniature" / "teacher")
    ours = VllmEngine(Model(path=path, max_model_len=512), sampling())
    import vllm
    from vllm import SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

    with mock.patch.object(LLMEngine, "from_engine_args", return_value=ours.engine):
        llm = vllm.LLM(model=path)  # around the engine that is there
    assert llm.llm_engine is ours.engine
    ours.close = lambda: None  # type: ignore[method-assign]
    problems = quickstart_problems()
    messages = [[{"role": "user", "content": p.prompt}] for p in problems]
    rendered = [ours._render(Request(id="", messages=m, seed=None))[0] for m in messages]

    def raw(*, seeded: bool) -> float:
        params = [
            SamplingParams(
                temperature=1.0, top_p=1.0, max_tokens=320, seed=n if seeded else None,
                skip_special_tokens=False,
            )
            for n in range(len(rendered))
        ]  # fmt: skip
        prompts = [{"prompt_token_ids": ids} for ids in rendered]
        begin = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - begin
        return sum(len(output.outputs[0].token_ids) for output in outputs) / seconds

    def through() -> float:
        journal = Path(tempfile.mkdtemp(dir=folder))
        job = job_of(journal, ours, fixed(1))
        begin = time.perf_counter()
        ledger = sample_missing(problems, job, ignore_progress)
        seconds = time.perf_counter() - begin
        return sum(t.completion_tokens for t in read_traces(problems, job, ledger)) / seconds

    ways: dict[str, Callable[[], float]] = {
        "generate": through,
        "vllm": lambda: raw(seeded=True),
        "vllm_without_seeds": lambda: raw(seeded=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        # Which comes first alternates, since the machine's speed drifts.
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            if name == "vllm_without_seeds" and turn % 2:
                continue
            rate = ways[name]()
            if turn:  # the first warms up
                rates[name].append(rate)
    ratios = [a / b for a, b in zip(rates["generate"], rates["vllm"], strict=True)]
    seeds = [a / b for a, b in zip(rates["vllm"][1::2], rates["vllm_without_seeds"], strict=True)]
    return {
        "prompts": len(problems),
        "tokens_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "all": rates,
        "generate_to_vllm": statistics.median(ratios),
        "generate_to_vllm_each": ratios,
        "seeds_to_none": statistics.median(seeds),
    }


class Instant:
    """An engine that answers at once."""

    name = "instant"
    version = "1"
    continues = False

    def __init__(self) -> None:
        self.first = 0.0
        self.answered = 0

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `generate.engine.Engine.stream`."""
        for request in requests:
            self.first = self.first or time.perf_counter()
            if request is None:
                yield None
                continue
            self.answered += 1
            yield Response(
                id=request.id, raw="<think>\nso\n</think>\n\n\\boxed{4}", token_ids=None,
                prefill="", finish="stop", error=None, prompt_tokens=10, completion_tokens=10,
                new_tokens=10, seconds=0.0,
            )  # fmt: skip

    def close(self) -> None:
        """Nothing is held."""


def _problem(number: int) -> Problem:
    prompt = f"What is {number} + {number}? " + "Think about it well and answer. " * 12
    return Problem(
        id=problem_id(prompt, str(2 * number)), prompt=prompt, reference=str(2 * number),
        kind="math", source="benchmark",
    )  # fmt: skip


def _million(folder: Path) -> Table[Problem]:
    shards = write_table(folder, "train", Problem, map(_problem, range(MILLION)))
    result = StageResult(rows_in=MILLION, rows_out=MILLION, tables={"train": shards})
    manifest = as_manifest(folder, result, stage="problems", fingerprint="f", seconds=0.0)
    write_manifest(folder, manifest)
    return open_table(folder, "train", Problem)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _right(pairs: Any) -> list[Verdict]:
    return [
        Verdict(
            trace_id=trace.id, verifier="v", extracted="4", detail="", seconds=0.0,
            outcome="correct",
        )
        for _, trace in pairs
    ]  # fmt: skip


def problems_row(folder: Path) -> dict[str, Any]:
    """Peak memory above that before, with a million problems, each sampled and verified once."""
    problems = _million(folder)
    begin, before = time.perf_counter(), _peak_mb()
    rule = Rule(min=1, max=8, until_correct=1)
    verifier = Verifier(verify=_right, names=["v"])
    job = job_of(folder, Instant(), rule, verifier=verifier)
    ledger = sample_missing(problems, job, ignore_progress)
    assert ledger.finished == MILLION
    seconds = time.perf_counter() - begin
    return {
        "problems": MILLION,
        "before_mb": before,
        "above_mb": _peak_mb() - before,
        "seconds": seconds,
    }


def journal_row(folder: Path) -> dict[str, Any]:
    """The time from the start to the first new request, where a million traces of 30 kB are there
    and a thousand are not.
    """
    problems = _million(folder)
    identity = teacher_fingerprint(teacher(), None)
    row = {
        "raw": "x" * 15_000, "raw_reasoning": "y" * 14_000, "token_ids": None, "prefill": "",
        "closed_at": None, "finish": "stop", "error": None, "prompt_tokens": 10,
        "completion_tokens": 9_000, "new_tokens": 9_000, "seconds": 1.0, "max_tokens": 320,
        "spent": 9_010, "paid": 0.1, "cost": 0.1, "elapsed": 3.0, "teacher": {},
    }  # fmt: skip
    begin = time.perf_counter()
    with Journal(folder / "journal.jsonl", INDEXED) as journal:
        for number, problem in enumerate(problems.column("id")):
            if number % 1_000:
                identity_ = trace_id(problem, identity, 0)
                journal.append({"id": identity_, "problem_id": problem, "sample": 0, **row})
    written = time.perf_counter() - begin
    size = (folder / "journal.jsonl").stat().st_size

    def resume(count: int) -> float:
        engine = Instant()
        engine.stream = lambda requests: iter(_first(engine, requests))  # type: ignore
        start = time.perf_counter()
        problems = open_table(folder, "train", Problem)
        sample_missing(problems, job_of(folder, engine, fixed(1)), ignore_progress)
        return engine.first - start

    def _first(engine: Instant, requests: Iterable[Request | None]) -> list[Response | None]:
        next(iter(requests))
        engine.first = time.perf_counter()
        return []

    seconds = [resume(n) for n in range(3)]
    return {
        "traces": MILLION - MILLION // 1_000,
        "journal_gb": size / 1e9,
        "written_seconds": written,
        "resumed_seconds": statistics.median(seconds),
        "resumed_each": seconds,
        "index_mb": journals.index_path(folder / "journal.jsonl").stat().st_size / 1e6,
        "peak_mb": _peak_mb(),
    }


def client_row(folder: Path) -> dict[str, Any]:
    """Requests/s of the client of servers, beside bare clients: see generate_client.py."""
    path = Path(__file__).with_name("generate_client.py")
    spec = importlib.util.spec_from_file_location("generate_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rates: dict[str, Any] = module.rates(5, 3_000)
    return rates


def until_correct_row(folder: Path, seeds: int = 3) -> dict[str, Any]:
    """Teacher tokens for each verified trace that is kept (one a problem): with sampling until one
    is correct, and with the fixed number of samples that solves as many problems.
    """
    from filter.verify import by_rules
    from generate.vllm_engine import Model, VllmEngine

    verifier = by_rules()
    model = Model(path=str(ROOT / "miniature" / "teacher"), max_model_len=512)
    engine = VllmEngine(model, sampling())
    engine.close = lambda: None  # type: ignore[method-assign]
    config = load_recipe(ROOT / "recipes" / "quickstart.yaml").problems.train
    found = []
    for seed in range(seeds):
        # Near seeds of reasoning-gym give the same problems, shifted by their difference.
        far = 1_000_000 * (seed + 1)
        sources = [source.model_copy(update={"size": 100, "seed": far}) for source in config]
        problems, _ = load_problems(sources)
        most = 8
        place = Path(tempfile.mkdtemp(dir=folder))
        job = job_of(place, engine, Rule(min=1, max=most, until_correct=1), verifier=verifier)
        ledger = sample_missing(problems, job, ignore_progress)
        traces = list(read_traces(problems, job, ledger))
        solved = sum(ledger.counts(row).correct > 0 for row in range(len(problems)))
        adaptive = sum(t.prompt_tokens + t.completion_tokens for t in traces) / solved
        place = Path(tempfile.mkdtemp(dir=folder))
        plain = job_of(place, engine, fixed(most), verifier=verifier)
        ledger = sample_missing(problems, plain, ignore_progress)
        by_sample: dict[int, int] = {}
        for trace in read_traces(problems, plain, ledger):
            tokens = trace.prompt_tokens + trace.completion_tokens
            by_sample[trace.sample] = by_sample.get(trace.sample, 0) + tokens
        correct = _first_correct(plain)
        # The smallest fixed number that solves as many problems.
        for n in range(1, most + 1):
            yielded = sum(first < n for first in correct)
            if yielded >= solved or n == most:
                break
        even = sum(by_sample[k] for k in range(n)) / yielded
        found.append(
            {
                "problems": len(problems), "solved": solved, "tokens_until_correct": adaptive,
                "fixed": n, "solved_by_fixed": yielded, "tokens_fixed": even,
                "ratio": adaptive / even,
            }
        )  # fmt: skip
    return {"seeds": found, "ratio": statistics.median(row["ratio"] for row in found)}


def _first_correct(job: SamplingJob) -> list[int]:
    """For each solved problem the index of its first correct sample."""
    from generate.verdicts import read_verdicts

    assert job.verifier is not None
    first: dict[str, int] = {}
    for judged in read_verdicts(job.verdicts, job.verifier.names):
        if judged.correct(None):
            problem = judged.problem_id
            first[problem] = min(judged.sample, first.get(problem, judged.sample))
    return list(first.values())


ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "engine": engine_row,
    "client": client_row,
    "problems": problems_row,
    "journal": journal_row,
    "until_correct": until_correct_row,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if arguments.in_process:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            result = ROWS[arguments.rows[0]](folder)
        finally:
            shutil.rmtree(folder)
        print("\nRESULT " + json.dumps(result))
        return
    path = ROOT / "benchmarks" / "results" / "generate.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.rows or ROWS:
        command = [sys.executable, __file__, name, "--in-process"]
        command += ["--folder", str(arguments.folder)]
        load = os.getloadavg()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
        found[name] = json.loads(line.removeprefix("RESULT "))
        found[name] |= {"load_before": load, "provenance": provenance(0)}
        shown = {k: v for k, v in found[name].items() if k != "provenance"}
        print(name, json.dumps(shown, indent=1), flush=True)
        path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
