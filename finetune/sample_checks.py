"""Check every rendered sample before the first step: does it teach what the student will see.

The renderer is not trusted: prompts are made again by the tokenizer's own `apply_chat_template`, as
engines call it, and completions are decoded and compared with the trace's text.
"""

from __future__ import annotations

import itertools
import operator
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from finetune.encoding import ahead, all_cores, decode
from finetune.findings import Findings
from finetune.render import BATCH, Rendered
from finetune.sample import Example, Ids, Sample
from finetune.tokenizer import as_messages, prompt_ids
from tracestill.recipe.contract import Contract
from tracestill.recipe.finetune import UnlearnablePolicy
from tracestill.records.tokenizers import unwritten

# RoPE scalings whose max_position_embeddings is the scaled length already, as vLLM reads it too.
_SCALED = ("llama3", "longrope", "su", "yarn")
_PromptKey = tuple[str, bool, str]  # language, whether it is asked to think, problem


def check_samples(
    rendered: Rendered,
    examples: Sequence[Example],
    tokenizer: Any,
    config: Any,
    *,
    system: str | None,
    max_length: int,
    unlearnable: UnlearnablePolicy = "error",
    mixed: bool = False,
) -> Rendered:
    """Check rendered samples against their examples, the tokenizer and the model's config.

    Of each sample: the prompt's ids are those that an engine makes of the same chat; the completion
    decodes to the trace's own text with one pair of think tags, and ends with the one stop token
    (a cut one is a beginning of that text, and has none); there is no second bos token, no unknown
    token, and nothing beyond the model's vocabulary or context. The tokenizer may have changed the
    text only as its own normaliser does, or as the contract's `normalisation` says.

    Returns:
        `rendered`, without the samples whose text has a fault where `unlearnable` lets them go.

    Raises:
        ValueError: a sample would teach something else; one line with its trace, the fix, and how
            many have the same fault.

    """
    rows = _check_vocabulary(tokenizer, config)
    by_trace = {example.trace_id: example for example in examples}
    normalise = _normaliser(tokenizer, rendered.contract.normalisation)
    found = Findings()

    def decoded(part: Sequence[Sample]) -> list[str]:
        # Without the stop token.
        ends = [None if sample.cut else -1 for sample in part]
        learnt = [one.input_ids[one.prompt : end] for one, end in zip(part, ends, strict=True)]
        return decode(tokenizer, [ids.tolist() for ids in learnt])

    every = rendered.samples
    parts = (every[begin : begin + BATCH] for begin in range(0, len(every), BATCH))
    with all_cores():
        for part, texts in ahead(decoded, parts):
            _check_prompts(part, by_trace, tokenizer, rendered, system, mixed, found)
            _check_ids(part, tokenizer, rendered, rows, max_length, found)
            for sample, text in zip(part, texts, strict=True):
                example = by_trace[sample.trace_id]
                own = rendered.contract.of_trace(example.thinks, mixed)
                fault = _text_fault(text, example, sample.cut, own, normalise)
                if fault is not None:
                    found.add(*fault)
    samples = [sample for sample in every if sample.trace_id not in found.traces]
    found.settle(unlearnable, len(every))
    _check_context(samples, config)
    return replace(rendered, samples=samples, refused=rendered.refused.joined(found))


def context_length(config: Any) -> int | None:
    """The longest text in tokens that a model of this config reads, its RoPE scaling included; None
    if the config does not say.
    """
    text = config.get_text_config()
    context = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if context is None or "rope_type" not in rope:  # none, or by layer: these have no factor
        return context
    factor = 1.0 if rope["rope_type"] in _SCALED else rope.get("factor") or 1.0
    return int(context * factor)


