"""Read what a teacher returned: its reasoning and its answer, whatever shape they came in.

The rules:

1. Reasoning in a field of its own is the reasoning. Tags in the text then count only where the
   text begins with one: the reasoning came twice, and is kept once if both say the same.
2. Where token ids tell where the reasoning ended, they decide: tags that are only text stay text.
3. Else the *first* closing tag ends the reasoning, as in the parsers of vLLM and SGLang, so that
   a teacher gives the same trace in this process and behind a server. Tags in `code` or in a code
   block do not count, unless an opened block has no other end than one in a code block.
4. Tags, and blocks, with nothing but white space between them are one.
5. A block that never ends is all reasoning. A closing tag that nothing opened ends a block that
   the prompt opened. No tag at all: all of it is the answer.
6. Control tokens that a server left at the end of the text (`<|im_end|>`) are the stop, and
   belong to neither part.

No text is lost: the two parts hold all of it but these tags, those tokens and outer white space.
Any other tag stays where it is, for a filter to judge.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from generate.code_spans import places_in_code
from generate.tags import Tag, find_tags, unwrapped, without_stop
from tracestill.records.tags import PAIRS

VERSION = 3  # part of the generate stage's fingerprint: raise it when a split changes

Shape = Literal["tags", "prefilled", "field", "missing", "doubled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The two parts of a response, each stripped, or None where there is none.

    `shape` is how the reasoning came: between `tags` in the text, in a block that the template
    had `prefilled`, in a `field` of its own, not at all (`missing`), or `doubled`: in two of these
    ways, or with a tag or a block repeated.
    """

    reasoning: str | None
    answer: str | None
    shape: Shape


_BLANK = re.compile(r"\s*")


def split_reasoning(
    raw: str,
    prefill: str = "",
    *,
    raw_reasoning: str | None = None,
    closed_at: int | None = None,
) -> Split:
    """The reasoning and the answer of a response, by the module's rules, in linear time.

    Args:
        raw: the text that the teacher returned, without what it returned in another field.
        prefill: the end of the prompt that belongs to the model's turn, such as `<think>`.
        raw_reasoning: the reasoning where it came in a field of its own.
        closed_at: where in `raw` the closing tag begins that is a token of its own, -1 if there is
            none; None where that is not known.

    """
    raw = without_stop(raw)
    tags = list(find_tags(raw))
    if raw_reasoning is not None and raw_reasoning.strip():
        return _beside_field(raw, tags, raw_reasoning, closed_at)
    opened = _left_open(prefill)
    leading = _leading(raw, tags)
    family = leading[-1].family if leading else opened
    begin = leading[-1].end if leading else 0
    closings = _closings(raw, tags, begin, family)
    last, inner, repeated = _end(raw, tags, closings, closed_at)
    if last is None and family is None and not inner:
        empty = "" if raw_reasoning is not None else None
        return Split(
            reasoning=empty, answer=raw.strip(), shape="missing" if empty is None else "field"
        )
    pieces, at = [], begin
    for tag in inner:
        if not tag.opens:
            pieces.append(raw[at : tag.begin])
        at = tag.end
    pieces.append(raw[at : last.begin if last else len(raw)])
    answer = unwrapped(raw[repeated[-1].end if repeated else last.end :]) if last else None
    twice = len(leading) + (opened is not None) > 1 or inner or repeated
    here = family is None and any(tag.opens and last and tag.begin < last.begin for tag in tags)
    shape: Shape = "tags" if leading or here else "prefilled"
    return Split(
        reasoning="\n\n".join(filter(None, (piece.strip() for piece in pieces))),
        answer=answer,
        shape="doubled" if twice else shape,
    )


def _left_open(prefill: str) -> int | None:
    """The family of the block that a prefill leaves open."""
    last = None
    for tag in find_tags(prefill):
        last = tag.family if tag.opens else None
    return last


def _touch(text: str, end: int, begin: int) -> bool:
    """Whether nothing but white space lies between the two places."""
    match = _BLANK.match(text, end, begin)
    return match is not None and match.end() == begin


def _leading(raw: str, tags: Sequence[Tag]) -> list[Tag]:
    """The opening tag with which a text begins, as often as it is repeated."""
    leading: list[Tag] = []
    for tag in tags:
        end, family = (leading[-1].end, leading[-1].family) if leading else (0, tag.family)
        if not tag.opens or tag.family != family or not _touch(raw, end, tag.begin):
            break
        leading.append(tag)
    return leading


