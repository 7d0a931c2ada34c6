"""Mask what is private before a prompt is sent, and put it back into what came of it.

What was masked stands as a placeholder, `[EMAIL_1]`, the same for the same original within a
request, so that a model can reason about it. Nothing here is kept: the same texts are masked in
the same way again, so that the problem is all that is needed to restore the answers to it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tracestill.recipe.models import Redact
from tracestill.records import Problem, Trace, TraceText, digest
from tracestill.records.patterns import user_finder
from tracestill.records.private import Finder, finder

T = TypeVar("T", Trace, TraceText)

_TEXTS = ("raw", "raw_reasoning", "reasoning", "answer", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Texts with placeholders, in the order in which they were given, and the originals by
    placeholder. `counts` says how often something of each kind was masked.
    """

    texts: tuple[str, ...]
    originals: dict[str, str]
    counts: Counter[str]

    @property
    def sent(self) -> str | None:
        """What tells these texts from the same masked otherwise; None where nothing is masked.

        An answer in a journal may be reused only where this is as it was: else its placeholders
        stand for something else, or for nothing.
        """
        return digest("masked", self.texts) if self.originals else None


class Mask(Protocol):
    """What `redactor` returns."""

    def __call__(self, *texts: str) -> Masked:
        """Mask the texts of one request, all together: `mask(system_prompt, prompt)`."""
        ...


def redactor(settings: Redact) -> Mask:
    """A function that masks the texts that are sent together.

    It is deterministic, and any thread may call it. A placeholder never looks like text that was
    there. Where finds overlap, all that they cover is masked as one, and bears the name of the
    first.

    Raises:
        ValueError: (the function) a pattern of the user's takes too long: nothing may then be
            sent, since what it would have found is not known.

    """
    finders: dict[str, Finder] = {
        name: user_finder(pattern, f"redact.patterns.{name}", ", so nothing is sent")
        for name, pattern in settings.patterns.items()
    }
    finders |= {kind: finder(kind, settings.phone_countries) for kind in settings.kinds}

    def mask(*texts: str) -> Masked:
        placeholders: dict[str, str] = {}
        numbers: Counter[str] = Counter()
        counts: Counter[str] = Counter()

        def placeholder(kind: str, original: str) -> str:
            while original not in placeholders:
                numbers[kind] += 1
                name = f"[{kind.upper()}_{numbers[kind]}]"
                if not any(name in _unescaped(text) for text in texts):
                    placeholders[original] = name
            counts[kind] += 1
            return placeholders[original]

        masked = []
        for text in texts:
            parts, end = [], 0
            for begin, after, kind in _spans(text, finders):
                parts += [text[end:begin], placeholder(kind, text[begin:after])]
                end = after
            masked.append("".join([*parts, text[end:]]))
        originals = {name: original for original, name in placeholders.items()}
        return Masked(texts=tuple(masked), originals=originals, counts=counts)

    return mask


def _spans(text: str, finders: Mapping[str, Finder]) -> list[tuple[int, int, str]]:
    """What is found, in order and without overlap: (begin, end, kind)."""
    found = sorted(
        (begin, -end, kind)
        for kind, find in finders.items()
        for begin, end in find(text)
        if begin < end
    )
    joined: list[tuple[int, int, str]] = []
    for begin, minus, kind in found:
        if not joined or begin >= joined[-1][1]:
            joined.append((begin, -minus, kind))
        else:
            first, last, name = joined[-1]
            joined[-1] = (first, max(last, -minus), name)
    return joined


def _unescaped(text: str) -> str:
    return text.replace("\\_", "_")


def restore(text: str, originals: Mapping[str, str]) -> str:
    r"""A text with the originals in the place of the placeholders, which a model may have written
    for LaTeX, as `[EMAIL\_1]`.
    """
    if not originals or "[" not in text:
        return text
    names = "|".join(re.escape(name).replace("_", r"\\?_") for name in originals)
    return re.sub(names, lambda found: originals[_unescaped(found[0])], text)


def restore_trace(trace: T, originals: Mapping[str, str]) -> T:
    """A trace with the originals in all of its texts. Token ids would still say the
    placeholders: where a text changed, they are left out (the journal has them).

    Restoring what is restored changes nothing.
    """
    texts = {name: getattr(trace, name, None) for name in _TEXTS}
    after: dict[str, Any] = {
        name: restore(text, originals) for name, text in texts.items() if text is not None
    }
    if all(text == texts[name] for name, text in after.items()):
        return trace
    if isinstance(trace, Trace):
        after["raw_token_ids"] = None
    return dataclasses.replace(trace, **after)


def restored(
    traces: Iterable[T],
    problems: Mapping[str, Problem],
    mask: Mask,
    system_prompt: str | None,
) -> Iterator[T]:
    """Traces of `problems` (by id) with the originals, as they are judged: against a reference
    that was never masked. So the same answer is right whether or not `restore` is set.
    """
    found: dict[str, Mapping[str, str]] = {}
    for trace in traces:
        if trace.problem_id not in found:
            prompt = problems[trace.problem_id].prompt
            found[trace.problem_id] = mask(system_prompt or "", prompt).originals
        yield restore_trace(trace, found[trace.problem_id])
