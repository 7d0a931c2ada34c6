"""Check, before the first step and on every sample, that the student learns what it will see.

The samples are not taken from the renderer's word: prompts are made again by the tokenizer's own
`apply_chat_template`, as engines call it, and what is learnt is decoded and compared with the
trace's text.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finetune.contract import Contract
from finetune.encoding import ahead, all_cores, decode
from finetune.findings import Findings
from finetune.render import BATCH, Example, Rendered, Sample, as_messages

if TYPE_CHECKING:
    import numpy.typing as npt

# Where the positions are stretched already in max_position_embeddings, as vLLM reads it too.
_SCALED = ("llama3", "longrope", "su", "yarn")


def preflight(
    rendered: Rendered,
    examples: Sequence[Example],
    tokenizer: Any,
    config: Any,
    *,
    system: str | None,
    max_length: int,
    unlearnable: Literal["error", "drop"] = "error",
) -> Rendered:
    """Check rendered samples against their examples, the tokenizer and the model's configuration.

    For each: the prompt's ids are those that an engine makes of the same chat; what is learnt is
    the whole completion, decodes to the trace's own text, has one think pair, and ends with the one
    stop token; there is no second bos token, no unknown token, and nothing beyond the model's
    vocabulary or context. A tokenizer may only have changed the text as its own normaliser does,
    or as the contract's `normalisation` says.

    Returns:
        What may be learnt: all of it, or with `unlearnable` drop what has no finding about its
        text.

    Raises:
        ValueError: a sample would teach something else; one line that names it and the fix, and
            says how many have the same.

    """
    rows = _check_vocabulary(tokenizer, config)
    asked = {example.trace_id: example for example in examples}
    normalise = _normaliser(tokenizer, rendered.contract.normalisation)
    found = Findings()

    def decoded(part: Sequence[Sample]) -> list[tuple[str, str]]:
        whole = [
            (name, np.concatenate([piece.input_ids[piece.prompt :] for piece in several])[:-1])
            for name, several in itertools.groupby(part, lambda sample: sample.trace_id)
        ]
        texts = decode(tokenizer, [ids.tolist() for _, ids in whole])
        return [(name, text) for (name, _), text in zip(whole, texts, strict=True)]

    with all_cores():
        for part, texts in ahead(decoded, _batches(rendered.samples)):
            _check_prompts(part, asked, tokenizer, rendered, system)
            _check_ids(part, tokenizer, rendered, rows, max_length, found)
            for name, text in texts:
                _check_text(text, asked[name], rendered.contract, normalise, found)
    bad = found.traces
    samples = [sample for sample in rendered.samples if sample.trace_id not in bad]
    if unlearnable == "error" or not samples:
        found.check()
    _check_context(samples, config)
    return replace(rendered, samples=samples, refused=rendered.refused.joined(found))


def context_length(config: Any) -> int | None:
    """How many tokens a model of this configuration can read, its RoPE scaling included; None if
    it does not say.
    """
    text = config.get_text_config()
    context = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if context is None or "rope_type" not in rope:  # none, or by layer: these have no factor
        return context
    factor = 1.0 if rope["rope_type"] in _SCALED else rope.get("factor") or 1.0
    return int(context * factor)


def _check_vocabulary(tokenizer: Any, config: Any) -> int:
    """How many tokens the model has embeddings for."""
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
            "student, or a copy of this one whose config.json stretches its RoPE"
        )


def _batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The samples in parts; the pieces of one that was split stay together."""
    part: list[Sample] = []
    for sample in samples:
        if len(part) >= BATCH and sample.trace_id != part[-1].trace_id:
            yield part
            part = []
        part.append(sample)
    yield part


