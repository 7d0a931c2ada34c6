"""Make the miniature's teacher and student again: `python -m miniature.train all --out DIR`."""

from __future__ import annotations

import argparse
import itertools
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
class Cycle:
    """One rise and fall of the learning rate. `rate` is its height, 1 at most; `weights` are the
    shares of the kinds of questions without reasoning (see `plain_turns`), `families` those of
    the tasks among them.
    """

    steps: int
    rate: float
    weights: tuple[float, ...]
    families: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a model is and how it learns; each cycle has new texts and goes on from the saved
    model of the last. `tokens` is the size of a batch.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    tokens: int
    template: str
    seed: int
    cycles: tuple[Cycle, ...]


# A matrix's cells are the hardest to find, so the first cycle has more of them; the second has
# more of the chains, whose sums come last to be exact.
TEACHER = Plan(
    hidden=128,
    layers=5,
    heads=4,
    intermediate=512,
    tokens=1000,
    template=TEACHER_TEMPLATE,
    seed=1,
    cycles=(
        Cycle(steps=7_000, rate=1.0, weights=(0.0, 0.3, 0.1, 0.2, 0.4), families=(1.0, 1.0, 2.0)),
        Cycle(steps=4_000, rate=0.5, weights=(0.0, 0.3, 0.1, 0.1, 0.5), families=(2.0, 1.0, 1.0)),
    ),
)
STUDENT = Plan(
    hidden=128,
    layers=4,
    heads=4,
    intermediate=384,
    tokens=1000,
    template=STUDENT_TEMPLATE,
    seed=2,
    cycles=(
        Cycle(
            steps=9_000, rate=1.0, weights=(0.03, 0.42, 0.2, 0.18, 0.17), families=(1.0, 1.0, 2.0)
        ),
        Cycle(
            steps=5_000, rate=0.5, weights=(0.03, 0.42, 0.2, 0.1, 0.25), families=(2.0, 1.2, 1.5)
        ),
    ),
)

_THINK = "<think>\n"


def streams(split: tasks.Split, seed: int) -> dict[str, Iterator[tasks.Task]]:
    """An endless stream of problems for each family."""
    return {family: tasks.problems(split, family, seed) for family in tasks.FAMILIES}


def teacher_texts(cycle: Cycle, seed: int, pieces: list[str]) -> Iterator[Turns]:
    """The teacher's pretraining: a question and its turn, the opening tag included; in half of
    the texts, questions without reasoning.
    """
    rng, pools = Random(seed), streams("teacher", seed)
    plain = plain_turns("teacher", cycle, seed, pieces)
    families = list(pools)
    while True:
        if rng.random() < 0.5:
            yield next(plain)
        else:
            task = next(pools[rng.choice(families)])
            yield [(task.question, f"{_THINK}{tasks.teacher_text(task, rng)}")]


def plain_turns(split: tasks.Split, cycle: Cycle, seed: int, pieces: list[str]) -> Iterator[Turns]:
    """Questions answered without reasoning: whole problems, single steps, look-ups, copying and
    sums of two; never a chain of steps in one answer. This is all of the student's pretraining.

    Several questions make a conversation, so that what is asked last must be found among other
    text; some go on from the last answer, so that what the model wrote is read like what it was
    given.
    """
    rng, pools = Random(seed), streams(split, seed)
    families = list(pools)
    makers: list[Callable[[tasks.Task], Turns]] = [
        lambda task: [tasks.direct(task, rng)],
        lambda task: tasks.steps_in_turn(task, rng, rng.choice((1, 1, 2, 3))),
        lambda task: [tasks.lookup(task, rng)],
        lambda task: tasks.copying(task, rng, pieces),
        lambda task: [tasks.fact(task, rng)],
    ]
    while True:
        (parts,) = rng.choices([1, 2, 3, 4], weights=[1, 1, 2, 2])
        chosen = rng.choices(makers, weights=cycle.weights, k=parts)
        about = rng.choices(families, weights=cycle.families, k=parts)
        yield [
            turn
            for maker, family in zip(chosen, about, strict=True)
            for turn in maker(next(pools[family]))
        ]


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

    torch.manual_seed(plan.seed)
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


def fit(model: Any, stream: Iterator[tuple[torch.Tensor, torch.Tensor]], cycle: Cycle) -> None:
    """Train with Muon (Jordan 2024) on the matrices and AdamW on the rest: a warm-up, a
    constant learning rate, and a linear way down over the last 40% of the steps.
    """
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    # Loss after 700 of the teacher's steps: 1.16, and 1.31 with AdamW alone, in 148 and 121 s.
    optimisers = [
        torch.optim.Muon(matrices, lr=5e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    full_rates = [group["lr"] * cycle.rate for group in groups]
    begin, shown = time.monotonic(), 0.0
    for step, (ids, labels) in enumerate(stream, 1):
        part = min(step / 100, 1.0, 0.01 + (cycle.steps - step) / (0.4 * cycle.steps))
        for group, rate in zip(groups, full_rates, strict=True):
            group["lr"] = rate * part
        targets = labels[:, 1:]
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        mask = targets != -100
        loss = torch.nn.functional.cross_entropy(logits[mask], targets[mask])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        shown += loss.item()
        if step % 200 == 0:
            seconds = time.monotonic() - begin
            print(f"step {step} loss {shown / 200:.4f} {seconds:.0f} s", flush=True)
            shown = 0.0
        if step == cycle.steps:
            return


def make(name: str, out: Path) -> None:
    """Train `teacher` or `student` and save it with its tokenizer in bfloat16."""
    plan = TEACHER if name == "teacher" else STUDENT
    tokenizer = build(plan.template)
    model = new_model(plan, tokenizer)
    print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for number, cycle in enumerate(plan.cycles):
        learn(model, name, plan, number, cycle, tokenizer)
        model.to(torch.bfloat16)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)


def learn(model: Any, name: str, plan: Plan, number: int, cycle: Cycle, tokenizer: Any) -> None:
    """One cycle of a model's training."""
    seed = plan.seed + 10 * number
    pieces = copied_pieces(tokenizer)
    teaches = name == "teacher"
    texts = (
        teacher_texts(cycle, seed, pieces) if teaches
        else plain_turns("student", cycle, seed, pieces)
    )  # fmt: skip
    stream = batches(samples(texts, tokenizer), plan.tokens, Random(seed))
    fit(model.float(), stream, cycle)


def copied_pieces(tokenizer: Any) -> list[str]:
    """The short tokens, as text, that are copied. The think tags are among them: a token that
    was never a target can't be told from the other unused ones, and an adapter that leaves the
    embeddings alone could not learn to write it.
    """
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    return [text for text in texts if len(text) < 12 and "\ufffd" not in text and "|" not in text]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["teacher", "student", "all"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = ["teacher", "student"] if arguments.name == "all" else [arguments.name]
    for name in names:
        make(name, arguments.out)


if __name__ == "__main__":
    main()
