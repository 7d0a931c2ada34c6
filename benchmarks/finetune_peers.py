"""The same samples through this project's trainer and through plain trl, for the benchmarks of the
finetune stage.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.arguments import training_arguments
from finetune.packing import pack, steps
from finetune.sample import Sample
from finetune.step import MicroBatch, TrainingData
from finetune.student import add_adapter, load_student
from finetune.trainer import make_trainer
from tracestill.recipe.finetune import FinetuneSection, Lora

OPEN_R1 = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}


def lengths(count: int, seed: int, scale: int = 1) -> list[tuple[int, int]]:
    """Tokens of prompts and completions as of R1's traces of mathematics: completions log-normal
    with median 4,200 and mean 6,000, none longer than 32,768 with its prompt.
    """
    generator = np.random.default_rng(seed)
    made: list[tuple[int, int]] = []
    while len(made) < count:
        prompt = int(np.clip(generator.lognormal(math.log(110), 0.6), 30, 1_000))
        completion = int(generator.lognormal(math.log(4_200), 0.85))
        if 300 <= completion <= 32_768 - prompt:
            made.append((max(2, prompt // scale), completion // scale))
    return made


def samples(count: int, seed: int, scale: int, vocabulary: int) -> list[Sample]:
    """Samples of such lengths; their tokens are random."""
    generator = np.random.default_rng(seed)
    return [
        Sample(
            trace_id=str(index),
            input_ids=generator.integers(10, vocabulary, prompt + completion).astype(np.int32),
            prompt=prompt,
            answer=prompt + int(completion * 0.9),
        )
        for index, (prompt, completion) in enumerate(lengths(count, seed, scale))
    ]


def tokenizer(folder: Path, vocabulary: int) -> None:
    """Save a tokenizer that trl asks for and nobody uses."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(vocabulary)}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")),
        pad_token="w1", eos_token="w2", unk_token="w0",
    ).save_pretrained(folder)  # fmt: skip


def settings(folder: Path, **values: Any) -> FinetuneSection:
    """The same adapter and rate for all."""
    base: dict[str, Any] = {
        "student": str(folder), "template": "none", "lora": Lora(rank=32, alpha=32),
        "learning_rate": 2e-4, "schedule": "constant", "warmup": 0.0, "epochs": 1.0,
    }  # fmt: skip
    return FinetuneSection(**{**base, **values})


def timed(trainer: Any) -> tuple[float, list[float]]:
    """Seconds from the first step to the last, and the losses that were logged."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        seconds = 0.0
        losses: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begin = getattr(self, "begin", time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.begin

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.losses = [*self.losses, logs["loss"]]

    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return clock.seconds, clock.losses


def ours(
    folder: Path, data: Sequence[Sample], chosen: FinetuneSection, per_step: int | None = None
) -> Any:
    """The trainer of this project, as `finetune.train` sets it up. `per_step` rows are a step; by
    default as many as have the tokens of 16 samples.
    """
    loaded = load_student(str(folder), chosen, max(len(sample.input_ids) for sample in data))
    rows = pack([len(sample.input_ids) for sample in data], chosen.max_length)
    plan = steps(rows, per_step or max(1, round(len(rows) * 16 / len(data))), 1.0, 0)
    ordered = TrainingData(samples=data, rows=rows, steps=plan)
    arguments = training_arguments(chosen, folder / "out", len(plan), 0, "benchmark")
    model = add_adapter(loaded.model, chosen)
    micro = MicroBatch(rows=int(chosen.micro_batch), explain=str)
    return make_trainer(model, arguments, load_tokenizer(folder), ordered, loaded.layout, micro)


def trl(
    folder: Path,
    data: Sequence[Sample],
    chosen: FinetuneSection,
    *,
    packing: bool,
    per_step: int | None = None,
    attention: str = "sdpa",
    liger: bool = False,
) -> Any:
    """Trl's trainer on the same ids and labels: packed as it packs best, `per_step` rows a step, or
    padded as in open-r1's recipe.
    """
    import datasets
    import torch
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    on_gpu = torch.cuda.is_available()
    options: dict[str, Any] = {}
    if chosen.quantize == "nf4":
        from finetune.student import _nf4

        options["quantization_config"] = _nf4(torch.bfloat16 if on_gpu else torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if on_gpu else torch.float32,
        attn_implementation=attention,
        **options,
    )
    model.config.use_cache = False
    rows = [{"input_ids": s.input_ids.tolist(), "labels": s.labels.tolist()} for s in data]
    many = sum(len(sample.input_ids) for sample in data) / chosen.max_length * 16 / len(data)
    each = per_step or max(1, round(many))
    batches = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": each}
    arguments = SFTConfig(
        output_dir=str(folder / "out"), num_train_epochs=1, **(batches if packing else OPEN_R1),
        learning_rate=chosen.learning_rate, lr_scheduler_type="constant",
        max_length=chosen.max_length, packing=packing,
        gradient_checkpointing=chosen.gradient_checkpointing, bf16=on_gpu, use_cpu=not on_gpu,
        logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
        dataloader_pin_memory=False, use_liger_kernel=liger,
    )  # fmt: skip
    return SFTTrainer(
        model=add_adapter(model, chosen),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=load_tokenizer(folder),
    )


def load_tokenizer(folder: Path) -> Any:
    """The one that `tokenizer` saved."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
