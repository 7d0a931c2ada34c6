"""Drop traces that say what another one says that is kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filter.hashing import Hashes, run_sets, similarities, spaced_buffers
from filter.near import Twins, bands_of, find_twins, near_twins, text_keys
from filter.steps.step import Mark, Places, View, preferred, whole_text
from tracestill.recipe.filter_steps import Exact, Near
from tracestill.records import AnyTrace
from tracestill.records.identity import normalise_prompt

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class ExactStep:
    """Drop traces whose reasoning and answer are another's of the same problem, but for white space
    and Unicode's compatible forms (NFKC): `exact_duplicate`.
    """

    settings: Exact

    def widths(self) -> Mapping[str, int]:
        """A hash of 128 bits."""
        return {"hash": 2}

    def measure(self, traces: Sequence[AnyTrace]) -> Mapping[str, Hashes]:
        """The hash of each trace's text."""
        texts = (_parts(trace).encode("utf-8", "surrogatepass") for trace in traces)
        hashes = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
        return {"hash": np.frombuffer(hashes, np.uint64).reshape(-1, 2)}

    def decide(self, view: View) -> Iterator[Mark]:
        """The first of like traces stays."""
        live = preferred(view, self.settings.keep)
        hashes = [view.measured("hash", number)[live] for number in (0, 1)]
        columns = [np.arange(len(live)), *hashes, view.index.problems[live]]
        order = np.lexsort(columns)
        same = np.ones(max(0, len(live) - 1), bool)
        for column in columns[1:]:
            same &= column[order][1:] == column[order][:-1]
        stays = order[np.maximum.accumulate(np.where(np.r_[True, ~same], np.arange(len(live)), 0))]
        for place, kept in zip(live[order], live[stays], strict=True):
            if place != kept:
                yield Mark(int(place), "exact_duplicate", f"of {view.index.ids[int(kept)]}")


def _parts(trace: AnyTrace) -> str:
    parts = normalise_prompt(trace.reasoning or ""), normalise_prompt(trace.answer or "")
    return "\0".join(parts)


@dataclass(frozen=True, slots=True)
class NearStep:
    """Drop traces whose n-grams of words have a Jaccard similarity of at least
    `settings.threshold` with those of one that is kept, of the same problem or of any:
    `near_duplicate`. Of like problems, the traces of one stay.
    """

    settings: Near

    def widths(self) -> Mapping[str, int]:
        """A key for each band."""
        return {} if self.settings.on == "problem" else {"key": bands_of(self.settings.threshold)}

    def measure(self, traces: Sequence[AnyTrace]) -> Mapping[str, Hashes]:
        """Each trace's keys, by which like ones are found."""
        if self.settings.on == "problem":
            return {}
        return {
            "key": text_keys(
                [whole_text(trace) for trace in traces],
                self.settings.ngram,
                self.settings.threshold,
            )
        }

    def decide(self, view: View) -> Iterable[Mark]:
        """The first of like traces stays."""
        return self._problems(view) if self.settings.on == "problem" else self._traces(view)

    def _traces(self, view: View) -> Iterator[Mark]:
        live = preferred(view, self.settings.keep)
        sets = _Sets(view, self.settings.ngram)

        def compare(left: Places, right: Places) -> npt.NDArray[np.float64]:
            return sets.compare(live[left], live[right])

        twins = find_twins(self._bands(view, live), len(live), compare, self.settings.threshold)
        for place in np.flatnonzero(twins.of >= 0):
            kept = view.index.ids[int(live[twins.of[place]])]
            detail = f"of {kept}, similarity {twins.similarity[place]:.3f}"
            yield Mark(int(live[place]), "near_duplicate", detail)

    def _bands(self, view: View, live: Places) -> Iterator[Hashes]:
        for band in range(bands_of(self.settings.threshold)):
            own = view.measured("key", band)[live]
            if self.settings.within == "problem":
                own = own ^ ((view.index.problems[live].astype(np.uint64) + np.uint64(1)) * _ODD)
            yield own

    def _problems(self, view: View) -> Iterator[Mark]:
        def twins(prompts: Sequence[str]) -> Twins:
            groups = numbers_in(prompts)
            return near_twins(prompts, self.settings.ngram, self.settings.threshold, groups=groups)

        return like_problems(view, self.settings.keep, twins, "near_duplicate")


def like_problems(
    view: View, keep: Sequence[str], find: Callable[[Sequence[str]], Twins], reason: str
) -> Iterator[Mark]:
    """Drop the traces of problems whose prompts are like another's that stays, by what `find` says
    of the prompts. They are in the order of their first traces that should stay.
    """
    live = preferred(view, keep)
    numbers = view.index.problems[live]
    _, firsts = np.unique(numbers, return_index=True)
    ordered = numbers[np.sort(firsts)]
    twins = find([view.problems[number].prompt for number in ordered])
    details = {
        int(ordered[at]): f"its problem is like {view.problems[ordered[twins.of[at]]].id}, "
        f"similarity {twins.similarity[at]:.3f}"
        for at in np.flatnonzero(twins.of >= 0)
    }
    for place, number in zip(live.tolist(), numbers.tolist(), strict=True):
        if number in details:
            yield Mark(place, reason, details[number])


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def numbers_in(texts: Iterable[str]) -> Hashes:
    """A hash of the numbers in each text: problems that differ in them are not the same."""
    said = (" ".join(_NUMBER.findall(text)).encode() for text in texts)
    hashes = [hashlib.blake2b(text, digest_size=8).digest() for text in said]
    return np.frombuffer(b"".join(hashes), np.uint64)


class _Sets:
    """The shingles of the traces that are compared, in a file."""

    def __init__(self, view: View, ngram: int) -> None:
        self._view = view
        self._ngram = ngram
        self._path = view.scratch / "shingles.bin"
        self._path.unlink(missing_ok=True)
        self._begins = np.zeros(1, np.int64)
        self._places = np.zeros(0, np.int64)  # in the order of the file

    def compare(self, left: Places, right: Places) -> npt.NDArray[np.float64]:
        """The similarity of each pair of places."""
        self._add(np.setdiff1d(np.concatenate([left, right]), self._places))
        sets = np.memmap(self._path, np.uint64, "r")
        order = np.argsort(self._places)
        numbers = [
            order[np.searchsorted(self._places, side, sorter=order)] for side in (left, right)
        ]
        return similarities(np.asarray(sets), self._begins, *numbers)

    def _add(self, places: Places) -> None:
        with self._path.open("ab") as file:
            for found, traces in self._view.texts(places):
                data, offsets = spaced_buffers([whole_text(trace) for trace in traces])
                sets, begins = run_sets(data, offsets[:-1], offsets[1:], self._ngram)
                file.write(sets.tobytes())
                self._begins = np.r_[self._begins, self._begins[-1] + begins[1:]]
                self._places = np.r_[self._places, found]