def _closings(raw: str, tags: Sequence[Tag], begin: int, family: int | None) -> list[Tag]:
    """The tags that may end a block of the family, or of any where none is known to be open."""
    found = [t for t in tags if not t.opens and t.begin >= begin and family in (None, t.family)]
    if not found or not ("`" in raw or "~~~" in raw):
        return found
    first = found[0].begin
    if (
        len(found) == 1
        and family is not None
        and "`" not in raw[raw.rfind("\n", 0, first) + 1 : first]
    ):
        return found  # no span, and the only one ends the block even in a code block
    quoted = places_in_code(raw, begin, [tag.begin for tag in found])
    plain = [tag for tag in found if tag.begin not in quoted]
    if not plain and family is not None:  # a code block that the reasoning left open
        plain = [tag for tag in found if quoted[tag.begin] == "block"]
    return plain


def _end(
    raw: str, tags: Sequence[Tag], closings: Sequence[Tag], closed_at: int | None
) -> tuple[Tag | None, list[Tag], list[Tag]]:
    """The tag that ends the reasoning, the tags before it that end a block and begin the next with
    nothing between them, and its own repetitions after it.
    """
    if closed_at == -1:
        return None, [], []
    following = {tag.end: after for tag, after in itertools.pairwise(tags)}

    def joined(tag: Tag) -> Tag | None:
        after = following.get(tag.end)
        if after is None or after.family != tag.family or not _touch(raw, tag.end, after.begin):
            return None
        return after

    # Where the text is not the ids' text, for which tokenizers that join words differently are
    # known, no tag begins there, and only the text is left to go by.
    told = next((tag for tag in tags if tag.begin == closed_at and not tag.opens), None)
    last, inner, repeated = None, list[Tag](), list[Tag]()
    for tag in closings:
        if told is not None and tag.begin >= told.begin:
            break
        last, after = tag, joined(tag)
        if after is None or not after.opens:
            break
        inner += [tag, after]
        last = None
    last = last if told is None else told
    place = joined(last) if last else None
    while place is not None and not place.opens:
        repeated.append(place)
        place = joined(place)
    return last, inner, repeated


def _beside_field(raw: str, tags: Sequence[Tag], field: str, closed_at: int | None) -> Split:
    """Put what came in a field of its own together with what the text says."""
    reasoning = _bare(field)
    if not tags or not _touch(raw, 0, tags[0].begin):
        # A server's parser that found no answer leaves the text empty.
        answer = unwrapped(raw) or None
        return Split(reasoning=reasoning, answer=answer, shape="field")
    again = split_reasoning(raw, closed_at=closed_at)
    parts = dict.fromkeys(filter(None, (reasoning, again.reasoning)))
    return Split(reasoning="\n\n".join(parts), answer=again.answer, shape="doubled")


def _bare(field: str) -> str:
    """A field's reasoning without the tags and stops that some servers leave around it."""
    field = without_stop(field)
    tags = list(find_tags(field))
    leading = _leading(field, tags)
    begin, end = leading[-1].end if leading else 0, len(field)
    for tag in reversed(tags):
        if tag.opens or not _touch(field, tag.end, end):
            break
        end = tag.begin
    return field[begin:end].strip()


def think_tokens(tokenizer: Any) -> tuple[int | None, int] | None:
    """The ids of the opening and the closing tag of a transformers tokenizer: of the first pair
    whose closing one is a token of its own. None where ids can't tell tags from text.
    """

    def token(tag: str) -> int | None:
        ids = tokenizer.encode(tag, add_special_tokens=False)
        return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None

    pairs = ((token(opening), token(closing)) for opening, closing in PAIRS)
    return next(((opening, closing) for opening, closing in pairs if closing is not None), None)


def closing_token(
    ids: Sequence[int], opening: int | None, closing: int, decode: Callable[[list[int]], str]
) -> int | None:
    """The index of the token that ends the reasoning: the first closing one, but for those after
    which the next block begins with nothing between them. None: there is no such token.
    """
    marks = [index for index, token in enumerate(ids) if token in (opening, closing)]
    for mark, after in itertools.zip_longest(marks, marks[1:]):
        if ids[mark] != closing:
            continue
        reopened = after is not None and ids[after] == opening
        if not reopened or decode(list(ids[mark + 1 : after])).strip():
            return mark
    return None
