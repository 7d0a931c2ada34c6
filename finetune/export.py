"""Save what was trained as a model that stands by itself, and read it back to be sure."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from finetune.config import FinetuneSection
from finetune.render import Sample

# A merged model is rounded to its own dtype, bfloat16 as a rule; what the logits may change by,
# as a part of their spread. A wrong merge is off by more than one.
_TOLERANCE = 0.1


def export(
    model: Any,
    tokenizer: Any,
    settings: FinetuneSection,
    student: str,
    folder: Path,
    sample: Sample,
) -> dict[str, Any]:
    """Write `adapter/` and `merged/` below `folder`, then load `merged/` and compare.

    `merged/` has the adapter in its weights, in the dtype in which the student came, with the
    tokenizer, the trained chat template, and a generation_config that ends at the stop token.

    Returns:
        `logit_difference`: the mean difference between the logits of the adapter and of the
        reloaded model on `sample`, as a part of the logits' standard deviation; and the `dtype`.

    Raises:
        RuntimeError: what was saved does not do what was trained.

    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    ids = torch.tensor([sample.input_ids], device=model.device)
    model.eval()
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits.float().cpu()

    own = AutoConfig.from_pretrained(student, revision=settings.revision).dtype or model.dtype
    stop = tokenizer.encode(settings.stop, add_special_tokens=False)[0]
    _replace(folder / "adapter", lambda path: model.save_pretrained(path))
    merged = model.merge_and_unload(safe_merge=True)
    # trl gives the model a forward of its own to train with; the class has the right one.
    merged.__dict__.pop("forward", None)
    merged.config.use_cache = True
    merged.config.eos_token_id = stop
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop
    merged.config.pad_token_id = pad
    merged.generation_config = GenerationConfig(eos_token_id=stop, pad_token_id=pad)
    merged.to(own)

    def write(path: Path) -> None:
        merged.save_pretrained(path)
        tokenizer.save_pretrained(path)

    _replace(folder / "merged", write)

    again = AutoModelForCausalLM.from_pretrained(
        folder / "merged", dtype=torch.float32 if ids.device.type == "cpu" else own
    ).to(ids.device)
    with torch.no_grad():
        after = again(input_ids=ids).logits.float().cpu()
    difference = float((after - before).abs().mean() / before.std())
    if difference > _TOLERANCE:
        raise RuntimeError(
            f"the merged model's logits differ from the adapter's by {difference:.2f} of their "
            f"spread; the adapter in {folder / 'adapter'} is whole"
        )
    reloaded = AutoTokenizer.from_pretrained(folder / "merged")
    if reloaded.chat_template != tokenizer.chat_template:
        raise RuntimeError(f"{folder / 'merged'} was saved without the trained chat template")
    if again.generation_config.eos_token_id != stop:
        raise RuntimeError(f"{folder / 'merged'} would not stop at {settings.stop}")
    return {"logit_difference": round(difference, 5), "dtype": str(own).removeprefix("torch.")}


def _replace(folder: Path, write: Any) -> None:
    """Fill a folder under a temporary name and put it in the place of the one that is there."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
