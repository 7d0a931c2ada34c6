"""Predict whether a training fits, what takes the memory and how long it lasts.

The student's `config.json` is enough: only `measure` imports torch.
"""

from finetune.planner.choose import resolve
from finetune.planner.plan import TrainingPlan, compare, explain_oom, plan
from finetune.planner.shape import Shape, read_shape
from finetune.planner.speed import flops_per_token

__all__ = [
    "Shape",
    "TrainingPlan",
    "compare",
    "explain_oom",
    "flops_per_token",
    "plan",
    "read_shape",
    "resolve",
]
