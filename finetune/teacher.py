"""The teacher of on-policy distillation: whether it can teach the student, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.multimodal import load_model
from finetune.student import in_bfloat16, load_config
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.on_policy import OnPolicy


def policy_of(settings: FinetuneSection) -> OnPolicy:
    """The recipe's section `on_policy`, which is there."""
    assert settings.on_policy is not None
    return settings.on_policy


def check_teacher(
    prompts: Sequence[Sequence[int]],
    settings: FinetuneSection,
    *,
    student: str,
    tokenizer: Any,
    endings: Sequence[int],
) -> None:
    """Check, from tokenizers and configs alone, that `settings.on_policy.teacher` can teach the
    student token by token. `prompts` are
    token ids, `endings` the ids that end a sample, the trained stop token's first.

    Raises:
        ValueError: there is no such teacher, it has another vocabulary or ends its turns with
            another token, or a sample would not fit a context; one line with the fix.

    """
    from transformers import AutoConfig, AutoTokenizer

    policy = policy_of(settings)
    options = {"revision": policy.revision, "trust_remote_code": settings.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(policy.teacher, **options)
        other = AutoTokenizer.from_pretrained(policy.teacher, **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"finetune.on_policy.teacher: {policy.teacher} can't be loaded: {error}"
        ) from error
    own = load_config(student, settings)
    _check_vocabulary(tokenizer.get_vocab(), other.get_vocab(), policy.teacher)
    rows, others = own.get_text_config().vocab_size, config.get_text_config().vocab_size
    if others < rows:
        raise ValueError(
            f"finetune.on_policy.teacher: {policy.teacher} has {others:,} embeddings and the "
            f"student {rows:,}; it must have as many or more: choose a larger model of that family"
        )
    ends = _ends(policy, config, other)
    if ends and endings[0] not in ends:
        named = ", ".join(str(other.convert_ids_to_tokens(token)) for token in sorted(ends))
        stop = tokenizer.convert_ids_to_tokens(endings[0])
        raise ValueError(
            f"finetune.on_policy.teacher: {policy.teacher} ends its turn with {named} and the "
            f"student with {stop}, which it would unlearn from it; choose a template and a stop "
            f"token of the teacher's, or leave finetune.on_policy out"
        )
    longest = max(map(len, prompts)) + policy.max_tokens
    for name, one in (("student", own), ("teacher", config)):
        context = getattr(one.get_text_config(), "max_position_embeddings", None)
        if context is not None and longest > context:
            raise ValueError(
                f"finetune.on_policy.max_tokens: with the longest prompt, {policy.max_tokens:,} "
                f"make {longest:,} tokens, but the {name}'s context is {context:,}; set it to "
                f"{max(1, context - longest + policy.max_tokens):,} or less"
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


def _ends(policy: OnPolicy, config: Any, tokenizer: Any) -> set[int]:
    """The tokens that end the teacher's turn."""
    from transformers import GenerationConfig

    try:
        said = GenerationConfig.from_pretrained(policy.teacher, revision=policy.revision)
    except OSError:  # a model need not have one
        said = config
    found = said.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    return set(found) if isinstance(found, list) else {found} - {None}


def load_teacher(settings: FinetuneSection, rows: int) -> Any:
    """Load the teacher in the dtype that the student computes in, cut to `rows` embeddings."""
    import torch

    policy = policy_of(settings)
    teacher = load_model(
        policy.teacher,
        revision=policy.revision,
        trust_remote_code=settings.trust_remote_code,
        dtype=torch.bfloat16 if in_bfloat16(settings) else torch.float32,
        attn_implementation="sdpa",
    )
    if teacher.config.get_text_config().vocab_size > rows:
        # The further rows are of no token: the vocabularies are equal, and larger models of a
        # family are padded to a rounder number.
        teacher.resize_token_embeddings(rows, mean_resizing=False)
    return teacher.requires_grad_(False)