def _check_vocabulary(tokenizer: Any, config: Any) -> int:
    """The number of the model's embeddings."""
    rows: int = config.get_text_config().vocab_size
    if len(tokenizer) > rows:
        raise ValueError(
            f"finetune.student: its tokenizer has {len(tokenizer):,} tokens, but the model only "
            f"{rows:,} embeddings: the tokenizer belongs to another model; put the right one into "
            "the student's folder"
        )
    eos = config.get_text_config().eos_token_id
    known = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for ending in eos if isinstance(eos, list) else [] if eos is None else [eos]:
        if ending not in known:
            raise ValueError(
                f"finetune.student: the model ends a text with token {ending}, which to its "
                "tokenizer is no special token: the tokenizer belongs to another model; put the "
                "right one into the student's folder"
            )
    return rows


def _check_context(samples: Sequence[Sample], config: Any) -> None:
    context = context_length(config)
    longest = max(samples, key=lambda sample: len(sample.input_ids))
    if context is not None and len(longest.input_ids) > context:
        raise ValueError(
            f"trace {longest.trace_id} has {len(longest.input_ids):,} tokens, but the student's "
            f"context is {context:,}: set finetune.max_length to {context}, or choose another "
            "student, or a copy of this one whose config.json scales its RoPE"
        )


def _check_prompts(
    samples: Sequence[Sample],
    by_trace: dict[str, Example],
    tokenizer: Any,
    rendered: Rendered,
    system: str | None,
    mixed: bool,
    found: Findings,
) -> None:
    expected: dict[_PromptKey, Ids] = {}
    first: dict[_PromptKey, Sample] = {}
    for sample in samples:
        first.setdefault(_prompt_key(by_trace[sample.trace_id]), sample)
    by_kind = operator.itemgetter(0, 1)
    for (language, thinks), keys in itertools.groupby(sorted(first, key=by_kind), by_kind):
        several = list(keys)
        contract = rendered.contract.of_trace(thinks, mixed)
        made = prompt_ids(
            tokenizer,
            [as_messages(prompt, system) for *_, prompt in several],
            {"language": language, **contract.told(mixed)},
        )
        for key, ids, text in zip(several, made, decode(tokenizer, made), strict=True):
            expected[key] = np.array(ids, dtype=np.int32)
            trace = first[key].trace_id
            _check_prompt(trace, expected[key], text, tokenizer, contract)
            if (wrong := unwritten(text, [key[2]])) is not None:
                found.add("prompt", trace, f"its problem's {wrong}")
    for sample in samples:
        own = sample.input_ids[: sample.prompt]
        if not np.array_equal(own, expected[_prompt_key(by_trace[sample.trace_id])]):
            raise ValueError(
                f"trace {sample.trace_id}: its prompt is not what the student will see: the "
                "tokenizer's chat template gives other ids; was the template changed since the "
                "samples were rendered? render them anew"
            )


def _prompt_key(example: Example) -> _PromptKey:
    return example.language, example.thinks, example.prompt


def _check_prompt(trace_id: str, ids: Ids, text: str, tokenizer: Any, contract: Contract) -> None:
    bos = tokenizer.bos_token_id
    if not text.endswith(contract.prefill):
        raise ValueError(
            f"trace {trace_id}: its prompt does not end with {contract.prefill!r}, as "
            "think: prefilled promises; change the template, or set finetune.think to generated"
        )
    if bos is None:
        return
    count, begins = int((ids == bos).sum()), bool(ids[0] == bos)
    # Two in a row are wrong; where each turn begins with it, as in SmolLM2, there are several.
    doubled = begins and len(ids) > 1 and bool(ids[1] == bos)
    if contract.bos and (not begins or doubled):
        raise ValueError(
            f"trace {trace_id}: its prompt has {count} {tokenizer.bos_token} where the contract "
            "has one, at the beginning; change the template, or set finetune.contract.bos to false"
        )
    if not contract.bos and begins and (count == 1 or doubled):
        raise ValueError(
            f"trace {trace_id}: its prompt begins with {tokenizer.bos_token}, which the contract "
            "does not mention: set finetune.contract.bos to true, or change the template"
        )


