"""What a student is trained on: kept traces, and their token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IGNORED = -100  # the label of a masked token, as torch's cross entropy has it
Ids = npt.NDArray[np.int32]
REPLAYED = "replay"
"""The `source` of an example that is no trace of this run, but general data: it is learnt in every
stage, and never held out. Its id begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A kept trace: the problem's prompt, the teacher's reasoning and answer, as text.

    `source` and `language` are the problem's.
    """

    trace_id: str
    prompt: str
    reasoning: str
    answer: str
    source: str = ""
    language: str = "en"

    @property
    def thinks(self) -> bool:
        """Whether it has reasoning."""
        return bool(self.reasoning.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The token ids of an example: prompt, completion, stop token.

    `input_ids` is an int32 array of shape (tokens,). The first `prompt` ids are masked; those from
    `answer` on follow the closing think tag. A sample that is `cut` is the first part of a longer
    one: it ends in the middle, without a stop token.
    """

    trace_id: str
    input_ids: Ids
    prompt: int
    answer: int
    cut: bool = False

    @property
    def labels(self) -> Ids:
        """`input_ids` with -100 in place of the prompt."""
        labels = self.input_ids.copy()
        labels[: self.prompt] = IGNORED
        return labels

    @property
    def learnt(self) -> int:
        """How many tokens are not masked."""
        return len(self.input_ids) - self.prompt
