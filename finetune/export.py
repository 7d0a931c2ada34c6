"""Save what was trained as a model that stands by itself, and read it back to be sure."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import gate
from finetune.config import FinetuneSection
from finetune.merge import merged_weights, release, write_config, write_turns, write_weights
from finetune.render import pad_id, prompt_text

if TYPE_CHECKING:
    from finetune.render import Sample

_COMPARED, _ANSWERED = 8, 3  # samples


def export(
    model: Any,
    tokenizer: Any,
    settings: FinetuneSection,
    *,
    student: str,
    folder: Path,
    samples: Sequence[Sample],
    ends: Sequence[int],
) -> dict[str, Any]:
    """Write `merged/` below `folder`, and `adapter/` where there is one; then look at what was
    written, by the shortest of `samples`.

    `merged/` is in 16 bits, in the dtype in which the student came if that has 16, with the
    tokenizer, the trained template, and configs by which generation ends at `ends`, token ids of
    which the first is the trained one. Of a student in 4 bits it has the dequantised weights that
    the adapter was trained on. The model's memory is given back: it can't be used afterwards.

    Returns:
        Figures for the manifest, and under "findings" what a user should be told of them.

    Raises:
        RuntimeError: what was saved does not do what was trained, or would never end.

    """
    gate.spare_threads(model)
    shortest = sorted(samples, key=lambda sample: len(sample.input_ids))[:_COMPARED]
    dtype = _dtype(student, settings)
    pad = pad_id(tokenizer, ends[0])
    trained = gate.look(model, shortest)
    base = None
    if settings.method == "lora":
        with model.disable_adapter():
            base = gate.look(model, shortest)

    def write_adapter(path: Path) -> None:
        model.save_pretrained(path)
        write_turns(model, tokenizer, path, ends, pad)

    def write_merged(path: Path) -> None:
        path.mkdir()
        figures["parameters"] = write_weights(merged_weights(model, dtype), path)
        write_config(model, path, dtype, ends, pad)
        write_turns(model, tokenizer, path, ends, pad)

    figures: dict[str, Any] = {
        "dtype": str(dtype).removeprefix("torch."),
        "prompt_example": prompt_text(tokenizer, "What is 2 + 3?", settings.system_prompt),
    }
    findings: list[str] = []
    adapter = folder / "adapter"
    if settings.method == "lora":
        _replace(adapter, write_adapter)
        fit = gate.vllm_fit(adapter)
        figures["max_lora_rank"] = fit.max_lora_rank
        if fit.refused:
            why = ", ".join(fit.refused)
            findings.append(f"vLLM can't load the adapter, since {why}; serve merged/ instead")
    else:
        shutil.rmtree(adapter, ignore_errors=True)
    _replace(folder / "merged", write_merged)
    quantised = getattr(model, "is_loaded_in_4bit", False)
    release(model)

    if quantised:
        figures |= _on_original(student, settings, adapter, dtype, shortest, trained)
    again = gate.load(folder / "merged", settings, dtype)
    gate.check_ends(folder, tokenizer, again, ends[0], settings)
    seen, said = gate.check_weights(folder, gate.look(again, shortest), trained, base)
    answers = gate.generate(again, shortest[:_ANSWERED], ends, pad)
    if missed := answers["generations"] - answers["ended"]:
        said.append(
            f"{missed} of {answers['generations']} greedy answers did not end by themselves within "
            f"{answers['tokens']:,} tokens; the student may need more traces or epochs"
        )
    return {**figures, **seen, "answers": answers, "findings": [*findings, *said]}


def _dtype(student: str, settings: FinetuneSection) -> Any:
    """The 16-bit dtype in which the student came; bfloat16 if it came in another."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        student, revision=settings.revision, trust_remote_code=settings.trust_remote_code
    )
    return config.dtype if config.dtype == torch.float16 else torch.bfloat16


def _on_original(
    student: str,
    settings: FinetuneSection,
    adapter: Path,
    dtype: Any,
    samples: Sequence[Sample],
    trained: gate.Seen,
) -> dict[str, Any]:
    """What the adapter does on the student's own weights, instead of on those in 4 bits that it was
    trained on: as if it had been merged into them.
    """
    from peft import PeftModel

    model = PeftModel.from_pretrained(
        gate.load(student, settings, dtype, settings.revision), adapter
    )
    seen = gate.look(model, samples)
    release(model)
    return {
        "logit_difference_original": round(gate.difference(seen, trained), 5),
        "loss_original": round(seen.loss, 5),
    }


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder under a temporary name and put it in the place of the one that is there."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
