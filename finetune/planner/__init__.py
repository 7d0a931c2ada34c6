"""Say before a training whether it fits, what takes the memory and how long it lasts.

`config.json` is enough: nothing here imports torch but `trace` and `probe`.
"""

from finetune.planner.choose import resolve
from finetune.planner.plan import Plan, compare, explain_oom, plan
from finetune.planner.shape import Shape, read_shape
from finetune.planner.speed import flops_per_token

__all__ = [
    "Plan",
    "Shape",
    "compare",
    "explain_oom",
    "flops_per_token",
    "plan",
    "read_shape",
    "resolve",
]
