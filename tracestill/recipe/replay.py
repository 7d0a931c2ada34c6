"""The recipe's key `finetune.replay`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tracestill.recipe.section import Section


class Replay(Section):
    """General data, learnt beside the traces so that less is forgotten."""

    path: str | None = None
    """A Parquet or JSONL file (.jsonl.gz and .jsonl.zst too), a folder of them, or a glob; relative
    to the recipe."""
    dataset: str | None = None
    """In its place, a data set's id on the hub, from where no more is read than is learnt."""
    config: str | None = None
    """The data set's configuration; its default if null."""
    split: str = "train"
    """The data set's split."""
    revision: str | None = None
    """A commit, tag or branch; what is newest if null."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The table's column for each of `prompt`, `response`, `reasoning`, `language`; the same names
    where none is said. A chat in one column can be both prompt and response."""
    share: float = Field(default=0.1, gt=0, lt=1)
    """The part of all that is learnt from which is replayed, by characters; rows are taken in
    their order."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("say where the rows are: `path`, or `dataset` for a hub's")
        return self