def _check_prompts(
    samples: Sequence[Sample],
    asked: dict[str, Example],
    tokenizer: Any,
    rendered: Rendered,
    system: str | None,
) -> None:
    expected: dict[tuple[str, str], npt.NDArray[np.int32]] = {}
    prompts: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        example = asked[sample.trace_id]
        prompts.setdefault((example.prompt, example.language), sample)
    for language, keys in itertools.groupby(sorted(prompts, key=_language), _language):
        several = list(keys)
        made = tokenizer.apply_chat_template(
            [as_messages(prompt, system) for prompt, _ in several],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            language=language,
        )
        for key, ids, text in zip(several, made, decode(tokenizer, made), strict=True):
            expected[key] = np.array(ids, dtype=np.int32)
            _check_prompt(prompts[key].trace_id, expected[key], text, tokenizer, rendered)
    for sample in samples:
        example = asked[sample.trace_id]
        own = sample.input_ids[: sample.prompt]
        if not np.array_equal(own, expected[example.prompt, example.language]):
            raise ValueError(
                f"trace {sample.trace_id}: its prompt is not what the student will see: the "
                "tokenizer's chat template gives other ids; was the template changed since the "
                "samples were rendered? render them anew"
            )


def _language(key: tuple[str, str]) -> str:
    return key[1]


def _check_prompt(
    trace_id: str, ids: npt.NDArray[np.int32], text: str, tokenizer: Any, rendered: Rendered
) -> None:
    contract, bos = rendered.contract, tokenizer.bos_token_id
    if not text.endswith(contract.prefill):
        raise ValueError(
            f"trace {trace_id}: its prompt does not end with {contract.prefill!r}, as "
            "think: prefilled promises; mend the template, or set finetune.think to generated"
        )
    if bos is None:
        return
    count = int((ids == bos).sum())
    if contract.bos and (count != 1 or ids[0] != bos):
        raise ValueError(
            f"trace {trace_id}: its prompt has {count} {tokenizer.bos_token} where the contract "
            "has one, at the beginning; mend the template, or the contract's `bos`"
        )
    if not contract.bos and count and ids[0] == bos:
        raise ValueError(
            f"trace {trace_id}: its prompt begins with {tokenizer.bos_token}, of which the "
            "contract says nothing: set its `bos` to true, or mend the template"
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
    for sample, following in itertools.zip_longest(samples, samples[1:]):
        name, ids = f"trace {sample.trace_id}", sample.input_ids
        if len(ids) > max_length:
            raise ValueError(
                f"{name} has {len(ids):,} tokens, more than finetune.max_length ({max_length}): it "
                "would be cut; render it anew"
            )
        if ids.max() >= rows:
            raise ValueError(
                f"{name} has token {ids.max()}, but the model only {rows:,} embeddings: the "
                "tokenizer belongs to another model; put the right one into the student's folder"
            )
        if unknown is not None and (ids == unknown).any():
            text = "it has text that the student's tokenizer can't write and that becomes "
            found.add("unknown", sample.trace_id, f"{text}{tokenizer.unk_token}")
        last = following is None or following.trace_id != sample.trace_id
        learnt = ids[sample.prompt :]
        if ends[learnt].sum() != last or bool(learnt[-1] == stop) != last:
            what = f"it does not end with the one stop token {rendered.contract.stop}, or holds "
            found.add("stop", sample.trace_id, f"{what}another that ends a generation")


def _check_text(
    text: str,
    example: Example,
    contract: Contract,
    normalise: Callable[[str], str],
    found: Findings,
) -> None:
    opens, closes = contract.opens.strip(), contract.closes.strip()
    opened = text.count(opens) + contract.prefill.count(opens)
    if text.count(closes) != 1 or opened != 1 or not text.startswith(contract.opening):
        found.add("tag", example.trace_id, f"what is learnt has not one {opens} and one {closes}")
        return
    reasoning, _, answer = text.removeprefix(contract.opening).partition(contract.closes)
    for part, written, source in (
        ("reasoning", reasoning, example.reasoning.strip()),
        ("answer", answer, example.answer.strip()),
    ):
        if written != source and written != normalise(source):
            at = next(
                (i for i, (a, b) in enumerate(zip(written, source, strict=False)) if a != b),
                min(len(written), len(source)),
            )
            found.add(
                "text",
                example.trace_id,
                f"its {part} becomes {written[at : at + 20]!r} where the teacher wrote "
                f"{source[at : at + 20]!r}, which the student's tokenizer can't write",
            )
            return


def _normaliser(tokenizer: Any, form: Any) -> Callable[[str], str]:
    if not tokenizer.is_fast:
        return lambda text: unicodedata.normalize(form, text) if form else text
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer.normalize_str if normalizer is not None else str
