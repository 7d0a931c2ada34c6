"""trl's trainer over rows that are packed and ordered before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finetune import sharding
from finetune.loss import add_token_loss
from finetune.packing import AttentionLayout
from finetune.step import IdealSeconds, MicroBatch, OptimiserStep, StepMeter, TrainingData
from finetune.student import keeping_float32
from finetune.tokenizer import pad_id
from tracestill.recipe.finetune import Loss


def make_trainer(
    model: Any,
    arguments: Any,
    tokenizer: Any,
    data: TrainingData,
    layout: AttentionLayout,
    micro: MicroBatch,
    ideal_seconds: IdealSeconds | None = None,
    loss: Loss = "nll",
    rate_factor: Callable[[int], float] | None = None,
) -> Any:
    """Trl's `SFTTrainer` over `data`. `model` has its adapter; `arguments` is an `SFTConfig`, whose
    learning rate is multiplied by `rate_factor` of the steps done, if that is given, and else
    follows its own schedule.
    """
    import datasets

    meter = StepMeter(ideal_seconds)
    step = OptimiserStep(
        data=data, layout=layout, pad=pad_id(tokenizer), micro=micro, meter=meter
    )  # fmt: skip
    with keeping_float32(model):
        trainer = _trainer_class(step, rate_factor)(
            model=model,
            args=arguments,
            # trl requires a data set; what is trained on comes from `data`.
            train_dataset=datasets.Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
            data_collator=_RowsOfStep,
            processing_class=tokenizer,
        )
    add_token_loss(model.get_base_model() if hasattr(model, "get_base_model") else model, loss)
    return trainer


def _trainer_class(step: OptimiserStep, rate_factor: Callable[[int], float] | None) -> Any:
    import torch
    from trl import SFTTrainer

    class StudentTrainer(SFTTrainer):  # type: ignore[misc]
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.is_fsdp_enabled = sharding.prepare(self.accelerator, self.args)

        def save_model(self, *args: Any, **kwargs: Any) -> None:
            # Sharded weights are saved and restored together with the optimiser's states.
            if not self.is_fsdp_enabled:
                super().save_model(*args, **kwargs)

        def get_train_dataloader(self) -> Any:
            # An item is all rows of a step, in every process: order, epochs and resuming are
            # settled by `data.steps`.
            return torch.utils.data.DataLoader(
                [list(rows) for rows in step.data.steps], batch_size=1, collate_fn=_RowsOfStep
            )

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            if rate_factor is None:
                return super().create_scheduler(num_training_steps, optimizer)
            # A function, of which torch keeps no state: that is in the checkpoint by itself.
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda done: rate_factor(done)
            )
            self._created_lr_scheduler = True
            return self.lr_scheduler

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            return step.backward(self, model, inputs.rows)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs.update(step.meter.end(self.accelerator))
            super().log(logs, start_time)

    return StudentTrainer


class _RowsOfStep:
    """The rows of an optimiser step, in place of the batch of tensors that transformers expects."""

    def __init__(self, items: Sequence[Sequence[int]]) -> None:
        (self.rows,) = items

    def __contains__(self, name: str) -> bool:  # transformers looks for tensors in it
        return False
