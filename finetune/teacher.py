"""The teacher whose distribution is learnt: whether it can teach the student, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.config import FinetuneSection, OnPolicy
from finetune.model import in_bfloat16

Prompts = Sequence[Sequence[int]]


def asked_for(settings: FinetuneSection) -> OnPolicy:
    """What the recipe says of it, where it says something."""
    assert settings.on_policy is not None, "asked for"
    return settings.on_policy


def check_teacher(
    prompts: Prompts,
    settings: FinetuneSection,
    *,
    student: str,
    tokenizer: Any,
    stops: Sequence[int],
) -> None:
    """Check that `settings.on_policy.teacher` can teach the student token by token. Nothing but
    tokenizers and configs is loaded.

    `prompts` and `stops` are as for `distil_on_policy`.

    Raises:
        ValueError: there is no such teacher, its vocabulary is another, it ends its turns with
            another token, or a sample can become longer than a context; one line with the fix.

    """
    from transformers import AutoConfig, AutoTokenizer

    asked = asked_for(settings)
    options = {"revision": asked.revision, "trust_remote_code": settings.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(asked.teacher, **options)
        other = AutoTokenizer.from_pretrained(asked.teacher, **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"finetune.on_policy.teacher: {asked.teacher} can't be loaded: {error}"
        ) from error
    own = AutoConfig.from_pretrained(
        student, revision=settings.revision, trust_remote_code=settings.trust_remote_code
    )
    _check_vocabulary(tokenizer.get_vocab(), other.get_vocab(), asked.teacher)
    rows, others = own.get_text_config().vocab_size, config.get_text_config().vocab_size
    if others < rows:
        raise ValueError(
            f"finetune.on_policy.teacher: {asked.teacher} has {others:,} embeddings and the "
            f"student {rows:,}; it must have as many or more: choose a larger model of that family"
        )
    ends = _ends(asked, config, other)
    if ends and stops[0] not in ends:
        named = ", ".join(str(other.convert_ids_to_tokens(token)) for token in sorted(ends))
        stop = tokenizer.convert_ids_to_tokens(stops[0])
        raise ValueError(
            f"finetune.on_policy.teacher: {asked.teacher} ends its turn with {named} and the "
            f"student with {stop}, which it would unlearn from it; choose a template and a stop "
            f"token of the teacher's, or leave finetune.on_policy out"
        )
    longest = max(map(len, prompts)) + asked.max_tokens
    for name, one in (("student", own), ("teacher", config)):
        context = getattr(one.get_text_config(), "max_position_embeddings", None)
        if context is not None and longest > context:
            raise ValueError(
                f"finetune.on_policy.max_tokens: with the longest prompt, {asked.max_tokens:,} "
                f"make {longest:,} tokens, but the {name}'s context is {context:,}; set it to "
                f"{max(1, context - longest + asked.max_tokens):,} or less"
            )


def _check_vocabulary(own: dict[str, int], other: dict[str, int], teacher: str) -> None:
    differing = [token for token in own | other if own.get(token) != other.get(token)]
    if not differing:
        return
    first = min(differing, key=lambda token: (max(own.get(token, 0), other.get(token, 0)), token))
    ids = [vocabulary.get(first, "none") for vocabulary in (own, other)]
    raise ValueError(
        f"finetune.on_policy.teacher: {teacher} has another vocabulary than the student: "
        f"{len(differing):,} tokens differ, such as {first!r} (the student's id: {ids[0]}, the "
        f"teacher's: {ids[1]}), and distributions are compared token by token. Leave "
        "finetune.on_policy out: traces teach a student of any vocabulary. Beyond tracestill, the "
        "experimental GOLDTrainer of trl aligns different ones"
    )


def _ends(asked: OnPolicy, config: Any, tokenizer: Any) -> set[int]:
    """The tokens that end the teacher's turn."""
    from transformers import GenerationConfig

    try:
        said = GenerationConfig.from_pretrained(asked.teacher, revision=asked.revision)
    except OSError:  # a model need not have one
        said = config
    found = said.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    return set(found) if isinstance(found, list) else {found} - {None}


def load_teacher(settings: FinetuneSection, rows: int) -> Any:
    """The teacher in the dtype that the student computes in, with as many embeddings as it."""
    import torch
    from transformers import AutoModelForCausalLM

    asked = asked_for(settings)
    teacher = AutoModelForCausalLM.from_pretrained(
        asked.teacher,
        revision=asked.revision,
        trust_remote_code=settings.trust_remote_code,
        dtype=torch.bfloat16 if in_bfloat16(settings) else torch.float32,
        attn_implementation="sdpa",
    )
    if teacher.config.get_text_config().vocab_size > rows:
        # What is cut off stands for no token: the vocabularies are equal, larger models of a
        # family are only padded to a rounder number.
        teacher.resize_token_embeddings(rows, mean_resizing=False)
    return teacher.requires_grad_(False)
