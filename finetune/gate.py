"""Look at what was exported: does it do what was trained, can it be served, does it end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.config import FinetuneSection
    from finetune.render import Sample

# Rounding the weights to 16 bits changes logits by a hundredth of their spread, in deep models by
# some; a weight that is not the trained one by far more.
_MOST_DIFFERENCE = 0.1
_TOKENS = 128  # of each sample's end are compared
_SMALL = 50_000_000  # parameters
_GENERATED, _SECONDS = 1024, 30.0  # the most that a generation takes, all of them together
# What vLLM takes for `max_lora_rank` (its MaxLoRARanks).
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model says at the ends of some samples.

    `logits` is of shape (tokens, vocabulary), float32; `loss` the mean negative log-likelihood of
    those tokens, in nats.
    """

    logits: Any
    loss: float


def look(model: Any, samples: Sequence[Sample]) -> Seen:
    """What the model says of the last tokens of each sample."""
    import torch

    logits, losses = [], []
    device = model.get_input_embeddings().weight.device
    was = model.training
    model.eval()
    with torch.no_grad():
        for sample in samples:
            ids = torch.from_numpy(sample.input_ids).long()
            learnt = min(_TOKENS, len(ids) - max(1, sample.prompt))
            seen = model(
                input_ids=ids[None].to(device), use_cache=False, logits_to_keep=learnt + 1
            ).logits[0, :-1].float().cpu()  # fmt: skip
            logits.append(seen)
            losses.append(torch.nn.functional.cross_entropy(seen, ids[-learnt:], reduction="none"))
    model.train(was)
    return Seen(logits=torch.cat(logits), loss=float(torch.cat(losses).mean()))


def difference(one: Seen, other: Seen) -> float:
    """The mean difference of their logits, as a part of the spread of the second's."""
    return float((one.logits - other.logits).abs().mean() / other.logits.std())


def kept(merged: Seen, trained: Seen, base: Seen) -> float | None:
    """How much of what the adapter changes is in the merged model: 1 is all, 0 nothing. None where
    the adapter changes too little to say.

    It is the length of the merged model's change along the adapter's. What rounding adds points
    anywhere, but where weights change by less than their rounding, the change is lost.
    """
    learnt = (trained.logits - base.logits).double()
    if float(learnt.abs().mean() / base.logits.std()) < 1e-3:
        return None
    change = (merged.logits - base.logits).double()
    return float((change * learnt).sum() / (learnt * learnt).sum())


def load(
    path: str | Path, settings: FinetuneSection, dtype: Any, revision: str | None = None
) -> Any:
    """A model to look at: on the GPU, with what does not fit there in the host's memory.

    Raises:
        RuntimeError: weights are missing in the folder, or are not the model's.

    """
    import torch
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    model, report = AutoModelForCausalLM.from_pretrained(
        path,
        revision=revision,
        # A CPU without bfloat16 would take ten times as long.
        dtype=dtype if on_gpu else torch.float32,
        device_map="auto" if on_gpu else None,
        trust_remote_code=settings.trust_remote_code,
        output_loading_info=True,
    )
    wrong = sorted(map(str, [*report["missing_keys"], *report["unexpected_keys"]]))
    if wrong:
        raise RuntimeError(f"{path} does not hold the model's weights: {', '.join(wrong[:5])}")
    return model.eval()


def spare_threads(model: Any) -> None:
    """Let a small model generate in one thread: to share a token's work among cores takes longer
    than the work, on a busy machine a hundred times as long.
    """
    import torch

    if model.device.type == "cpu" and model.num_parameters() < _SMALL:
        torch.set_num_threads(1)


