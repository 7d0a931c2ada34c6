"""The loss of the learnt tokens, without the logits of a whole batch in memory."""

from __future__ import annotations

import functools
import types
from typing import Any

from finetune.packing import ANSWER, REASONING
from finetune.sample import IGNORED
from tracestill.recipe.finetune import Loss

# Bytes of logits at once: enough rows for a fast product, little beside the weights.
CHUNK_BYTES = 256 * 2**20
ACCURACY = "mean_token_accuracy"
"""The name of the token accuracy in what a trainer logs, which is trl's."""


def add_token_loss(model: Any, loss: Loss = "nll") -> None:
    """Replace a causal model's forward by one that can return the loss of each learnt token.

    With `shift_labels` of shape (rows, tokens), the next tokens or -100, the model returns
    `(total, each, right)`: the summed loss, which has a gradient; of each learnt token, in order,
    the negative log-likelihood in nats, float32, and whether no other token is more probable, bool,
    which have none. Only learnt tokens pass the output layer, in chunks whose gradient is computed
    at once, so that no logits are kept or recomputed.
    Without `shift_labels` the forward is the model's own.

    The loss of a token is its negative log-likelihood (`nll`), or with `dft` (Dynamic Fine-Tuning,
    Wu et al., 2025, arXiv 2508.05629) that times the token's probability, through which no gradient
    passes: what the student finds improbable counts less.

    Raises:
        ValueError: the model caps or scales its logits in a way that this loss does not.

    """
    own = type(model).forward  # not the one that an earlier call has set
    divisor = logits_divisor(model)

    def forward(self: Any, *args: Any, shift_labels: Any = None, **kwargs: Any) -> Any:
        if shift_labels is None:
            return own(self, *args, **kwargs)
        hidden = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state
        learnt = shift_labels != IGNORED
        return self.get_output_embeddings()(hidden[learnt], shift_labels[learnt])

    head = model.get_output_embeddings()
    project = type(head).forward

    # As the output layer's forward: if its weight is sharded, calling the layer gathers it.
    def head_forward(self: Any, hidden: Any, targets: Any = None) -> Any:
        if targets is None:
            return project(self, hidden)
        if divisor != 1.0:
            hidden = hidden / divisor
        return token_loss(hidden, self.weight, self.bias, targets, loss)

    forward.__signature__ = _signature(own)  # type: ignore[attr-defined]
    model.forward = types.MethodType(forward, model)
    head.forward = types.MethodType(head_forward, head)


def logits_divisor(model: Any) -> float:
    """What a causal model divides the states by before its output layer.

    Raises:
        ValueError: it caps or scales its logits in another way.

    """
    config = model.config.get_text_config()
    # Granite's are divided; in other families a key of that name is a factor.
    divided = config.model_type.startswith("granite")
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier"):
        if getattr(config, name, None) not in (None, 1.0) and not (
            divided and name == "logits_scaling"
        ):
            raise ValueError(
                f"finetune.student: {config.model_type} changes its logits ({name}), which this "
                "trainer does not; choose another student"
            )
    return float(getattr(config, "logits_scaling", 1.0)) if divided else 1.0


def sums_by_part(each: Any, right: Any, kinds: Any) -> Any:
    """The summed losses of reasoning and answer, their numbers of tokens, and the number of `right`
    tokens of both: float64, shape (5,).

    `each` are the losses of learnt tokens, `right` and `kinds` of the same shape whether they are
    the most probable ones, and their parts.
    """
    import torch

    sums = torch.zeros(5, dtype=torch.float64, device=each.device)
    sums[4] = right.sum()
    for place, part in enumerate((REASONING, ANSWER)):
        chosen = each[kinds == part]
        sums[place] = chosen.sum(dtype=torch.float64)
        sums[2 + place] = chosen.numel()
    return sums


def accuracy(sums: Any) -> float:
    """The token accuracy from sums of `sums_by_part`: the share of learnt tokens than which no
    other is more probable.
    """
    return float(sums[4] / sums[2:4].sum())


def means_by_part(sums: Any, name: str) -> dict[str, float]:
    """`NAME_reasoning` and `NAME_answer`, mean losses in nats, from sums of `sums_by_part`; a part
    without tokens is left out.
    """
    return {
        f"{name}_{part}": float(sums[place] / sums[2 + place])
        for place, part in enumerate(("reasoning", "answer"))
        if sums[2 + place] > 0
    }


