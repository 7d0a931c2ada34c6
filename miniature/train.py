"""Make the miniature's teacher and student again: `python -m miniature.train all --out DIR`."""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from miniature import tasks
from miniature.tokenizer import STUDENT_TEMPLATE, TEACHER_TEMPLATE, build

Turns = list[tuple[str, str]]  # questions and answers of one conversation
Sample = tuple[list[int], list[int]]  # token ids, labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A warm-up and a cosine. `weights` are the shares of the kinds of questions without
    reasoning (`plain_turns`); where the teacher has them, they make half of its texts.
    """

    steps: int
    learning_rate: float
    seed: int
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a model is and how it learns. `tokens` is the size of a batch. Each pass begins
    from the bfloat16 weights that the one before it saved.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    tokens: int
    template: str
    passes: tuple[Pass, ...]


TEACHER = Plan(
    hidden=128,
    layers=5,
    heads=4,
    intermediate=512,
    tokens=1000,
    template=TEACHER_TEMPLATE,
    passes=(
        Pass(steps=5000, learning_rate=2e-3, seed=1),
        Pass(steps=4500, learning_rate=2e-3, seed=4, weights=(0.0, 0.2, 0.05, 0.15, 0.6)),
    ),
)
STUDENT = Plan(
    hidden=128,
    layers=4,
    heads=4,
    intermediate=384,
    tokens=1000,
    template=STUDENT_TEMPLATE,
    passes=(
        Pass(steps=6500, learning_rate=2e-3, seed=2, weights=(0.1, 0.5, 0.15, 0.25, 0.0)),
        # The first pass learns to copy and where to step; sums need practice of their own.
        Pass(steps=4000, learning_rate=2e-3, seed=3, weights=(0.05, 0.35, 0.1, 0.15, 0.35)),
    ),
)

_THINK = "<think>\n"


def streams(split: tasks.Split, seed: int) -> dict[str, Iterator[tasks.Task]]:
    """An endless stream of problems for each family."""
    return {family: tasks.problems(split, family, seed) for family in tasks.FAMILIES}


def teacher_texts(one: Pass, pieces: list[str]) -> Iterator[Turns]:
    """The teacher's pretraining: a question and its turn, the opening tag included; in half of
    the texts of a pass with weights, questions without reasoning.
    """
    rng, pools = Random(one.seed), streams("teacher", one.seed)
    plain = plain_turns("teacher", one, pieces)
    families = list(pools)
    while True:
        if one.weights and rng.random() < 0.5:
            yield next(plain)
        else:
            task = next(pools[rng.choice(families)])
            yield [(task.question, f"{_THINK}{tasks.teacher_text(task, rng)}")]


def plain_turns(split: tasks.Split, one: Pass, pieces: list[str]) -> Iterator[Turns]:
    """Questions answered without reasoning: whole problems, single steps, look-ups, copying and
    sums of two; never a chain of steps. This is all of the student's pretraining.

    Several unrelated questions make a conversation, so that what is asked last must be found
    among other text.
    """
    rng, pools = Random(one.seed), streams(split, one.seed)
    families = list(pools)
    makers: list[Callable[[tasks.Task, Random], tuple[str, str]]] = [
        tasks.direct,
        tasks.single_step,
        tasks.lookup,
        lambda task, rng: tasks.copying(task, rng, pieces),
        tasks.fact,
    ]
    while True:
        (turns,) = rng.choices([1, 2, 3, 4], weights=[1, 1, 2, 2])
        chosen = rng.choices(makers, weights=one.weights, k=turns)
        yield [maker(next(pools[rng.choice(families)]), rng) for maker in chosen]


def samples(texts: Iterator[Turns], tokenizer: Any) -> Iterator[Sample]:
    """Token ids and labels of endless texts. The answers are trained, with the token that ends
    them.
    """
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    while True:
        block = list(itertools.islice(texts, 256))
        parts = [
            part
            for turns in block
            for question, answer in turns
            for part in (f"<|user|>{question}<|assistant|>", f"{answer}<|end|>")
        ]
        encoded = iter(encode(parts, add_special_tokens=False))
        for turns in block:
            ids: list[int] = []
            labels: list[int] = []
            for _ in turns:
                question, answer = next(encoded).ids, next(encoded).ids
                ids += question + answer
                labels += [-100] * len(question) + answer
            yield ids, labels


def batches(
    stream: Iterator[Sample], tokens: int, rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded (ids, labels), each of shape (rows, length) with about `tokens` tokens.

    Samples of like length share a batch. No attention mask is needed: padding comes last, and a
    causal model never looks ahead.
    """
    while True:
        pool = sorted(itertools.islice(stream, 1024), key=lambda s: len(s[0]))
        made, rows = [], []
        for sample in pool:
            rows.append(sample)
            if len(rows) * len(sample[0]) >= tokens:
                made.append(rows)
                rows = []
        rng.shuffle(made)
        for chosen in made:
            length = max(len(tokens) for tokens, _ in chosen)
            ids = torch.zeros(len(chosen), length, dtype=torch.long)
            labels = torch.full_like(ids, -100)
            for row, (tokens_, targets) in enumerate(chosen):
                ids[row, : len(tokens_)] = torch.tensor(tokens_)
                labels[row, : len(tokens_)] = torch.tensor(targets)
            yield ids, labels


