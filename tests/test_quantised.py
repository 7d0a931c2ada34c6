"""What a student's GGUF files lose, as llama.cpp answers with them.

They need llama.cpp's tools, which `make gguf` fetches and builds.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_tracestill
from training import ROOT, STUDENT
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.llama_cpp import call, converter
from generate.engine import Request, Response
from generate.llama_cpp_engine import LlamaCppEngine
from tracestill.evaluate.quantised import AsEvaluated, loss_of, spread
from tracestill.evaluate.statistics import paired_difference
from tracestill.recipe.rules import RULES
from tracestill.records import Problem, Sampling, read_table
from tracestill.records.progress import ignore_progress

TEACHER = ROOT / "miniature" / "teacher"  # it answers, as a trained student does
GREEDY = Sampling(temperature=0, top_p=1, top_k=-1, max_tokens=160, seed=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The miniature teacher and the untrained student in f16."""
    try:
        tools = str(converter())
    except ValueError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("gguf")
    made = {"teacher": folder / "teacher.gguf", "student": folder / "student.gguf"}
    for model, file in ((TEACHER, made["teacher"]), (STUDENT, made["student"])):
        call("convert", converter=tools, model=str(model), out=str(file), kind="f16", name="it")
    return made


def request(text: str, seed: int = 0, name: str = "") -> Request:
    messages = [{"role": "user", "content": text}]
    return Request(id=name or text, messages=messages, seed=seed)


def answered(engine: LlamaCppEngine, requests: list[Request]) -> dict[str, Response]:
    """The responses, where the caller now and then has no request."""
    polled: list[Request | None] = [None]
    for one in requests:
        polled += [one, None] if len(polled) % 3 else [one]
    found = [one for one in engine.stream(polled) if one is not None]
    engine.close()
    assert len(found) == len(requests)
    return {one.id: one for one in found}


def asked(n: int, terms: int = 3) -> str:
    sums = " + ".join(str((n * 7 + at * 3) % 9 + 1) for at in range(terms))
    return f"State the final answer to the following arithmetic problem: {sums} ="


