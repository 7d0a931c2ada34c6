"""Compile the filter's code before it is needed: `python -m filter.warm`, which set-up runs.

What is compiled is kept beside the source, or in the user's cache where that can't be written.
"""

from __future__ import annotations

from filter.languages import detector
from filter.measures import measure
from filter.near import near_twins
from filter.overlap import find_items, index_items

_TEXTS = ["Let us see what comes of it in the end, one step after the other."] * 2


def main() -> None:
    """Call each compiled function once."""
    near_twins(_TEXTS, 2, 0.9)
    measure(_TEXTS, ["wait"])
    find_items(_TEXTS, index_items(_TEXTS, 5), renumbered=0.8)
    detector(["en", "de"]).classify(_TEXTS)


if __name__ == "__main__":
    main()
