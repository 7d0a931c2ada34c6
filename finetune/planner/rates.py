"""The learning rate and the adapter's rank, where the recipe leaves them to published sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.planner.shape import Shape
from finetune.planner.terms import trainable
from tracestill.recipe.finetune import SWEPT_BATCHES, FinetuneSection

_TINKER = "Tinker's sweeps, Tulu 3, batch of 128, 780 steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Swept:
    """The best rate of an adapter in a sweep, for students of a `family` (config.json's
    `model_type`) that have between `least` and `most` billion weights.
    """

    family: str
    least: float
    most: float
    rate: float
    students: str


# All of them at the best rank, 128. What scales by alpha / rank, as here, has about the same best
# rate at every rank ("LoRA Without Regret", Schulman et al., 2025).
_RATES = (
    _Swept(family="llama", least=0.9, most=4, rate=1e-3, students="Llama-3.2-1B and -3B"),
    _Swept(family="qwen3", least=3.5, most=9, rate=1e-3, students="Qwen3-4B and -8B"),
    _Swept(family="qwen3", least=30, most=34, rate=3e-4, students="Qwen3-32B"),
    _Swept(
        family="qwen3_5_text", least=3.5, most=29, rate=3e-4,
        students="Qwen3.5-4B, -9B and -27B",
    ),
)  # fmt: skip
# The default, and the ranks up to that of the sweeps.
_RANKS = (32, 64, 128)
# In millions: with fewer weights than that, training all of them harms (arXiv 2606.06920).
_TOO_FEW = 300


def settle_rates(
    settings: FinetuneSection, shape: Shape | None, lengths: Sequence[int], learnt: float
) -> tuple[FinetuneSection, list[str]]:
    """Replace `auto` of `lora.rank`, and that of `learning_rate` where a sweep covers the student
    and the batch; elsewhere the default rate stays. Returns a line of reason for each too.

    `lengths` are the samples' in tokens, of which the share `learnt` is learnt; `shape` is None for
    a student that the planner does not know.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    why = []
    if settings.method == "lora" and settings.lora.rank == "auto":
        rank, reason = _rank(settings, shape, round(sum(lengths) * learnt))
        lora = settings.lora.model_copy(update={"rank": rank})
        settings = settings.model_copy(update={"lora": lora})
        why.append(f"lora.rank {rank}: {reason}")
    if settings.learning_rate != "auto":
        return settings, why
    student = f"hidden {shape.hidden:,}" if shape is not None else "a student of unknown size"
    batch = f"batch of {settings.batch_size} rows"
    if settings.method == "full":
        line = f"learning_rate 2e-5: all weights, {student}, {batch}; a tenth of an adapter's"
        if shape is not None and shape.parameters < _TOO_FEW * 1e6:
            line += (
                f"; with fewer than {_TOO_FEW} M weights method: lora learns more, source arXiv "
                "2606.06920"
            )
        return settings, [*why, line]
    found = _swept(settings, shape)
    if found is None:
        line = (
            f"learning_rate 2e-4: LoRA, {student}, {batch}; the default, as no published sweep "
            f"covers this student with such a batch ({_TINKER}: 3e-4 to 1e-3)"
        )
        return settings, [*why, line]
    line = (
        f"learning_rate {found.rate:.0e}: LoRA, {student}, {batch}; source: {_TINKER}, the best "
        f"for {found.students}"
    ).replace("e-0", "e-")
    return settings.model_copy(update={"learning_rate": found.rate}), [*why, line]


def _swept(settings: FinetuneSection, shape: Shape | None) -> _Swept | None:
    """The sweep that covers a student and a batch."""
    if shape is None or settings.batch_size not in SWEPT_BATCHES:
        return None
    billions = shape.parameters / 1e9
    fitting = (
        one
        for one in _RATES
        if one.family == shape.architecture and one.least <= billions <= one.most
    )
    return next(fitting, None)


def _rank(settings: FinetuneSection, shape: Shape | None, tokens: int) -> tuple[int, str]:
    """The least rank whose adapter has as many weights as there are tokens to learn."""
    least, *_, most = _RANKS
    if shape is None or not tokens:
        return least, "the default, as the student's size or its samples are not known"
    rule = 'as many weights as tokens to learn, source "LoRA Without Regret"'
    for rank in _RANKS:
        lora = settings.lora.model_copy(update={"rank": rank})
        weights = trainable(shape, settings.model_copy(update={"lora": lora}))
        if weights >= tokens:
            return rank, f"{weights:,} weights for {tokens:,} tokens ({rule})"
    return most, f"{weights:,} weights for {tokens:,} tokens, the most of published sweeps ({rule})"
