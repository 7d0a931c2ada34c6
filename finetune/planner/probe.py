"""The speed of a training on this machine's CPU, measured in a few seconds before there is one.

A CPU's speed at the small products and the long chains of small operations of a small student
follows from no data sheet. So a few layers of the student run here, on rows as it will learn them;
all layers, the output layer and the optimiser follow from that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.planner.calibration import Calibration
from finetune.planner.options import Job, average, bfloat16, kept, own_rows
from finetune.planner.plan import TrainingPlan, replan
from finetune.planner.shape import text_part
from finetune.planner.speed import step_seconds, token_cost
from finetune.planner.trace import as_config, few_layers, quietly, shortened
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records import digest, write_atomic
from tracestill.records.content import cache_folder

_LEAST = 0.3  # seconds of each measurement
_LAYER = 0.5  # seconds that a layer may take, by which the tokens are chosen
_WORDS = 16_384  # of the vocabulary in the measured output layer, whose time is linear in them
_VALID = 24 * 3600  # seconds for which a measurement holds: what else runs here changes


def probed(config: Mapping[str, Any], plan: TrainingPlan) -> TrainingPlan:
    """A plan for this machine's CPU with the speed as it was measured here, now or within a day; as
    it stands where that can't be: 4-bit weights, several processes, layers too large to try.
    """
    job, settings = plan.job, plan.settings
    layer = job.shape.linear_weights // max(1, job.shape.layers)
    large = 4 * (4 * layer + _WORDS * job.shape.hidden) > job.comfortable
    if settings.quantize == "nf4" or settings.launch.gpus > 1 or large or not plan.fits:
        return plan
    found = _known_or_measured(config, settings, job)
    return replan(plan, found)


def _known_or_measured(
    config: Mapping[str, Any], settings: FinetuneSection, job: Job
) -> Calibration:
    import torch

    said = settings.model_dump(exclude={"student", "template", "revision", "on_policy"})
    step = average(job, settings)
    key = digest(
        "probe", dict(config), said, step.tokens, round(step.learnt / step.tokens, 2),
        round(sum(job.lengths) / max(1, len(job.lengths)), -1), _machine(), torch.__version__,
    )  # fmt: skip
    path = cache_folder() / "probes" / f"{key}.json"
    if path.is_file() and time.time() - path.stat().st_mtime < _VALID:
        return Calibration(**json.loads(path.read_text(encoding="utf-8")))
    with _as_in_training(), quietly():
        found = _measure(text_part(config), settings, job)
    if not busy():  # else it would be taken for this machine's speed when that is over
        with contextlib.suppress(OSError):  # a home that can't be written costs time only
            write_atomic(path, json.dumps(dataclasses.asdict(found)).encode())
    return found


def busy() -> bool:
    """Whether more than this machine's cores had something to do in the last minute."""
    return os.getloadavg()[0] > 1.5 * len(os.sched_getaffinity(0))


def _machine() -> list[Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line for line in lines if line.startswith("model name")), platform.processor())
    return [platform.node(), model, len(os.sched_getaffinity(0))]


@contextlib.contextmanager
def _as_in_training() -> Iterator[None]:
    """As many threads as a training takes, and afterwards the state of torch as before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0))))
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _measure(config: Mapping[str, Any], settings: FinetuneSection, job: Job) -> Calibration:
    one = average(job, settings)
    parts = own_rows(job, settings) / min(int(settings.micro_batch), own_rows(job, settings))
    rows = _rows(settings, job, one.tokens)
    tokens = sum(sum(row) for row in rows)
    few = few_layers(config)
    timed = [_layers(config, settings, job, rows, layers) for layers in dict.fromkeys(few)]
    micro, update = (
        _extended(few, [getattr(part, name) for part in timed], job.shape.layers)
        for name in ("passes", "update")
    )
    head = _head_seconds_per_token(settings, job)
    seconds = parts * (micro * one.tokens / tokens + head * one.learnt) + update
    expected = step_seconds(job.shape, settings, job.device, one, kept(job, settings), parts)
    assert expected is not None, "a CPU's speed is known"
    return Calibration(
        device=job.device.name,
        memory=1.0,
        speed=expected / seconds,
        tokens=tokens,
        flops=job.device.flops,
        bandwidth=job.device.bandwidth,
    )


def _rows(settings: FinetuneSection, job: Job, most: int) -> list[list[int]]:
    """Rows of samples as they will be trained on, with about `most` tokens, or as many as a layer
    computes in a short time.
    """
    from finetune.packing import pack

    lengths = kept(job, settings)
    cost = token_cost(job.shape, settings, lengths).made / job.shape.layers
    quick = int(_LAYER * 0.5 * (job.device.flops or 1e11) / cost)
    most = max(512, min(most, quick))
    chosen = random.Random(0).choices(lengths, k=4 * max(1, most * len(lengths) // sum(lengths)))
    alone = [[number] for number in range(len(chosen))]
    packed = pack(chosen, settings.max_length) if settings.packing else alone
    made: list[list[int]] = []
    for row in packed:
        made.append([chosen[index] for index in row])
        if sum(sum(row) for row in made) >= most:
            break
    return made


@dataclass(frozen=True, slots=True)
class _Timed:
    """Seconds of the forward and backward pass through the layers, and of an optimiser's step."""

    passes: float
    update: float