def test_answers_that_llama_cpp_makes_together_are_those_of_the_model(
    files: dict[str, Path],
) -> None:
    """More of them than run at once, of several lengths: none reads another's tokens."""
    requests = [request(asked(n, terms=2 + n % 5)) for n in range(20)]
    engine = LlamaCppEngine(files["teacher"], TEACHER, GREEDY)
    found = answered(engine, requests)
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    model = AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32)
    for one in requests:
        ids = tokenizer.apply_chat_template(
            one.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            made = model.generate(ids, max_new_tokens=160, do_sample=False)[0, ids.shape[1] :]
        response = found[one.id]
        assert response.token_ids == made.tolist()
        assert response.finish == "stop"
        assert response.prompt_tokens == ids.shape[1]
        assert response.raw == tokenizer.decode(made[:-1])


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), [(2.5, 0.8, -1), (2.0, 1.0, 5)])
def test_tokens_are_drawn_as_often_as_the_sampling_says(
    files: dict[str, Path], temperature: float, top_p: float, top_k: int
) -> None:
    """As vLLM does it: temperature first, then top-p of what that leaves."""
    sampling = Sampling(
        temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=1, seed=0
    )  # fmt: skip
    count = 400
    requests = [request(asked(3), seed=n, name=str(n)) for n in range(count)]
    found = answered(LlamaCppEngine(files["student"], STUDENT, sampling), requests)
    drawn = Counter(one.token_ids[0] for one in found.values() if one.token_ids)
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    model = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(
        requests[0].messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    with torch.no_grad():
        chances = (model(ids).logits[0, -1].double() / temperature).softmax(-1)
    ranked, order = chances.sort(descending=True)
    ranked[ranked.cumsum(0) - ranked >= top_p] = 0
    if top_k > 0:
        ranked[top_k:] = 0
    chances = torch.zeros_like(chances).scatter(0, order, ranked / ranked.sum())
    assert all(chances[token] > 0 for token in drawn)
    apart = sum(abs(drawn[token] / count - float(p)) for token, p in enumerate(chances)) / 2
    expected = sum((float(p * (1 - p)) / count) ** 0.5 for p in chances) * 0.4  # of fair draws
    assert apart < 1.5 * expected + 0.005
    assert len(drawn) > 3


def test_the_same_seed_draws_the_same_answer_and_another_draws_another(
    files: dict[str, Path],
) -> None:
    sampling = Sampling(temperature=1.5, top_p=1, top_k=-1, max_tokens=24, seed=0)
    seeds = {"a": 5, "b": 5, "c": 6}
    requests = [request(asked(1), seed, name) for name, seed in seeds.items()]
    found = answered(LlamaCppEngine(files["student"], STUDENT, sampling), requests)
    assert found["a"].token_ids == found["b"].token_ids != found["c"].token_ids


def test_what_does_not_fit_is_cut_or_not_asked(files: dict[str, Path]) -> None:
    requests = [request(asked(1)), request(asked(2, terms=60))]
    sampling = Sampling(temperature=0, top_p=1, top_k=-1, max_tokens=3, seed=0)
    engine = LlamaCppEngine(files["teacher"], TEACHER, sampling, max_model_len=120)
    short, long = answered(engine, requests).values()
    if short.finish != "length":
        short, long = long, short
    assert (short.finish, short.completion_tokens) == ("length", 3)
    assert long.finish == "skipped"
    assert long.error
    assert long.error.endswith("fill the context of 120")


def test_a_file_that_is_none_is_told(files: dict[str, Path], tmp_path: Path) -> None:
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(files["teacher"].read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"^llama\.cpp can't load .*torn\.gguf$"):
        LlamaCppEngine(torn, TEACHER, GREEDY)


def test_where_greedy_answers_part_and_how_near_the_two_tokens_were(
    files: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    model = AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(
        request(asked(4)).messages, add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )["input_ids"]  # fmt: skip
    with torch.no_grad():
        whole = model.generate(ids, max_new_tokens=64, do_sample=False)
        logits = model(whole).logits[0, ids.shape[1] + 4]
    answer = whole[0, ids.shape[1] :].tolist()
    other = logits.topk(2).indices[1].item()
    expected = [*answer[:5], other, *answer[6:]]
    seen = call(
        "look", file=str(files["teacher"]), texts=["x"] * 2, prompts=[ids[0].tolist()] * 2,
        samples=[ids[0].tolist()], learnt=[4], logits=str(tmp_path / "logits.npy"), most=64,
        expected=[answer, expected],
    )  # fmt: skip
    same, (at, gap) = seen["parted"]
    assert same is None
    assert at == 5
    assert gap == pytest.approx(float(logits[answer[5]] - logits[other]), abs=0.05)


def test_a_difference_has_the_interval_that_its_name_says() -> None:
    """The truth lies in it some 95 times of 100, also where models hardly differ; more often
    where there are few problems with several answers.
    """
    draw = random.Random(0)
    for problems, samples, worse in ((50, 1, 0.02), (50, 1, 0.2), (20, 4, 0.1), (100, 1, 0.0)):
        hit = 0
        for _ in range(600):
            pairs = []
            for _ in range(problems):
                ease = draw.choice((0.05, 0.5, 0.9, 0.97))
                rates = (max(0.0, ease - worse), ease)
                pairs.append(
                    tuple(sum(draw.random() < p for _ in range(samples)) / samples for p in rates)
                )
            low, high = paired_difference(pairs).ci95  # type: ignore[arg-type]
            truth = -sum(min(worse, ease) for ease in (0.05, 0.5, 0.9, 0.97)) / 4
            hit += low <= truth <= high
        assert 0.93 < hit / 600 < 0.995, (problems, samples, worse)


def test_models_that_agree_on_every_problem_may_still_differ() -> None:
    same = paired_difference([(1, 1)] * 30 + [(0, 0)] * 20)
    low, high = same.ci95
    assert (same.difference, same.p) == (0, 1)
    assert -0.05 < low < -0.03
    assert high == -low
    assert paired_difference([(0, 1)] * 50).ci95[0] == -1
    with pytest.raises(ValueError, match="at least one problem"):
        paired_difference([])


def test_the_problems_asked_are_spread_over_all() -> None:
    problems: list[Any] = list(range(100))
    assert spread(problems, 4) == [0, 25, 50, 75]
    assert spread(problems, 500) == problems


def test_a_file_that_lost_much_is_seen_to(
    files: dict[str, Path], finished: Path, tmp_path: Path
) -> None:
    """Beside the teacher as the student that was exported: its own file and one of a model that
    knows nothing. What was answered is kept.
    """
    problems = list(read_table(finished / "problems", "heldout", Problem))
    merged = {one.id: [True] for one in problems}
    how = AsEvaluated(
        merged=TEACHER, sampling=GREEDY, samples=1, seed=0, system_prompt=None,
        chat_template=None, languages=False, max_model_len=256, trust_remote_code=False,
        rules=RULES,
    )  # fmt: skip

    def loss(name: str) -> Any:
        return loss_of(
            files[name], problems, merged, how, folder=tmp_path, progress=ignore_progress
        )

    good, bad = loss("teacher"), loss("student")
    assert good.merged == bad.merged == 1.0
    assert good.answers.pass_at_1 > 0.7
    assert good.ci95[1] > 0
    assert bad.answers.pass_at_1 == 0
    assert bad.difference == -1.0
    assert bad.ci95[1] < -0.4
    journal = tmp_path / "teacher.journal.jsonl"
    before = journal.read_bytes()
    assert loss("teacher") == good
    assert journal.read_bytes() == before


def test_an_export_tells_what_each_file_loses(files: dict[str, Path], copied: Path) -> None:
    done = run_tracestill("export", copied, "--quant", "q8_0,q4_k_m", "--problems", "6")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Each answers 6 held-out problems" in done.stdout
    figures = json.loads((copied / "finetune" / "gguf" / "gguf.json").read_text())
    for one in figures["files"]:
        made = one["pass_at_1"]
        assert made["answers"]["problems"] == made["answers"]["samples"] == 6
        low, high = made["ci95"]
        assert low <= made["difference"] <= high
        shown = f"{made['answers']['pass_at_1']:.1%}"
        points = f"{100 * made['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        row = next(line for line in done.stdout.splitlines() if line.startswith(one["kind"]))
        assert row.split()[-5:] == [shown, *points.split()]
        card = (copied / "finetune" / "gguf" / "README.md").read_text()
        assert f"| {shown} | {points} |" in card


def test_without_an_evaluation_an_export_says_what_makes_one(
    files: dict[str, Path], copied: Path
) -> None:
    (copied / "evaluate" / "manifest.json").unlink()
    done = run_tracestill("export", copied, "--quant", "q8_0")
    assert done.returncode == 0, done.stderr
    assert "`tracestill evaluate RECIPE` makes one" in done.stdout
    assert "pass@1 |" not in (copied / "finetune" / "gguf" / "README.md").read_text()
    done = run_tracestill("export", copied, "--quant", ",")
    assert done.stderr == "tracestill: --quant names no kind of file; write --quant q8_0,q4_k_m\n"
