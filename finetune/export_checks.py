"""Check an exported student: its weights, the end of its turns, whether vLLM can load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.multimodal import load_model
from finetune.sample import Sample
from tracestill.recipe.finetune import FinetuneSection

# Rounding the weights to 16 bits changes logits by a hundredth of their spread, in deep models by
# some; a wrong weight by far more.
MOST_DIFFERENCE = 0.1
_MOST_LOSS = 0.02  # nats a token that rounding may cost, beside a tenth of what was learnt
_TOKENS = 128  # of each sample's end are compared
# The values that vLLM accepts for `max_lora_rank` (its MaxLoRARanks).
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """A model's predictions of the last tokens of some samples.

    `logits` is float32 of shape (tokens, vocabulary); `loss` the mean negative log-likelihood of
    those tokens, in nats.
    """

    logits: Any
    loss: float


def predict(model: Any, samples: Sequence[Sample]) -> Predictions:
    """Predict the last learnt tokens of each sample, at most 128."""
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
    return Predictions(logits=torch.cat(logits), loss=float(torch.cat(losses).mean()))


def logit_difference(one: Predictions, other: Predictions) -> float:
    """The mean difference of their logits, relative to the standard deviation of the second's."""
    return float((one.logits - other.logits).abs().mean() / other.logits.std())


def adapter_kept(merged: Predictions, trained: Predictions, base: Predictions) -> float | None:
    """The share of the adapter's effect that the merged model has: 1 is all, 0 none; None if the
    adapter changes too little to tell.

    It is the merged model's change of the logits, projected on the adapter's. Rounding adds noise
    in any direction, but loses changes of weights that are smaller than their rounding.
    """
    learnt = (trained.logits - base.logits).double()
    if float(learnt.abs().mean() / base.logits.std()) < 1e-3:
        return None
    change = (merged.logits - base.logits).double()
    return float((change * learnt).sum() / (learnt * learnt).sum())


def load_whole(
    path: str | Path, settings: FinetuneSection, dtype: Any, revision: str | None = None
) -> Any:
    """Load a model to check: on the GPU, with what does not fit there in the host's memory.

    Raises:
        RuntimeError: weights are missing, or are not the model's.

    """
    import torch

    on_gpu = torch.cuda.is_available()
    model, report = load_model(
        str(path),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """How near the merged weights are to the trained ones; see `ExportFigures`. `loss_added` and
    `loss_learnt` are nats per token: what merging made worse, and what the adapter made better.
    """

    logit_difference: float
    adapter_kept: float | None
    loss_added: float
    loss_learnt: float | None

    @property
    def is_rounded_away(self) -> bool:
        """Whether so much of what was trained is missing that weights in float32 are called for.

        A wrong merge looks the same: what is then written in float32 is checked again.
        """
        part, learnt = self.adapter_kept, self.loss_learnt
        return (
            self.logit_difference > MOST_DIFFERENCE
            or (part is not None and not 0.9 < part < 1.1)
            or (learnt is not None and self.loss_added > _MOST_LOSS + 0.1 * max(learnt, 0))
        )


def compare(merged: Predictions, trained: Predictions, base: Predictions | None) -> Nearness:
    """Compare the exported model with the trained one, and with the base model if there is an
    adapter.
    """
    return Nearness(
        logit_difference=logit_difference(merged, trained),
        adapter_kept=adapter_kept(merged, trained, base) if base is not None else None,
        loss_added=merged.loss - trained.loss,
        loss_learnt=base.loss - trained.loss if base is not None else None,
    )


def check_weights(folder: Path, near: Nearness) -> None:
    """Check that the weights in `folder`, so near to the trained ones, are those but for rounding.

    Raises:
        RuntimeError: they are not.

    """
    part = near.adapter_kept
    if near.logit_difference > MOST_DIFFERENCE or (part is not None and not 0.8 < part < 1.2):
        more = "" if part is None else f", and hold {part:.0%} of what the adapter changes"
        raise RuntimeError(
            f"the weights in {folder} are not what was trained: their logits differ by "
            f"{near.logit_difference:.2f} of the logits' spread{more}; the checkpoint is whole: "
            "run again, and if it is the same, report it"
        )


def check_turn_end(
    folder: Path, tokenizer: Any, merged: Any, stop: int, settings: FinetuneSection
) -> None:
    """Check that in `folder` the stop token ends a turn and the template is the trained one.

    Raises:
        RuntimeError: it is not so; the message says what is wrong.

    """
    from transformers import AutoTokenizer

    ends = merged.generation_config.eos_token_id
    if stop not in (ends if isinstance(ends, list) else [ends]):
        name = tokenizer.convert_ids_to_tokens(stop)
        raise RuntimeError(f"{folder} would not stop at {name}: generation_config lacks it")
    saved = AutoTokenizer.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
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
        raise RuntimeError(f"{folder} was saved without the trained chat template")


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmFit:
    """How vLLM loads an adapter: the least `max_lora_rank` for it, or why it refuses."""

    max_lora_rank: int | None
    refused: list[str]


def vllm_fit(adapter: Path) -> VllmFit:
    """Whether vLLM loads an adapter, by its loader's rules, without importing it: that takes longer
    than all other checks.
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
