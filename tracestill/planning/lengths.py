"""How long the samples will be that a student learns from, as well as it is known before."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import Kept, Problem, Table, Trace, open_table, read_manifest
from tracestill.records.gguf import model_folder

_COUNTED = 512  # traces whose tokens are counted; the others' follow from their characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of each sample, none if they are not known; the share of them that is learnt (no
    prompt); and where all that comes from, in words.
    """

    tokens: list[int] = field(default_factory=list)
    learnt: float = 1.0
    source: str = ""


def sample_lengths(recipe: Recipe, run: Path, source: Path) -> Lengths:
    """The lengths of a run's kept traces, or else of what is sampled in `source`, as the teacher's
    engine counted them. Traces that nobody has counted, as imported ones, are counted with the
    student's tokenizer, if it is on this machine.
    """
    if read_manifest(run / "filter") is not None:
        return _kept(recipe, run)
    journal = source / "generate" / "journal.jsonl"
    if isinstance(recipe.generate, ImportTeacher) or not journal.exists():
        return Lengths()
    return _expected(recipe, run, journal)


def _kept(recipe: Recipe, run: Path) -> Lengths:
    kept = set(open_table(run / "filter", "kept", Kept).column("trace_id"))
    traces: Table[Trace] = open_table(run / "generate", "traces", Trace)
    told = "the traces that were kept"
    columns = [traces.column(name) for name in ("id", "prompt_tokens", "completion_tokens")]
    parts = [counts for trace, *counts in zip(*columns, strict=True) if trace in kept]
    # A prompt or an answer of no tokens is one that was not counted.
    if not all(prompt and completion for prompt, completion in parts):
        count = _counter(recipe.finetune.student, recipe.finetune.revision)
        if count is None:
            return Lengths(
                source="nobody has counted the traces' tokens, and the student's tokenizer.json is "
                "not on this machine"
            )
        parts = _counted(run, traces, kept, count)
        told += ", counted with the student's tokenizer"
    tokens = [prompt + completion for prompt, completion in parts]
    learnt = sum(completion for _, completion in parts) / max(1, sum(tokens))
    return Lengths(tokens=tokens, learnt=learnt if tokens else 1.0, source=told)


def _counted(
    run: Path, traces: Table[Trace], kept: set[str], count: Callable[[str], int]
) -> list[list[int]]:
    """Tokens of each kept trace's prompt, and of its reasoning with the answer: counted of a random
    part, by characters a token of the others.
    """
    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    asked = dict(zip(problems.column("id"), problems.column("prompt"), strict=True))
    chosen = set(random.Random(0).sample(range(len(kept)), min(_COUNTED, len(kept))))
    names = ("id", "problem_id", "reasoning", "answer")
    rows = zip(*(traces.column(name) for name in names), strict=True)
    characters: list[list[int]] = []
    known: dict[int, list[int]] = {}
    for trace, problem, reasoning, answer in rows:
        if trace not in kept:
            continue
        texts = asked[problem], f"{reasoning or ''}\n\n{answer or ''}"
        if len(characters) in chosen:
            known[len(characters)] = [count(text) for text in texts]
        characters.append([len(text) for text in texts])
    seen = sum(sum(characters[place]) for place in known)
    each = sum(sum(tokens) for tokens in known.values()) / max(1, seen)
    return [
        known.get(place) or [max(1, round(length * each)) for length in lengths]
        for place, lengths in enumerate(characters)
    ]


def _counter(model: str, revision: str | None) -> Callable[[str], int] | None:
    """Counts a text's tokens by a model's tokenizer.json; None if that is not on this machine."""
    from tokenizers import Tokenizer

    path = local_file(model, revision, "tokenizer.json")
    if path is None:
        return None
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def local_file(model: str, revision: str | None, name: str) -> Path | None:
    """A file of a model, from its folder or from the hub's cache on this machine."""
    model = model_folder(model)
    if model.startswith("/"):
        path = Path(model) / name
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _expected(recipe: Recipe, run: Path, journal: Path) -> Lengths:
    """As many lengths as there will be traces, if all that end by themselves are kept: those of
    the journal over and over.
    """
    from generate.ledger import INDEXED
    from tracestill.records import journal as journals

    asked: set[str] = set()
    ended: Counter[str] = Counter()
    seen: list[int] = []
    for (_, problem, _, finish, _, tokens, *_), _ in journals.read_heads(journal, INDEXED):
        asked.add(problem)
        if finish == "stop":
            ended[problem] += 1
            seen.append(tokens or 0)
    if not seen:
        return Lengths()
    most = recipe.filter.max_per_problem or math.inf
    each = sum(min(count, most) for count in ended.values()) / len(asked)
    made = read_manifest(run / "problems") is not None
    problems = len(open_table(run / "problems", "train", Problem)) if made else len(asked)
    count = round(each * problems)
    lengths = list(itertools.islice(itertools.cycle(seen), max(1, count)))
    told = f"about so many like the {len(seen):,} sampled so far, if all are kept"
    return Lengths(tokens=lengths, source=told)
