"""Save the trained student as a model of its own, and check what was saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finetune.export_checks import (
    Predictions,
    check_turn_end,
    check_weights,
    load_whole,
    logit_difference,
    predict,
    vllm_fit,
)
from finetune.generation import generate_greedily, spare_threads
from finetune.merge import merged_weights, release, write_config, write_turns, write_weights
from finetune.sample import Sample
from finetune.student import load_config
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

    `merged/` has 16-bit weights (in the student's own dtype if that has 16 bits), the tokenizer
    with the trained template, and configs that end a generation at the token ids `ends`, of which
    the first is the trained one. For a 4-bit student they are the dequantised weights that the
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

    def write_merged(path: Path) -> None:
        nonlocal parameters
        path.mkdir()
        parameters = write_weights(merged_weights(model, dtype), path)
        write_config(model, path, dtype, ends, pad)
        write_turns(model, tokenizer, path, ends, pad)

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
    _replace(merged, write_merged)
    quantised = getattr(model, "is_loaded_in_4bit", False)
    release(model)

    original = _on_original(student, settings, adapter, dtype, shortest) if quantised else None
    again = load_whole(merged, settings, dtype)
    check_turn_end(merged, tokenizer, again, ends[0], settings)
    seen = predict(again, shortest)
    checked = check_weights(merged, seen, trained, base)
    findings += checked.findings
    answers = _answers(again, shortest[:_ANSWERED], ends, pad)
    if missed := answers.generations - answers.ended:
        findings.append(
            f"{missed} of {answers.generations} greedy answers did not end by themselves within "
            f"{answers.tokens:,} tokens; the student may need more traces or epochs"
        )
    return ExportFigures(
        dtype=str(dtype).removeprefix("torch."),
        prompt_example=prompt_text(tokenizer, "What is 2 + 3?", settings.system_prompt),
        parameters=parameters,
        logit_difference=checked.logit_difference,
        loss_trained=round(trained.loss, 5),
        loss_merged=round(seen.loss, 5),
        answers=answers,
        findings=findings,
        max_lora_rank=rank,
        adapter_kept=checked.adapter_kept,
        logit_difference_original=round(logit_difference(original, trained), 5)
        if original
        else None,
        loss_original=round(original.loss, 5) if original else None,
    )


def _answers(model: Any, samples: Sequence[Sample], ends: Sequence[int], pad: int) -> AnswerFigures:
    """Answer the samples' prompts, in at most twice the length of the longest sample."""
    longest = max(sample.learnt for sample in samples)
    made = generate_greedily(
        model, samples, ends, pad, max_tokens=min(_TOKENS, 2 * longest + 32), seconds=_SECONDS
    )
    return AnswerFigures(
        generations=len(made),
        ended=sum(ids[-1] in ends for ids in made),
        tokens=max(map(len, made)),
    )


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
