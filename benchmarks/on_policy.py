"""What on-policy distillation adds to training on traces: `python -m benchmarks.on_policy`.

On the miniature, for each seed: the student learns from the teacher's correct traces; then, from
there, either goes on on-policy or, beginning anew, learns from the same traces for as much time of
the processor as both together (more epochs). Each is asked the same held-out problems once. Writes
benchmarks/results/on_policy.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from finetune.metrics import ON_POLICY
from finetune.on_policy import Distillation, distil_on_policy
from finetune.sample import Example
from finetune.tokenizer import load_tokenizer, prompt_text
from finetune.train import train
from generate.engine import Request
from generate.vllm_engine import Model, VllmEngine
from miniature import tasks
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.on_policy import OnPolicy
from tracestill.records import Sampling
from tracestill.records.progress import ignore_progress
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
STUDENT, TEACHER = str(ROOT / "miniature" / "student"), str(ROOT / "miniature" / "teacher")
TEMPLATE = ROOT / "recipes" / "templates" / "miniature.jinja"

STOP = "<|end|>"
HELDOUT = 110  # problems of each family, those of the quickstart


def settings(**values: Any) -> FinetuneSection:
    """The quickstart's student."""
    return FinetuneSection(
        student=STUDENT, template=str(TEMPLATE), stop=STOP, think="prefilled", learning_rate=3e-3,
        max_length=256, batch_size=2, holdout=0, **values,
    )  # fmt: skip


def sample(
    model: str, split: tasks.Split, seed: int, count: int, temperature: float, top_p: float
) -> list[tuple[tasks.Task, str, bool]]:
    """`count` problems of each family, what the model wrote, and whether it is right."""
    asked = {
        f"{seed} {family} {index}": task
        for family in tasks.FAMILIES
        for index, task in enumerate(itertools.islice(tasks.problems(split, family, seed), count))
    }
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=-1, max_tokens=320, seed=0)
    engine = VllmEngine(Model(path=model, max_model_len=512), sampling)
    requests = [
        Request(
            id=name,
            messages=[{"role": "user", "content": task.question}],
            seed=int.from_bytes(name.encode()) % 2**31,
        )
        for name, task in asked.items()
    ]
    wrote = {one.id: one.raw for one in engine.stream(requests) if one is not None}
    engine.close()
    return [
        (task, wrote[name], f"\\boxed{{{task.answer}}}" in wrote[name].rpartition("</think>")[2])
        for name, task in asked.items()
    ]


def solved(models: dict[str, Path]) -> dict[str, float]:
    """The share of the held-out problems that each model solves, asked as the quickstart asks."""
    return {
        name: statistics.mean(
            right for _, _, right in sample(str(path), "heldout", 2, HELDOUT, 0.6, 0.95)
        )
        for name, path in models.items()
    }


def traces(seed: int, count: int) -> list[Example]:
    """What the teacher wrote and got right, of `count` problems of each family."""
    made = []
    for index, (task, raw, right) in enumerate(sample(TEACHER, "distil", 10 + seed, count, 1, 1)):
        reasoning, _, answer = raw.partition("</think>")
        if right and "think>" not in answer:
            prompt = task.question
            made.append(
                Example(trace_id=str(index), prompt=prompt, reasoning=reasoning, answer=answer)
            )
    return made


def learn(examples: list[Example], epochs: float, folder: Path, seed: int) -> float:
    """Train on traces; how many seconds of the processor that took."""
    begin = time.process_time()
    train(
        examples, settings(epochs=epochs), student=STUDENT, template=TEMPLATE, folder=folder,
        seed=seed, progress=ignore_progress,
    )  # fmt: skip
    return time.process_time() - begin


