"""Train a LoRA adapter with trl on rendered samples, resumable at any moment."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finetune.config import FinetuneSection
from finetune.export import export
from finetune.packing import PackedCollator, pack, row_features
from finetune.render import Example, Sample, check_vocabulary, load_tokenizer, render
from tracestill.records import digest, file_fingerprint, folder_fingerprint, write_atomic

Progress = Callable[[dict[str, Any]], None]
_COMPLETE = "complete.json"


def train(
    examples: Sequence[Example],
    settings: FinetuneSection,
    *,
    student: str,
    template: Path,
    folder: Path,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Fine-tune a student and save it in `folder`: `merged/`, `adapter/`, `metrics.jsonl`.

    A run that was killed goes on from its last whole checkpoint in `folder`; one of other
    settings or samples starts anew.

    Returns:
        Figures for the manifest, and under "dropped" how many examples were left out for which
        reason.

    Raises:
        ValueError: the student, the template or the samples can't be used; one line with the fix.

    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if Path(student).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoConfig, set_seed

    begin = time.monotonic()
    tokenizer = load_tokenizer(student, settings.revision, template)
    samples, overlong = render(examples, tokenizer, settings)
    config = AutoConfig.from_pretrained(student, revision=settings.revision)
    check_vocabulary(samples, tokenizer, config)

    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = folder / "checkpoints"
    identity = _identity(samples, settings, student, template, seed)
    resumed = _last_checkpoint(checkpoints, identity)
    _trim_metrics(folder / "metrics.jsonl", _step(resumed))

    set_seed(seed)
    if not torch.cuda.is_available():
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = _load(student, settings)
    trainer = _trainer(model, tokenizer, samples, settings, checkpoints, seed)
    trainer.add_callback(_reporter(folder / "metrics.jsonl", identity, progress, samples))
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    exported = export(trainer.model, tokenizer, settings, student, folder, samples[0])
    shutil.rmtree(checkpoints)
    rows = len(trainer.train_dataset)
    tokens = sum(len(sample.input_ids) for sample in samples)
    return {
        "samples": len(samples),
        "tokens": tokens,
        "trained_tokens": sum(label >= 0 for sample in samples for label in sample.labels),
        "steps": result.global_step,
        "epochs": settings.epochs,
        "loss": _last_loss(folder / "metrics.jsonl"),
        "rows": rows,
        "fill": round(tokens / (rows * settings.max_length), 4) if settings.packing else 1.0,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "trainable_parameters": trainable,
        "resumed_from_step": _step(resumed),
        "train_seconds": round(time.monotonic() - begin, 1),
        "dropped": {"overlong": len(overlong)} if overlong else {},
        **exported,
    }


def _load(student: str, settings: FinetuneSection) -> Any:
    """The base model, its dtype said out loud: a model given by name alone loads in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    name = settings.dtype if settings.dtype != "auto" else "bfloat16" if on_gpu else "float32"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            student, revision=settings.revision, dtype=getattr(torch, name)
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"finetune.student: {student} can't be loaded: {error}") from error
    model.config.use_cache = False
    return model.to("cuda") if on_gpu else model


def _trainer(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Sample],
    settings: FinetuneSection,
    checkpoints: Path,
    seed: int,
) -> Any:
    """Trl's trainer over rows that it neither renders, truncates nor packs itself."""
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    lengths = [len(sample.input_ids) for sample in samples]
    alone = [[index] for index in range(len(samples))]
    rows = pack(lengths, settings.max_length) if settings.packing else alone
    dataset = datasets.Dataset.from_dict(row_features(samples, rows))
    per_epoch = -(-len(rows) // (settings.batch_size * settings.accumulation))
    steps = max(1, round(per_epoch * settings.epochs))
    on_gpu = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(steps * settings.warmup),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
        bf16=on_gpu and model.dtype == torch.bfloat16,
        use_cpu=not on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        seed=seed,
        data_seed=seed,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=on_gpu,
        report_to="none",
        disable_tqdm=True,
    )
    adapter = LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=settings.lora.targets,
        task_type="CAUSAL_LM",
    )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=PackedCollator(pad),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _reporter(metrics: Path, identity: str, progress: Progress, samples: Sequence[Sample]) -> Any:
    """A callback that writes each step's figures, and says when a checkpoint is whole."""
    from transformers import TrainerCallback

    begin = time.monotonic()

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            row = {
                "step": state.global_step,
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "grad_norm": logs["grad_norm"],
                "tokens": logs.get("num_tokens"),
                "seconds": round(time.monotonic() - begin, 3),
            }
            with metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            progress({"done": state.global_step, "total": state.max_steps, "loss": row["loss"]})

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # transformers tells of a save once all its files are written: one that a kill cut
            # short has no such mark.
            mark = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE
            write_atomic(mark, json.dumps({"identity": identity}).encode())

    return Reporter()


def _identity(
    samples: Sequence[Sample], settings: FinetuneSection, student: str, template: Path, seed: int
) -> str:
    """What a checkpoint belongs to: the ids that are trained on, the settings, the base model."""
    base = folder_fingerprint(Path(student)) if Path(student).is_dir() else student
    values = settings.model_dump(exclude={"student", "template"})
    rendered = digest([[s.trace_id, s.input_ids, s.labels] for s in samples])
    return digest("finetune", rendered, values, base, file_fingerprint(template), seed)


def _step(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _last_checkpoint(folder: Path, identity: str) -> Path | None:
    """The newest whole checkpoint of the same training; all others are removed."""
    whole: list[Path] = []
    for path in folder.glob("checkpoint-*"):
        mark = path / _COMPLETE
        if mark.is_file() and json.loads(mark.read_text())["identity"] == identity:
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=_step, default=None)


def _trim_metrics(path: Path, step: int) -> None:
    """Forget the steps that will be made again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    write_atomic(path, b"".join(kept))


def _last_loss(path: Path) -> float | None:
    lines = path.read_text().splitlines()
    return float(json.loads(lines[-1])["loss"]) if lines else None
