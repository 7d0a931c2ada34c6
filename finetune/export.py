"""Save the trained student as a model of its own, and check what was saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finetune.export_checks import (
    Nearness,
    Predictions,
    check_turn_end,
    check_weights,
    compare,
    load_whole,
    logit_difference,
    predict,
    vllm_fit,
)
from finetune.generation import generate_greedily, spare_threads
from finetune.merge import merged_weights, release, write_config, write_turns, write_weights
from finetune.multimodal import copy_processor
from finetune.sample import Sample
from finetune.student import load_config, load_student
from finetune.tokenizer import pad_id, prompt_text
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.figures import AnswerFigures, ExportFigures
from tracestill.records.files import sync_folder, sync_tree

_COMPARED, _ANSWERED = 8, 3  # samples
_TOKENS, _SECONDS = 1024, 30.0  # the most that answers take, the seconds all of them together


def export(
    model: Any,
    tokenizer: Any,
    settings: FinetuneSection,
    *,
    student: str,
    folder: Path,
    samples: Sequence[Sample],
    ends: Sequence[int],
) -> ExportFigures:
    """Write `merged/` below `folder`, and `adapter/` if there is one; then check what was written
    with the shortest of `samples`.

    `merged/` has 16-bit weights (in the student's own dtype if that has 16 bits), or float32 ones
    where rounding would lose much of what an adapter changes. It has the tokenizer with the trained
    template, and configs that end a generation at the token ids `ends`, of which the first is the
    trained one. For a 4-bit student they are the dequantised weights that the
    adapter was trained on. The model's memory is freed: it can't be used afterwards.

    Raises:
        RuntimeError: what was saved is not what was trained, or would never end a turn.

    """
    import torch

    spare_threads(model)
    shortest = sorted(samples, key=lambda sample: len(sample.input_ids))[:_COMPARED]
    own = load_config(student, settings).dtype
    dtype = own if own == torch.float16 else torch.bfloat16
    pad = pad_id(tokenizer, ends[0])
    trained = predict(model, shortest)
    base = None
    if settings.method == "lora":
        with model.disable_adapter():
            base = predict(model, shortest)
    parameters = 0

    def write_adapter(path: Path) -> None:
        model.save_pretrained(path)
        write_turns(model, tokenizer, path, ends, pad)

    def write_merged(model: Any, dtype: Any, path: Path) -> None:
        nonlocal parameters
        path.mkdir()
        parameters = write_weights(merged_weights(model, dtype), path)
        write_config(model, path, dtype, ends, pad)
        write_turns(model, tokenizer, path, ends, pad)
        copy_processor(student, settings.revision, path)

    findings: list[str] = []
    rank = None
    adapter, merged = folder / "adapter", folder / "merged"
    if settings.method == "lora":
        _replace(adapter, write_adapter)
        fit = vllm_fit(adapter)
        rank = fit.max_lora_rank
        if fit.refused:
            why = ", ".join(fit.refused)
            findings.append(f"vLLM can't load the adapter, since {why}; serve merged/ instead")
    else:
        shutil.rmtree(adapter, ignore_errors=True)
    _replace(merged, partial(write_merged, model, dtype))
    quantised = getattr(model, "is_loaded_in_4bit", False)
    release(model)

    original = _on_original(student, settings, adapter, dtype, shortest) if quantised else None
    again = load_whole(merged, settings, dtype)
    check_turn_end(merged, tokenizer, again, ends[0], settings)
    seen = predict(again, shortest)
    near = compare(seen, trained, base)
    if base is not None and near.is_rounded_away:
        lost = _lost(near, dtype)
        release(again)
        model = _with_adapter(student, settings, adapter)
        dtype = torch.float32
        _replace(merged, partial(write_merged, model, dtype))
        release(model)
        again = load_whole(merged, settings, dtype)
        seen = predict(again, shortest)
        near = compare(seen, trained, base)
        findings.append(lost)
    check_weights(merged, near)
    answers = _answers(again, shortest[:_ANSWERED], ends, pad)
    findings += _open_ends(answers)
    return ExportFigures(
        dtype=str(dtype).removeprefix("torch."),
        prompt_example=prompt_text(tokenizer, "What is 2 + 3?", settings.system_prompt),
        parameters=parameters,
        logit_difference=round(near.logit_difference, 5),
        loss_trained=round(trained.loss, 5),
        loss_merged=round(seen.loss, 5),
        answers=answers,
        findings=findings,
        max_lora_rank=rank,
        adapter_kept=None if near.adapter_kept is None else round(near.adapter_kept, 4),
        logit_difference_original=round(logit_difference(original, trained), 5)
        if original
        else None,
        loss_original=round(original.loss, 5) if original else None,
    )


def _answers(model: Any, samples: Sequence[Sample], ends: Sequence[int], pad: int) -> AnswerFigures:
    """Answer the samples' prompts, in at most twice the length of the longest sample."""
    most = min(_TOKENS, 2 * max(sample.learnt for sample in samples) + 32)
    made = generate_greedily(model, samples, ends, pad, max_tokens=most, seconds=_SECONDS)
    open_ends = [ids for ids in made if ids[-1] not in ends]
    return AnswerFigures(
        generations=len(made),
        ended=len(made) - len(open_ends),
        tokens=max(map(len, made)),
        out_of_time=sum(len(ids) < most for ids in open_ends),
    )


def _open_ends(answers: AnswerFigures) -> list[str]:
    """What to say of answers that did not end, a line for each reason."""
    of = f"of {answers.generations} greedy answers"
    said = []
    if missed := answers.generations - answers.ended - answers.out_of_time:
        said.append(
            f"{missed} {of} did not end by themselves within {answers.tokens:,} tokens; the "
            "student may need more traces or epochs"
        )
    if answers.out_of_time:
        said.append(
            f"{answers.out_of_time} {of} had not ended when the check's {_SECONDS:.0f} seconds "
            f"were over, after {answers.tokens:,} tokens: the machine was slow or busy, so whether "
            "they end is not known; `tracestill chat` shows it"
        )
    return said


def _lost(near: Nearness, dtype: Any) -> str:
    """Why `merged/` is in float32."""
    if near.adapter_kept is not None and near.adapter_kept < 0.9:
        what = f"lose {1 - max(near.adapter_kept, 0):.0%} of what the adapter changes"
    else:
        what = (
            f"change the logits by {near.logit_difference:.1%} of their spread and the loss by "
            f"{near.loss_added:+.3f} nats a token"
        )
    name = str(dtype).removeprefix("torch.")
    return (
        f"merged/ is in float32, since rounding it to {name} would {what}: serve it with `--dtype "
        "float32`, or serve the adapter; after a longer training 16 bits suffice"
    )


def _with_adapter(student: str, settings: FinetuneSection, adapter: Path) -> Any:
    """The trained model once more, from its files: base, as it was trained on, and adapter."""
    from peft import PeftModel

    padded = settings.model_copy(update={"attention": "sdpa"})
    return PeftModel.from_pretrained(load_student(student, padded, 1).model, adapter)


def _on_original(
    student: str, settings: FinetuneSection, adapter: Path, dtype: Any, samples: Sequence[Sample]
) -> Predictions:
    """The predictions of the adapter on the student's own weights, not the 4-bit ones that it was
    trained on.
    """
    from peft import PeftModel

    model = PeftModel.from_pretrained(
        load_whole(student, settings, dtype, settings.revision), adapter
    )
    seen = predict(model, samples)
    release(model)
    return seen


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder under a temporary name and rename it, so that it is whole once it is seen, also
    after a loss of power.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    sync_tree(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    sync_folder(folder.parent)
