"""Drop traces that mean what another one means that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from filter.embedding import embed_all, load_embedder, similar_twins
from filter.hashing import Hashes
from filter.near import Twins
from filter.steps.duplicates import like_problems, numbers_in
from filter.steps.step import Mark, Places, View, preferred, whole_text
from tracestill.recipe.filter_steps import Semantic
from tracestill.records import AnyTrace

_PROMPTS = 1_000  # that are embedded at once


@dataclass(frozen=True, slots=True)
class SemanticStep:
    """Drop traces whose embedding has a cosine similarity of at least `settings.threshold` with
    that of one that is kept: `semantic_duplicate`. Of like problems, the traces of one stay.
    """

    settings: Semantic

    def widths(self) -> Mapping[str, int]:
        """Nothing: only what reaches the step is embedded."""
        return {}

    def measure(self, traces: Sequence[AnyTrace]) -> Mapping[str, Hashes]:
        """Nothing."""
        return {}

    def decide(self, view: View) -> Iterable[Mark]:
        """The first of like traces stays.

        Raises:
            ValueError: model2vec is not installed, or there is no such model.

        """
        return self._problems(view) if self.settings.on == "problem" else self._traces(view)

    def _problems(self, view: View) -> Iterator[Mark]:
        def twins(prompts: Sequence[str]) -> Twins:
            parts = (
                (rows, [prompts[row] for row in rows.tolist()])
                for begin in range(0, len(prompts), _PROMPTS)
                for rows in [np.arange(begin, min(begin + _PROMPTS, len(prompts)))]
            )
            embed = load_embedder(self.settings.model)
            vectors = embed_all(parts, len(prompts), embed, view.scratch)
            return similar_twins(vectors, self.settings.threshold, numbers_in(prompts))

        return like_problems(view, self.settings.keep, twins, "semantic_duplicate")

    def _traces(self, view: View) -> Iterator[Mark]:
        live = preferred(view, self.settings.keep)
        vectors = embed_all(
            self._texts(view, live), len(live), load_embedder(self.settings.model), view.scratch
        )
        twins = similar_twins(vectors, self.settings.threshold, np.zeros(len(live)))
        for at in np.flatnonzero(twins.of >= 0):
            kept = view.index.ids[int(live[twins.of[at]])]
            detail = f"of {kept}, similarity {twins.similarity[at]:.3f}"
            yield Mark(int(live[at]), "semantic_duplicate", detail)

    def _texts(self, view: View, live: Places) -> Iterator[tuple[Places, list[str]]]:
        """The traces' texts as they lie in the table, with their places in the order of `live`."""
        order = np.argsort(live)
        for places, traces in view.texts(live[order]):
            rows = order[np.searchsorted(live, places, sorter=order)]
            yield rows, [whole_text(trace) for trace in traces]