def go_on(
    examples: list[Example], asked: OnPolicy, folder: Path, seed: int
) -> tuple[float, dict[str, Any]]:
    """Distil on-policy what `learn` left in `folder`: seconds of the processor, and figures."""
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(STUDENT, None, TEMPLATE)
    stop = tokenizer.convert_tokens_to_ids(STOP)
    texts = [prompt_text(tokenizer, example.prompt) for example in examples]
    after = folder / "after"
    after.mkdir()
    begin = time.process_time()
    job = Distillation(
        settings=settings(on_policy=asked),
        student=STUDENT,
        trained=folder / "adapter",
        tokenizer=tokenizer,
        prompts=tokenizer(texts, add_special_tokens=False)["input_ids"],
        endings=[stop],
        folder=after,
        seed=seed,
    )
    model, figures = distil_on_policy(job, ignore_progress)
    seconds = time.process_time() - begin
    merged = model.merge_and_unload()
    merged.generation_config = GenerationConfig(eos_token_id=stop)
    merged.save_pretrained(after / "merged")
    tokenizer.save_pretrained(after / "merged")
    losses = [json.loads(row)["loss"] for row in (after / ON_POLICY).read_text().splitlines()]
    tenth = max(1, len(losses) // 10)
    return seconds, {
        "traces": len(examples),
        "first_tenth_loss": statistics.mean(losses[:tenth]),
        "last_tenth_loss": statistics.mean(losses[-tenth:]),
        "sampled_tokens": figures.sampled_tokens,
        "ended_share": figures.ended_share,
    }


def train_all(
    examples: list[Example], epochs: float, asked: OnPolicy, folder: Path, seed: int
) -> dict[str, Any]:
    """The three students of a seed; what each took, and the figures of learning on-policy."""
    from trl import DistillationTrainer, SFTTrainer  # noqa: F401  (its import is nobody's time)

    first = learn(examples, epochs, folder / "first", seed)
    more, figures = go_on(examples, asked, folder / "first", seed)
    many = epochs * (1 + more / first)
    longer = learn(examples, many, folder / "longer", seed)
    seconds = {"trained": first, "on_policy": first + more, "trained_longer": longer}
    return {**figures, "longer_epochs": many, "processor_seconds": seconds}


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a process of its own: vLLM and trl hold on to threads and memory."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def measure(seed: int, count: int, epochs: float, asked: OnPolicy, folder: Path) -> dict[str, Any]:
    """One seed: pass@1 after the traces, then after each way to go on."""
    shutil.rmtree(folder, ignore_errors=True)
    examples = apart(traces, seed, count)
    figures = apart(train_all, examples, epochs, asked, folder, seed)
    models = {
        "trained": folder / "first" / "merged",
        "on_policy": folder / "first" / "after" / "merged",
        "trained_longer": folder / "longer" / "merged",
    }
    found = {"pass_at_1": apart(solved, models), **figures}
    print(f"seed {seed}", json.dumps(found), flush=True)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100, help="problems of each family")
    parser.add_argument("--epochs", type=float, default=8.0, help="of the traces")
    parser.add_argument("--steps", type=int, default=30, help="optimiser steps on-policy")
    parser.add_argument("--prompts", type=int, default=16, help="samples an optimiser step")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate on-policy")
    arguments = parser.parse_args()
    asked = OnPolicy(
        teacher=TEACHER,
        steps=arguments.steps,
        prompts=arguments.prompts,
        max_tokens=200,
        learning_rate=arguments.rate,
    )
    begin = time.monotonic()
    seeds = {
        str(seed): measure(
            seed, arguments.count, arguments.epochs, asked, ROOT / "runs" / "on_policy" / str(seed)
        )
        for seed in range(arguments.seeds)
    }
    names = ("trained", "on_policy", "trained_longer")
    medians = {
        name: statistics.median(one["pass_at_1"][name] for one in seeds.values()) for name in names
    }
    print({name: f"{value:.1%}" for name, value in medians.items()})
    values = {
        "median_pass_at_1": medians,
        "heldout_problems": HELDOUT * len(tasks.FAMILIES),
        "settings": {"epochs": arguments.epochs, **asked.model_dump(exclude={"teacher"})},
        "seeds": seeds,
        "seconds": round(time.monotonic() - begin, 1),
        "provenance": provenance(0),
    }
    path = ROOT / "benchmarks" / "results" / "on_policy.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