def check_weights(
    folder: Path, merged: Seen, trained: Seen, base: Seen | None
) -> tuple[dict[str, Any], list[str]]:
    """Compare the reloaded model with the trained one, and with the base model where there is one.

    Returns:
        The figures, and what a user should know.

    Raises:
        RuntimeError: the weights in `folder` do not do what was trained.

    """
    apart = difference(merged, trained)
    part = kept(merged, trained, base) if base is not None else None
    if apart > _MOST_DIFFERENCE or (part is not None and not 0.5 < part < 1.5):
        more = "" if part is None else f", and hold {part:.0%} of what the adapter changes"
        raise RuntimeError(
            f"the weights in {folder / 'merged'} are not what was trained: their logits differ by "
            f"{apart:.2f} of the logits' spread{more}; the checkpoint is whole: run again, and "
            "if it is the same, report it"
        )
    figures: dict[str, Any] = {
        "logit_difference": round(apart, 5),
        "loss_merged": round(merged.loss, 5),
        "loss_trained": round(trained.loss, 5),
    }
    findings = []
    if part is not None:
        figures["adapter_kept"] = round(part, 4)
        if part < 0.9:
            findings.append(
                f"rounding the merged weights lost {1 - part:.0%} of what the adapter learnt, "
                "since it changes them so little; serve the adapter itself, or train longer"
            )
    return figures, findings


def check_ends(
    folder: Path, tokenizer: Any, again: Any, stop: int, settings: FinetuneSection
) -> None:
    """Check that the saved tokenizer has the trained template and that the stop token ends a turn.

    Raises:
        RuntimeError: it does not; the text says what is wrong.

    """
    from transformers import AutoTokenizer

    merged = folder / "merged"
    ends = again.generation_config.eos_token_id
    if stop not in (ends if isinstance(ends, list) else [ends]):
        name = tokenizer.convert_ids_to_tokens(stop)
        raise RuntimeError(f"{merged} would not stop at {name}: generation_config lacks it")
    saved = AutoTokenizer.from_pretrained(merged, trust_remote_code=settings.trust_remote_code)
    turns = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "<think>\n2\n</think>\n\n3"},
        {"role": "user", "content": "4"},
    ]
    one, other = (
        each.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        for each in (saved, tokenizer)
    )
    if saved.chat_template != tokenizer.chat_template or one != other:
        raise RuntimeError(f"{merged} was saved without the trained chat template")


def left_padded(samples: Sequence[Sample], width: int, pad: int, device: Any) -> dict[str, Any]:
    """The samples' prompts as `generate` takes them: ids of shape (samples, width), filled up at
    their left, and the mask of what is no filling.
    """
    import torch

    ids = torch.full((len(samples), width), pad)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        ids[row, width - sample.prompt :] = torch.from_numpy(sample.input_ids[: sample.prompt])
        mask[row, width - sample.prompt :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def generate(
    model: Any, samples: Sequence[Sample], ends: Sequence[int], pad: int
) -> dict[str, Any]:
    """Greedy answers to the samples' prompts, each given twice the length of the longest sample.

    Returns:
        How many there are, how many `ended` by themselves, and the `tokens` that each could take.

    """
    import torch

    device = model.get_input_embeddings().weight.device
    width = max(sample.prompt for sample in samples)
    longest = max(len(sample.input_ids) - sample.prompt for sample in samples)
    budget = min(_GENERATED, 2 * longest + 32)
    with torch.no_grad():
        made = model.generate(
            **left_padded(samples, width, pad, device),
            do_sample=False, max_new_tokens=budget, max_time=_SECONDS,
            temperature=None, top_p=None, top_k=None, min_p=None,
        )[:, width:].cpu()  # fmt: skip
    ended = torch.isin(made, torch.tensor(list(ends))).any(dim=1)
    return {"generations": len(samples), "ended": int(ended.sum()), "tokens": made.shape[1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmFit:
    """How vLLM loads an adapter: the least `max_lora_rank` that holds it, and why it refuses."""

    max_lora_rank: int | None
    refused: list[str]


def vllm_fit(adapter: Path) -> VllmFit:
    """Whether vLLM can load an adapter, by the rules of its own loader, without importing it: that
    takes longer than all else here.
    """
    config = json.loads((adapter / "adapter_config.json").read_text())
    refused = []
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    least = min((size for size in _VLLM_RANKS if size >= rank), default=None)
    if least is None:
        refused.append(f"its rank {rank} is above {_VLLM_RANKS[-1]}")
    if config.get("use_dora"):
        refused.append("it is DoRA")
    if set(config.get("modules_to_save") or ()) - {"classifier", "score"}:
        refused.append(f"it has whole modules ({', '.join(config['modules_to_save'])})")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        refused.append("it has biases")
    return VllmFit(max_lora_rank=least, refused=refused)