def new_model(plan: Plan, tokenizer: Any) -> Any:
    """A Qwen2 of the plan's shape with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(plan.passes[0].seed)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 32) * 32,
        hidden_size=plan.hidden,
        intermediate_size=plan.intermediate,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=1024,
        initializer_range=0.06,  # at 0.02 so narrow a model starts too slowly
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def fit(model: Any, stream: Iterator[Sample], tokens: int, one: Pass) -> None:
    """Train with AdamW, a warm-up and a cosine to a hundredth of the learning rate."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=one.learning_rate, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    warmup, begin, shown = 200, time.monotonic(), 0.0
    for step, (ids, labels) in enumerate(batches(stream, tokens, Random(one.seed)), 1):
        done = max(0.0, (step - warmup) / (one.steps - warmup))
        rate = min(step / warmup, 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = one.learning_rate * rate
        targets = labels[:, 1:]
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        mask = targets != -100
        loss = torch.nn.functional.cross_entropy(logits[mask], targets[mask])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        shown += loss.item()
        if step % 200 == 0:
            seconds = time.monotonic() - begin
            print(f"step {step} loss {shown / 200:.4f} {seconds:.0f} s", flush=True)
            shown = 0.0
        if step == one.steps:
            return


def make(name: str, out: Path, first: int = 1) -> None:
    """Train `teacher` or `student` and save it with its tokenizer in bfloat16.

    `first` is the pass to begin with; before it lies what the passes up to there saved.
    """
    from transformers import Qwen2ForCausalLM

    plan = TEACHER if name == "teacher" else STUDENT
    folder = out / name
    tokenizer = build(plan.template)
    for number, one in enumerate(plan.passes, 1):
        if number < first:
            continue
        if number == 1:
            model = new_model(plan, tokenizer)
        else:
            model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
        size = sum(p.numel() for p in model.parameters())
        print(f"{name}, pass {number}: {size:,} parameters", flush=True)
        pieces = copied_pieces(tokenizer)
        teaches = name == "teacher"
        texts = teacher_texts(one, pieces) if teaches else plain_turns("student", one, pieces)
        fit(model, samples(texts, tokenizer), plan.tokens, one)
        model.to(torch.bfloat16)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def copied_pieces(tokenizer: Any) -> list[str]:
    """The short tokens, as text, that the student copies; never a think tag."""
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    return [
        text
        for text in texts
        if len(text) < 12 and "\ufffd" not in text and not text.startswith(("<|", "<think", "</"))
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["teacher", "student", "all"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--first", type=int, default=1, help="the pass to begin with")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = ["teacher", "student"] if arguments.name == "all" else [arguments.name]
    for name in names:
        make(name, arguments.out, arguments.first)


if __name__ == "__main__":
    main()