def _signature(own: Any) -> Any:
    """The model's own signature, from which `generate` reads which arguments it takes."""
    import inspect

    return inspect.signature(own)


def token_loss(
    hidden: Any, weight: Any, bias: Any, targets: Any, loss: Loss = "nll"
) -> tuple[Any, Any, Any]:
    """The summed loss of `targets`, the negative log-likelihood of each, both float32, in nats, and
    whether each is the most probable token (or one of several), bool.

    Args:
        hidden: the last hidden states, shape (learnt tokens, hidden size).
        weight: the output layer's weight, shape (vocabulary, hidden size).
        bias: shape (vocabulary,), or None.
        targets: token ids, shape (learnt tokens,).
        loss: see `add_token_loss`.

    """
    total, each, right = _function().apply(hidden, weight, bias, targets, loss == "dft")
    return total, each, right


@functools.cache
def _function() -> Any:
    """The autograd function; a function of its own, so that torch is imported late."""
    import torch

    class TokenLoss(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(
            ctx: Any, hidden: Any, weight: Any, bias: Any, targets: Any, weighted: bool
        ) -> Any:
            needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
            tokens, vocabulary = hidden.shape[0], weight.shape[0]
            wide = torch.float32
            dtype = hidden.dtype
            if torch.is_autocast_enabled(hidden.device.type):
                dtype = torch.get_autocast_dtype(hidden.device.type)
            matrix = weight.to(dtype)
            each = torch.empty(tokens, dtype=wide, device=hidden.device)
            right = torch.empty(tokens, dtype=torch.bool, device=hidden.device)
            to_hidden = torch.empty_like(hidden) if needs_hidden else None
            to_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
            to_bias = torch.zeros_like(bias, dtype=wide) if needs_bias else None
            total = torch.zeros((), dtype=wide, device=hidden.device)
            step = max(1, CHUNK_BYTES // (4 * vocabulary))
            for begin in range(0, tokens, step):
                part = slice(begin, begin + step)
                states = hidden[part].to(dtype)
                logits = states @ matrix.t()
                if bias is not None:
                    logits = logits + bias.to(dtype)
                logits = logits.to(wide)
                goal = targets[part].unsqueeze(1)
                # One pass of exponentials, in place, serves the norm and the gradient.
                top = logits.amax(dim=1, keepdim=True)
                at = logits.gather(1, goal)
                powers = logits.sub_(top).exp_()
                norm = powers.sum(dim=1, keepdim=True)
                each[part] = (norm.log() + (top - at)).squeeze(1)
                right[part] = (at >= top).squeeze(1)
                if weighted:
                    total += (each[part] * torch.exp(-each[part])).sum()
                if not (needs_hidden or needs_weight or needs_bias):
                    continue
                # The gradient by the logits: the probabilities, less one at the target.
                slope = powers.div_(norm)
                slope.scatter_add_(1, goal, torch.full_like(goal, -1, dtype=wide))
                if weighted:
                    slope *= torch.exp(-each[part]).unsqueeze(1)
                if to_bias is not None:
                    to_bias += slope.sum(dim=0)
                slope = slope.to(dtype)
                if to_hidden is not None:
                    to_hidden[part] = (slope @ matrix).to(hidden.dtype)
                if to_weight is not None:
                    to_weight += (slope.t() @ states).to(wide)
                # Else they are still there while the next chunk's logits are made.
                del slope, powers, logits
            ctx.save_for_backward(to_hidden, to_weight, to_bias)
            ctx.dtypes = weight.dtype, bias.dtype if bias is not None else None
            ctx.mark_non_differentiable(each, right)
            return total if weighted else each.sum(), each, right

        @staticmethod
        def backward(ctx: Any, total: Any, *_: Any) -> Any:
            to_hidden, to_weight, to_bias = ctx.saved_tensors
            by_weight, by_bias = ctx.dtypes
            return (
                None if to_hidden is None else to_hidden * total.to(to_hidden.dtype),
                None if to_weight is None else (to_weight * total).to(by_weight),
                None if to_bias is None else (to_bias * total).to(by_bias),
                None,
                None,
            )

    return TokenLoss