def _layers(
    config: Mapping[str, Any],
    settings: FinetuneSection,
    job: Job,
    rows: list[list[int]],
    layers: int,
) -> _Timed:
    """Of a model of so many of the student's layers, with few words."""
    import torch
    from transformers import AutoModelForCausalLM

    from finetune import attention
    from finetune.student import add_adapter

    mixed = bfloat16(settings, job.device)
    few = {"vocab_size": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    known = as_config({**shortened(config, layers), **few})
    attention.register()
    packed = attention.supports(known, max(max(row) for row in rows))
    model = AutoModelForCausalLM.from_config(
        known,
        dtype=torch.bfloat16 if mixed and settings.method == "lora" else torch.float32,
        attn_implementation=attention.PACKED if packed else "sdpa",
    )
    model = add_adapter(model, settings)
    model.train()
    if settings.gradient_checkpointing is True:
        model.gradient_checkpointing_enable()
        if settings.method == "lora":
            model.enable_input_require_grads()
    decoder = (model.get_base_model() if settings.method == "lora" else model).base_model
    made = _inputs(rows, packed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)

    def passes() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            hidden = decoder(use_cache=False, **made).last_hidden_state
        hidden.backward(torch.ones_like(hidden))

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return _Timed(_seconds(passes), _seconds(update))


def _inputs(rows: Sequence[Sequence[int]], packed: bool) -> dict[str, Any]:
    """The arguments of a model's layers for samples of these lengths."""
    import numpy as np

    from finetune.packing import batch, tensors
    from finetune.sample import Sample

    random_ids = np.random.default_rng(0)
    samples = [
        Sample(
            trace_id="",
            input_ids=random_ids.integers(0, 512, length, dtype=np.int32),
            prompt=1,
            answer=length,
        )
        for row in rows
        for length in row
    ]
    places = iter(range(len(samples)))
    made, _ = tensors(
        batch(samples, [[next(places) for _ in row] for row in rows]),
        "packed" if packed else "rows", 0, "cpu",
    )  # fmt: skip
    del made["shift_labels"]
    return made


def _head_seconds_per_token(settings: FinetuneSection, job: Job) -> float:
    """Of the output layer and the loss, forward and backward."""
    import torch

    from finetune.loss import token_loss

    words, hidden = min(_WORDS, job.shape.vocabulary), job.shape.hidden
    mixed = bfloat16(settings, job.device)
    weight = torch.empty(words, hidden).uniform_(-0.05, 0.05)
    weight = weight.to(torch.bfloat16 if mixed and settings.method == "lora" else torch.float32)
    weight.requires_grad_(settings.method == "full")
    tokens = 256
    states = torch.randn(tokens, hidden, dtype=weight.dtype, requires_grad=True)
    targets = torch.randint(0, words, (tokens,))

    def both() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            total, *_ = token_loss(states, weight, None, targets)
        total.backward()

    return _seconds(both) / tokens * job.shape.vocabulary / words


def _extended(few: tuple[int, int], values: Sequence[float], layers: int) -> float:
    """The value for all layers, from that for few and for twice as many."""
    if len(values) == 1:
        return values[0] * layers / few[0]
    each = max(0.0, values[1] - values[0]) / (few[1] - few[0])
    return values[0] + each * (layers - few[0])


def _seconds(work: Callable[[], None]) -> float:
    """The mean time of some work, once it has run: the first time memory is taken."""
    work()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < _LEAST:
        work()
        count += 1
    return (time.perf_counter() - begin) / count
