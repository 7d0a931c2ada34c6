"""Drop traces that say what an earlier trace of the same problem says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from filter.words import Gram, grams, split_words
from tracestill.recipe.filter import NearDuplicates
from tracestill.records import Drop, Trace
from tracestill.records.identity import normalise_prompt

# Up to so many traces of a problem, comparing all pairs is both exact and faster than hashing.
_PAIRWISE = 64

Shingles = set[Gram]


def exact_duplicates(traces: Iterable[Trace]) -> Iterator[Drop]:
    """Drop traces whose reasoning and answer are an earlier one's of the same problem, but for
    white space and Unicode's compatible forms (NFKC): `exact_duplicate`.
    """
    first: dict[tuple[str, str, str], str] = {}
    for trace in traces:
        parts = normalise_prompt(trace.reasoning or ""), normalise_prompt(trace.answer or "")
        twin = first.setdefault((trace.problem_id, *parts), trace.id)
        if twin != trace.id:
            yield Drop(
                trace_id=trace.id,
                step="exact_duplicates",
                reason="exact_duplicate",
                detail=f"of {twin}",
            )


def near_duplicates(settings: NearDuplicates) -> Callable[[Iterable[Trace]], Iterator[Drop]]:
    """Drop traces whose n-grams of words have a Jaccard similarity of at least
    `settings.threshold` with those of an earlier *kept* trace of the problem: `near_duplicate`.

    Among many traces of one problem, MinHash with locality-sensitive hashing (Broder 1997;
    Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, ch. 3) proposes the pairs, and the
    similarity itself decides; it can overlook a pair close to the threshold.
    """

    def step(traces: Iterable[Trace]) -> Iterator[Drop]:
        groups: dict[str, list[Trace]] = {}
        for trace in traces:
            groups.setdefault(trace.problem_id, []).append(trace)
        for group in groups.values():
            if len(group) > 1:
                yield from _near_in(group, settings)

    return step


def _near_in(group: Sequence[Trace], settings: NearDuplicates) -> Iterator[Drop]:
    sets = [_shingles(f"{t.reasoning or ''}\n{t.answer or ''}", settings.ngram) for t in group]
    earlier = _all_earlier if len(group) <= _PAIRWISE else _minhash_earlier
    kept: set[int] = set()
    for number, candidates in enumerate(earlier(sets, settings)):
        for other in candidates:
            if other not in kept:
                continue
            similarity = _jaccard(sets[number], sets[other], settings.threshold)
            if similarity >= settings.threshold:
                yield Drop(
                    trace_id=group[number].id,
                    step="near_duplicates",
                    reason="near_duplicate",
                    detail=f"of {group[other].id}, similarity {similarity:.3f}",
                )
                break
        else:
            kept.add(number)


def _shingles(text: str, n: int) -> Shingles:
    words = split_words(text)
    return set(grams(words, n)) or {tuple(words)}


def _jaccard(left: Shingles, right: Shingles, threshold: float) -> float:
    """The Jaccard similarity; 0 where the sizes alone rule out that it reaches `threshold`."""
    small, large = sorted((len(left), len(right)))
    if small < threshold * large:
        return 0.0
    shared = len(left & right)
    return shared / (small + large - shared)


def _all_earlier(sets: Sequence[Shingles], settings: NearDuplicates) -> Iterator[Sequence[int]]:
    """For each set the numbers of all before it."""
    return (range(number) for number in range(len(sets)))


def _minhash_earlier(sets: Sequence[Shingles], settings: NearDuplicates) -> Iterator[Sequence[int]]:
    """For each set the numbers of those before it that are likely to be similar, ascending."""
    from datasketch import MinHash, MinHashLSH

    # What it proposes in vain costs one comparison, what it overlooks is a duplicate kept.
    index = MinHashLSH(
        threshold=settings.threshold, num_perm=settings.permutations, weights=(0.1, 0.9)
    )
    for number, shingles in enumerate(sets):
        sketch = MinHash(num_perm=settings.permutations, seed=1)
        sketch.update_batch([" ".join(gram).encode("utf-8", "surrogatepass") for gram in shingles])
        yield sorted(index.query(sketch))
        index.insert(number, sketch)
