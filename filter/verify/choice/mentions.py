"""Find which options a text chooses, rules out, or wavers between."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from filter.verify.choice.grammar import BOX, Grammar
from filter.verify.choice.options import Options, match_text

_OPTION = 300  # characters of an option's text that is looked for in passing
_LINE = 1000  # characters of a line in which an option's text is looked for

How = Literal["boxed", "stated", "concluded", "verdict", "wavering", "rejected", "ruled out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """What a place in the text says of some options.

    `boxed` and `stated` name the answer; `concluded` ("so C") and `verdict` ("C is correct") do
    so in passing; `wavering` ("it could be C") does not. `rejected` ("the answer is not C")
    denies an answer, `ruled out` ("C is wrong") an option. Of `undecided` options only one is
    meant.
    """

    at: int
    how: How
    labels: frozenset[str]
    undecided: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The options that a text names from some place on; `end` is where the last label ends."""

    labels: frozenset[str]
    end: int
    undecided: bool = False
    denied: bool = False


def find_mentions(text: str, options: Options, words: Grammar) -> list[Mention]:
    """Everything that plain text says of the options, in order of place.

    A box is written `⟦…⟧` there. Time is linear in the text.
    """
    lower = text.lower()
    found = [
        *_boxes(text, options, words),
        *_leads(text, lower, options, words),
        *_verdicts(text, lower, options, words),
    ]
    return sorted(found, key=lambda mention: mention.at)


def _boxes(text: str, options: Options, words: Grammar) -> Iterator[Mention]:
    for match in BOX.finditer(text):
        labels: set[str] = set()
        undecided = False
        for part in match.group().split("⟦")[1:]:
            content = part.partition("⟧")[0]
            reading = read(content, 0, options, words)
            if reading and not reading.denied and not words.open.match(content, reading.end):
                labels |= reading.labels
                undecided = undecided or reading.undecided
        if labels:
            before = text[max(0, match.start() - 40) : match.start()]
            separate = re.search(r"⟧\s*(?:or|/)", match.group())
            yield Mention(
                at=match.start(),
                how="rejected" if words.denied.search(before) else "boxed",
                labels=frozenset(labels),
                undecided=undecided or bool(separate),
            )


def _leads(text: str, lower: str, options: Options, words: Grammar) -> Iterator[Mention]:
    for pattern in (words.lead, words.pick, words.thus):
        at = 0
        while match := pattern.search(lower, at):
            at = max(match.end(), at + 1)
            before = text[max(0, match.start() - 60) : match.start()]
            if pattern is words.lead and _is_no_lead(text, match, before, words):
                at = match.end("noun")  # another noun may lie between this one and the verb
                continue
            if pattern is words.thus and _is_option(text, match.start(), options):
                continue  # "Neither A nor B"
            # In passing only a label counts: the words after "so" may well be an option's text.
            by_text = pattern is words.lead
            perhaps, denial = _group(match, "perhaps"), _group(match, "deny")
            if denial and by_text and (own := _denying_option(text, match.end(), options)):
                yield Mention(at=match.start(), how="stated", labels=frozenset(own))
                continue
            reading = read(text, match.end(), options, words, by_text=by_text)
            if reading is None or words.void.search(before) or words.open.match(text, reading.end):
                continue
            how: How = "concluded" if pattern is words.thus else "stated"
            undecided = reading.undecided
            if denial or reading.denied or (pattern is words.pick and words.denied.search(before)):
                how, undecided = "rejected", False
            elif perhaps:
                also = re.search("also|auch", perhaps) is not None
                how, undecided = ("stated" if also else "wavering"), True
            elif how == "concluded" and not words.ends.match(text, reading.end):
                continue
            yield Mention(at=match.start(), how=how, labels=reading.labels, undecided=undecided)


def _group(match: re.Match[str], name: str) -> str | None:
    """What the group of that name matched, or one whose name has a number besides."""
    return next(
        (one for key, one in match.groupdict().items() if one and key.startswith(name)), None
    )


def _is_option(text: str, at: int, options: Options) -> bool:
    """Whether the rest of the line, from a place on, is an option's text."""
    end = text.find("\n", at)
    rest = text[at : len(text) if end < 0 else end]
    return len(rest) < _OPTION and match_text(rest.strip(" ⟧.:)"), options) is not None


def _denying_option(text: str, at: int, options: Options) -> str | None:
    """The option whose text begins with the word before a place: "is not guilty", "is never"."""
    begin = text.rfind(" ", 0, len(text[:at].rstrip())) + 1
    rest = text[begin : begin + _LINE].partition("\n")[0]
    return match_text(rest.strip(" ⟧."), options)


def _is_no_lead(text: str, match: re.Match[str], before: str, words: Grammar) -> bool:
    """Whether a lead speaks of an option ("option A is …") or of all ("the options are")."""
    if match["noun"] is None:
        return False
    all_of_them = match["noun"] in ("options", "choices")
    if all_of_them and not re.search(r"(?:correct|right|true)\s+$", before, re.IGNORECASE):
        return True
    gap = text[match.start("gap") : match.end("gap")]
    return any(_labels(gap, atom, words) for atom in words.atom.finditer(gap))


