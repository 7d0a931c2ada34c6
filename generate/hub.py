"""A data set on the hub, streamed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tracestill.records.errors import first_line


def hub_rows(
    dataset: str, config: str | None, split: str, revision: str | None
) -> Iterator[dict[str, Any]]:
    """The rows of a data set, none read before it is asked for.

    Raises:
        ValueError: it can't be had, or breaks off.

    """
    import datasets
    import pyarrow as pa

    failures = (datasets.exceptions.DatasetsError, pa.ArrowException, OSError)
    try:
        rows = iter(
            datasets.load_dataset(dataset, config, split=split, revision=revision, streaming=True)
        )
    except (*failures, ValueError) as error:  # ValueError: no such configuration or split
        raise ValueError(f"{dataset} can't be read from the hub: {first_line(error)}") from error
    for number in itertools.count():
        try:
            row = next(rows, None)
        except failures as error:
            raise ValueError(
                f"{dataset} broke off after {number} rows: {first_line(error)}; the same command "
                "starts again"
            ) from error
        if row is None:
            return
        yield row