def _check_ids(
    samples: Sequence[Sample],
    tokenizer: Any,
    rendered: Rendered,
    rows: int,
    max_length: int,
    found: Findings,
) -> None:
    stop, *_ = rendered.endings
    unknown = tokenizer.unk_token_id
    ends = np.zeros(max(rows, *rendered.endings) + 1, dtype=np.bool_)
    ends[rendered.endings] = True
    for sample in samples:
        name, ids = f"trace {sample.trace_id}", sample.input_ids
        if len(ids) > max_length:
            raise ValueError(
                f"{name} has {len(ids):,} tokens, more than finetune.max_length ({max_length}): "
                "render it anew"
            )
        if ids.max() >= rows:
            raise ValueError(
                f"{name} has token {ids.max()}, but the model only {rows:,} embeddings: the "
                "tokenizer belongs to another model; put the right one into the student's folder"
            )
        if unknown is not None and (ids == unknown).any():
            text = "it has text that the student's tokenizer can't write and that becomes "
            found.add("unknown", sample.trace_id, f"{text}{tokenizer.unk_token}")
        learnt, count = ids[sample.prompt :], 0 if sample.cut else 1
        if ends[learnt].sum() != count or int(learnt[-1] == stop) != count:
            what = f"it does not end with the one stop token {rendered.contract.stop}, or holds "
            if sample.cut:
                what = "it is cut, and yet holds "
            found.add("stop", sample.trace_id, f"{what}another that ends a generation")


def _text_fault(
    text: str, example: Example, cut: bool, contract: Contract, normalise: Callable[[str], str]
) -> tuple[str, str, str] | None:
    """The finding (kind, trace, words) about a decoded completion; None if it is the trace's."""
    opens, closes = contract.opens.strip(), contract.closes.strip()
    opened = text.count(opens) + contract.prefill.count(opens)
    closed = text.count(closes)
    sources = (example.reasoning.strip(), example.answer.strip())
    if contract.think == "none":
        tags = opened == closed == 0
        learnt = text.rstrip("\N{REPLACEMENT CHARACTER}") if cut else text
        end = len(learnt) if cut else None
        pairs = [("answer", learnt, [one[:end] for one in (sources[1], normalise(sources[1]))])]
    elif cut:
        # The cut can fall inside a tag, and inside a character of several tokens.
        tags = opened <= 1 and closed <= 1
        learnt = text.rstrip("\N{REPLACEMENT CHARACTER}")
        wholes = [
            contract.opening + contract.closes.join(parts)
            for parts in (sources, map(normalise, sources))
        ]
        pairs = [("text", learnt, [whole[: len(learnt)] for whole in wholes])]
    else:
        tags = opened == closed == 1 and text.startswith(contract.opening)
        reasoning, _, answer = text.removeprefix(contract.opening).partition(contract.closes)
        pairs = [
            (part, written, [source, normalise(source)])
            for part, written, source in zip(
                ("reasoning", "answer"), (reasoning, answer), sources, strict=True
            )
        ]
    if not tags:
        many = "a" if contract.think == "none" else "not one"
        return "tag", example.trace_id, f"its completion has {many} {opens} and one {closes}"
    for part, written, allowed in pairs:
        if written not in allowed:
            source = allowed[0]
            at = next(
                (i for i, (a, b) in enumerate(zip(written, source, strict=False)) if a != b),
                min(len(written), len(source)),
            )
            return (
                "text",
                example.trace_id,
                f"its {part} becomes {written[at : at + 20]!r} where the teacher wrote "
                f"{source[at : at + 20]!r}, which the student's tokenizer can't write",
            )
    return None


def _normaliser(tokenizer: Any, form: Any) -> Callable[[str], str]:
    if not tokenizer.is_fast:
        return lambda text: unicodedata.normalize(form, text) if form else text
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer.normalize_str if normalizer is not None else str