def _verdicts(text: str, lower: str, options: Options, words: Grammar) -> Iterator[Mention]:
    for match in words.predicate.finditer(lower):
        begin = max(0, match.start() - 150)
        subject = words.subject.search(text[begin : match.start()])
        if subject is None:
            continue
        at = begin + subject.start()
        reading = read_list(text, begin + subject.start("list"), words, whole=True)
        if reading is None or words.void.search(text[max(0, at - 60) : at]):
            continue
        if _is_option(text, reading.end, options):
            continue  # "B. Incorrect", where that is what B says
        bad = _group(match, "bad") is not None
        denied = _group(match, "deny") is not None
        denied = denied or words.denied.search(text[max(0, at - 20) : at]) is not None
        how: How = "ruled out" if bad != denied else "verdict"
        if _group(match, "perhaps"):
            how = "wavering"
        elif how == "verdict" and (_group(match, "noun") or match["it_is"]):
            how = "stated"
        undecided = reading.undecided or how == "wavering"
        yield Mention(at=at, how=how, labels=reading.labels, undecided=undecided)
    for match in words.row.finditer(text):
        labels = _labels(text, words.atom.match(text, match.start("label")), words)
        if _is_option(text, match.end("label"), options):
            continue
        yield Mention(
            at=match.start(),
            how="verdict" if match["good"] or match["tick"] else "ruled out",
            labels=labels,
        )


def read(
    text: str, at: int, options: Options, words: Grammar, *, by_text: bool = True
) -> Reading | None:
    """The options that are named from `at` on: labels, else (`by_text`) an option's text. None:
    neither.
    """
    begin = words.filler.match(text, at).end()  # type: ignore[union-attr]
    negation = words.negation.match(text, begin)
    if negation:
        begin = words.filler.match(text, negation.end()).end()  # type: ignore[union-attr]
    waver = words.waver.match(text, begin)
    if waver:
        begin = words.filler.match(text, waver.end()).end()  # type: ignore[union-attr]
    line = text[begin : begin + _LINE].partition("\n")[0]
    listed = read_list(text, begin, words)
    # A sign belongs to the number after it.
    rest = line[listed.end - begin :].strip(" .:)(,⟧–—").removeprefix("- ") if listed else ""
    # Text that is more than a label goes first: "B vitamins" may be the text of option A, and "AB"
    # that of another.
    if by_text and options and (listed is None or rest or len(listed.labels) > 1):
        raw = text[at : begin + len(line)].lstrip(" \n:=⟦")
        whole = match_text(raw.strip(" ⟧"), options)  # "not guilty", before "guilty"
        label = whole or match_text(line.strip(" ⟧"), options)
        if label:
            return Reading(
                labels=frozenset(label),
                end=begin + len(line),
                undecided=waver is not None and not whole,
                denied=negation is not None and not whole,
            )
        if listed is None:
            listed = _read_text(begin, (line, raw, words.after.sub("", line)), options)
    if listed is None:
        return None
    labels, undecided = listed.labels, listed.undecided or waver is not None
    if len(labels) == 1 and (own := options.get(min(labels))):
        told = re.compile(r"[\s.:)]{0,3}" + re.escape(own), re.IGNORECASE).match(text, listed.end)
        listed = replace(listed, end=told.end()) if told else listed
    denied = negation is not None or words.denies.match(text, listed.end) is not None
    if by_text and len(labels) == 1:
        other = match_text(rest, options)
        if other and other not in labels:  # "C. 41", where 41 is the text of B
            labels, undecided = labels | {other}, True
    return Reading(labels=labels, end=listed.end, undecided=undecided, denied=denied)


def _read_text(at: int, lines: tuple[str, ...], options: Options) -> Reading | None:
    """The option whose text is the beginning of one of the lines, up to where a sentence ends."""
    for line in lines:
        if label := match_text(line, options):
            return Reading(labels=frozenset(label), end=at + len(line))
        for mark in ("⟧", ". ", "。", ";", " because ", " since ", " (", " as ", ",", ":"):
            cut, found, rest = line.partition(mark)
            if found and (label := match_text(cut, options)):
                more = match_text(rest, options) or label
                return Reading(labels=frozenset({label, more}), end=at + len(cut))
    return None


def read_list(text: str, at: int, words: Grammar, whole: bool = False) -> Reading | None:
    """Labels in a row: `A`, `A and C`, `A, B or C`, `AC`. `whole`: they are a subject."""
    match = words.atom.match(text, at)
    labels = _labels(text, match, words)
    if match is None or not labels:
        return None
    end, undecided = match.end(), False
    while join := words.join.match(text, end):
        match = words.atom.match(text, join.end())
        more = _labels(text, match, words)
        if match is None or not more or (not whole and words.is_subject.match(text, match.end())):
            break
        labels, end, undecided = labels | more, match.end(), undecided or bool(join["or"])
    return Reading(labels=labels, end=end, undecided=undecided)


def _labels(text: str, match: re.Match[str] | None, words: Grammar) -> frozenset[str]:
    """The labels in a match of `Grammar.atom`; none where it is an article, a pronoun, a word."""
    if match is None:
        return frozenset()
    found = "".join(c for c in match.group() if c.isalnum()).upper()
    if len(found) > 1 and list(found) != sorted(set(found)):
        return frozenset()
    bare = match.group() == found
    if bare and found in ("A", "I") and not words.article.match(text, match.end()):
        return frozenset()
    return frozenset(found)
