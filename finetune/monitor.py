"""Short generations while the student trains: does it close its thinking, does it end, is it right.

It is asked the problems that `finetune.holdout` keeps out of its training: new to it, of the kind
that it learns, and with answers that a verifier can judge where the traces' could. The recipe's
`problems.heldout` stay unseen until the evaluation: who stops or tunes a training by them has no
honest figure left. So the pass rate here is that of problems which the teacher solved, mostly above
the evaluation's, and with 20 of them no more than a curve to look at: its 95% interval reaches
some 20 points to either side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.attention import PACKED
from finetune.gate import left_padded, spare_threads
from finetune.metrics import append
from finetune.render import pad_id

if TYPE_CHECKING:
    from finetune.config import FinetuneSection
    from finetune.contract import Contract
    from finetune.render import Sample

MONITOR = "monitor.jsonl"

# Whether a completion to the problem of a trace is right, by the trace's id and the completion's
# text from the opening tag on; None where that can't be verified. It is picklable, since the
# processes of a training get it.
Judge = Callable[[str, str], bool | None]


def choose(heldout: Sequence[Sample], settings: FinetuneSection) -> list[Sample]:
    """A sample of each held-out problem that is tried.

    Raises:
        ValueError: no problem is held out.

    """
    assert settings.monitor is not None
    by_prompt: dict[bytes, Sample] = {}
    for sample in heldout:
        by_prompt.setdefault(sample.input_ids[: sample.prompt].tobytes(), sample)
    if not by_prompt:
        raise ValueError(
            f"finetune.monitor tries held-out problems, but with finetune.holdout at "
            f"{settings.holdout:g} there is none among these: raise holdout, or leave monitor out"
        )
    return list(by_prompt.values())[: settings.monitor.problems]


def answer(
    model: Any,
    asked: Sequence[Sample],
    ends: Sequence[int],
    pad: int,
    *,
    max_tokens: int,
    at_once: int,
) -> list[list[int]]:
    """The greedy completion to each sample's prompt, as token ids with the id that ended it.

    The model may be in the middle of a training: its mode, its attention, its generation_config and
    the number of threads are afterwards as they were, and no random number is drawn. What the
    model's own generation_config asks for, such as a repetition penalty, does not count.

    Args:
        model: the student, with its adapter where it has one.
        asked: whose prompts are answered.
        ends: the token ids that end a completion.
        pad: the id that fills rows up, at their left.
        max_tokens: of each completion.
        at_once: the most tokens of prompts and completions in the memory, where that is more than
            one row of them.

    """
    import torch

    width = max(sample.prompt for sample in asked)
    rows = max(1, at_once // (width + max_tokens))
    device = model.get_input_embeddings().weight.device
    made: list[list[int]] = []
    with _answering(model, ends, pad, max_tokens), torch.no_grad():
        for begin in range(0, len(asked), rows):
            part = asked[begin : begin + rows]
            found = model.generate(**left_padded(part, width, pad, device))
            made += [_until_end(row, ends) for row in found[:, width:].tolist()]
    return made


@contextlib.contextmanager
def _answering(model: Any, ends: Sequence[int], pad: int, max_tokens: int) -> Iterator[None]:
    """Put a model that is trained into the state in which it answers, and back."""
    import torch
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
    from transformers import GenerationConfig

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    training, threads = model.training, torch.get_num_threads()
    own, attention = base.generation_config, base.config._attn_implementation
    model.eval()  # also what keeps gradient checkpointing from dropping the cache
    spare_threads(model)
    base.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=max_tokens, eos_token_id=list(ends), pad_token_id=pad
    )
    if attention == PACKED:  # it knows neither a cache nor padding
        base.set_attn_implementation("sdpa")
    # Of a model in shares, only a call that FSDP knows gathers what lies outside of its layers.
    register_fsdp_forward_method(model, "generate")
    try:
        yield
    finally:
        if isinstance(model, FSDPModule):
            del model.generate
        if attention == PACKED:
            base.set_attn_implementation(PACKED)
        base.generation_config = own
        torch.set_num_threads(threads)
        model.train(training)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # a cache that grew token by token left it in pieces


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The ids up to the first that ends a completion: what follows it is padding."""
    for at, token in enumerate(ids):
        if token in ends:
            return ids[: at + 1]
    return ids


def count(
    asked: Sequence[Sample],
    made: Sequence[Sequence[int]],
    tokenizer: Any,
    contract: Contract,
    ends: Sequence[int],
    judge: Judge | None,
) -> dict[str, Any]:
    """What the completions of some problems are like.

    Returns:
        How many `problems` there are; the shares of them whose thinking is `closed` and that
        `ended` by themselves; the mean `tokens` of a completion; how many could be `judged`, and
        the share of those that `passed`, null where there is none.

    """
    closes = contract.closes.strip()
    closed = ended = 0
    verdicts: list[bool] = []
    for sample, ids in zip(asked, made, strict=True):
        stopped = bool(ids) and ids[-1] in ends
        ended += stopped
        text = tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=False)
        closed += closes in text
        verdict = judge(sample.trace_id, contract.prefill + text) if judge is not None else None
        if verdict is not None:
            verdicts.append(verdict)
    problems = len(asked)
    return {
        "problems": problems,
        "closed": round(closed / problems, 4),
        "ended": round(ended / problems, 4),
        "tokens": round(sum(map(len, made)) / problems, 1),
        "judged": len(verdicts),
        "passed": round(sum(verdicts) / len(verdicts), 4) if verdicts else None,
    }


def make_monitor(
    trainer: Any,
    asked: Sequence[Sample],
    tokenizer: Any,
    contract: Contract,
    ends: Sequence[int],
    settings: FinetuneSection,
    folder: Path,
    judge: Judge | None,
) -> Any:
    """A callback that lets the student of `trainer` answer `asked` every so many steps and after
    the last, and writes what came of it to `monitor.jsonl` in `folder` and to the trackers.

    Every process generates, since each may hold a part of the model; the first one judges.
    """
    from transformers import TrainerCallback

    assert settings.monitor is not None
    every, max_tokens = settings.monitor.every, settings.monitor.max_tokens
    pad = pad_id(tokenizer, ends[0])

    class Monitor(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            step = state.global_step
            if "loss" not in (logs or {}) or (step % every and step != state.max_steps):
                return
            begin = time.monotonic()
            with trainer.accelerator.autocast():
                made = answer(
                    trainer.model, asked, ends, pad,
                    max_tokens=max_tokens,
                    # A packed row's activations are more than as many tokens' cache.
                    at_once=settings.max_length,
                )  # fmt: skip
            if not state.is_world_process_zero:
                return
            seen = count(asked, made, tokenizer, contract, ends, judge)
            row = {"step": step, **seen, "seconds": round(time.monotonic() - begin, 3)}
            append(folder / MONITOR, row)
            trainer.log(_tracked(seen))

    return Monitor()


def _tracked(seen: dict[str, Any]) -> dict[str, float]:
    """The figures by the names that trackers show below `eval/`."""
    names = {
        "closed": "eval_think_closed", "ended": "eval_ended", "tokens": "eval_answer_tokens",
        "passed": "eval_pass_rate",
    }  # fmt: skip
    return {names[key]: value for key, value in seen.items() if key in names and value is not None}
