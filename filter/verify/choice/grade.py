"""Grade answers to multiple-choice problems by the option that they choose."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from filter.boxes import balanced_boxes
from filter.extract import after_reasoning
from filter.phrases import languages_of, phrases
from filter.verify.choice.grammar import Grammar, grammar
from filter.verify.choice.mentions import Mention, Reading, find_mentions, read_list
from filter.verify.choice.options import (
    Options,
    find_options,
    labelled_in_cyrillic,
    latin_labels,
    match_text,
    normalise,
    plain,
    without_lists,
)
from filter.verify.grading import Grade, Grader
from tracestill.records import Problem

# An answer after the reasoning is short; of a longer one the beginning and the end count.
_HEAD, _TAIL = 4_000, 40_000
_LINE = 2_000
_BOLD = re.compile(r"\*\*\s?(\(?[A-Z1-9]\)?)[.:)]?(?:\s[^*\n]{0,200})?\*\*")
_GOLD = re.compile(r"\(?(?P<label>[A-Za-z1-9])(?:\)?[.:]|\)|(?=\s*$))(?P<text>.*)", re.DOTALL)
_BARE_GOLD = re.compile(r"(?P<label>[A-J])(?P<text> [A-Z].*)", re.DOTALL)
_GOLD_SET = re.compile(
    r"[\[({]?\s*['\"]?[A-Z]['\"]?(?:(?:\s*(?:,|;|、|和|and|&)\s*|\s*)['\"]?[A-Z]['\"]?)+\s*[\])}]?"
)


class _Choice(NamedTuple):
    """The options that a text settles on, and how that was found."""

    labels: frozenset[str]
    detail: str
    undecided: bool = False


def choice() -> Grader:
    r"""A grader of multiple-choice answers against `Problem.reference`.

    The reference is a label (`C`, `(C)`, `3` where the options are numbered), several (`AC`,
    `A, C`), or an option's text. The options are `Problem.meta["choices"]` (texts, or label to
    text), else those in the prompt; where there are none the letter alone decides. Of the answer
    the text after the last `</think>` counts, and there the last `\boxed{…}` or answer that is
    stated in one of the languages of `phrases.yaml`, else a lone letter, an option's text, or the
    one option that is not ruled out. `extracted` is the label, or several joined by commas. An
    answer that names several options, or wavers, is `incorrect`; a reference that is no option is
    `unverifiable`.
    """

    def grade(problem: Problem, answer: str | None) -> Grade:
        ordered = labelled_in_cyrillic(problem)
        reference = latin_labels(problem.reference, ordered=ordered)
        options = find_options(problem)
        told = {} if options else _option_of(reference)
        gold = frozenset(told) or _gold(reference, options)
        options = options or told
        if not gold:
            return Grade(
                outcome="unverifiable",
                detail="the reference is neither a label nor the text of one option: give the "
                "options in meta.choices or in the prompt",
            )
        known = {*options, *gold}
        more = "" if any(map(str.isdigit, known)) else "ABCDEFGHJ" if options else "ABCDEFGHIJ"
        text = latin_labels(after_reasoning(answer or ""), ordered=ordered)
        if not text.strip():
            return Grade(outcome="incorrect", detail="no answer")
        if len(text) > _HEAD + _TAIL:
            text = f"{text[:_HEAD]}\n\n{text[-_TAIL:]}"
        marked = _mark_boxes(text)
        words = grammar("".join(sorted({*known, *more})), languages_of(marked))
        found = _decide(marked, options, words, _asks_exception(problem.prompt))
        if found is None:
            return Grade(outcome="incorrect", detail="no answer found")
        chosen, detail = ",".join(sorted(found.labels)), found.detail
        if found.undecided:
            return Grade(outcome="incorrect", detail=f"undecided between {chosen} ({detail})")
        if found.labels == gold:
            return Grade(outcome="correct", extracted=chosen, detail=detail)
        if len(gold) == 1 < len(found.labels):
            detail = f"several options chosen ({detail})"
        return Grade(outcome="incorrect", extracted=chosen, detail=detail)

    return grade


@lru_cache(maxsize=1024)
def _asks_exception(prompt: str) -> bool:
    """Whether a prompt asks for the exception: there "A is wrong" is a reason to choose A."""
    asks = phrases("except", languages_of(prompt))
    return re.search(rf"{asks}|\bNOT\b", prompt) is not None


def _option_of(reference: str) -> Options:
    """The one option that a reference with label and text tells of, such as `(C) Paris`."""
    whole = plain(reference).strip()
    lines = whole.splitlines()
    for line in (whole, *lines[-1:], *lines[:1]):
        match = _GOLD.fullmatch(line)
        if match is None and (len(lines) > 1 or line[:1] not in "AI"):
            match = _BARE_GOLD.fullmatch(line)  # `A` before a word is an article, mostly
        if match and match["text"].strip() and match["label"].isalpha():
            return {match["label"].upper(): match["text"].strip()}
    return {}


def _gold(reference: str, options: Options) -> frozenset[str]:
    """The labels of the right options; none where the reference is unusable."""
    if reference in options:
        return frozenset(reference)
    text = plain(reference).strip()
    boxed = _mark_boxes(text)
    if "⟦" in boxed:
        text = boxed.rpartition("⟦")[2].partition("⟧")[0].strip()
    text = re.sub(
        r"^(?:####|(?:the\s+)?(?:correct\s+)?(?:answer|答案)\s*(?:is|:|是))\s*",
        "",
        text,
        flags=re.I,
    )
    by_label = _GOLD.fullmatch(text)
    if by_label:
        label = by_label["label"].upper()
        if label in options or (not options and label.isalpha()):
            return frozenset(label)
    by_text = match_text(text, options)
    if by_text:
        return frozenset(by_text)
    if _GOLD_SET.fullmatch(text):
        found = re.findall("[A-Z]", text)
        if len(set(found)) == len(found) and (not options or set(found) <= set(options)):
            return frozenset(found)
    return frozenset()


def _mark_boxes(text: str) -> str:
    r"""The text with each balanced `\boxed{…}` written as `⟦…⟧`."""
    text = text.replace("⟦", "[").replace("⟧", "]")
    edits = [
        edit
        for box in (balanced_boxes(text) if "box" in text else ())
        for edit in ((box.begin, box.content, "⟦"), (box.end, box.end + 1, "⟧"))
    ]
    parts, at = [], 0
    for begin, end, mark in sorted(edits):
        parts += [text[at:begin], mark]
        at = end
    return "".join(parts) + text[at:]


def _decide(text: str, options: Options, words: Grammar, asks_exception: bool) -> _Choice | None:
    bold = {re.sub("[()]", "", label) for label in _BOLD.findall(text)}
    cleaned = without_lists(plain(text), options)
    mentions = find_mentions(cleaned, options, words)
    if asks_exception:
        mentions = [m for m in mentions if m.how not in ("verdict", "ruled out")]
    chosen = _settle(cleaned, mentions, words)
    out = _labels_of(m for m in mentions if m.how in ("rejected", "ruled out"))
    if chosen is not None:
        if chosen.undecided and len(chosen.labels - out) == 1:
            return _Choice(chosen.labels - out, "the others are ruled out")
        return _Choice(chosen.labels, chosen.how, chosen.undecided)
    lines = [line.strip() for line in cleaned.splitlines() if line.strip()]
    lone = _lone(lines, options, words)
    if lone is not None and not lone.labels & out:
        return lone
    if among := _labels_of(m for m in mentions if m.how == "wavering"):
        left = among - out
        return _Choice(left, "wavering", len(left) != 1 or left == among)
    if len(bold) == 1 and not bold & out:
        return _Choice(frozenset(bold), "the only label in bold")
    label = _text_in(lines[-1], options, words) if lines else None
    if label is not None and label not in out:
        return _Choice(frozenset(label), "option text in the last line")
    left = frozenset(options) - out
    if out and len(left) == 1 < len(options):
        return _Choice(left, "the others are ruled out")
    return None


def _labels_of(parts: Iterable[Mention | Reading]) -> frozenset[str]:
    return frozenset[str]().union(*(part.labels for part in parts))


def _settle(text: str, mentions: Sequence[Mention], words: Grammar) -> Mention | None:
    """The mention that decides: the last answer named, unless it was taken back."""
    retracted = max((match.end() for match in words.retracted.finditer(text)), default=-1)
    last_no: dict[str, int] = {}
    last_out: dict[str, int] = {}
    for mention in mentions:
        places = {"rejected": last_no, "ruled out": last_out}.get(mention.how)
        if places is not None:
            places.update(dict.fromkeys(mention.labels, mention.at))

    def stands(mention: Mention) -> bool:
        if mention.at < retracted:
            return False
        if mention.undecided:
            return True
        for label in mention.labels:
            out = last_out.get(label, -1)
            if last_no.get(label, -1) > mention.at:
                return False
            if out > mention.at and words.cue.search(text, mention.at, out):
                return False
        return True

    named = [m for m in mentions if m.how in ("boxed", "stated") and stands(m)]
    passing = [m for m in mentions if m.how in ("concluded", "verdict") and stands(m)]
    if not passing:
        return named[-1] if named else None
    last = passing[-1]
    if named and not (last.at > named[-1].at and words.cue.search(text, named[-1].at, last.at)):
        return named[-1]
    labels = last.labels
    if last.how == "verdict":  # "A is correct. C is correct.": both are chosen
        for earlier in reversed(passing[:-1]):
            if earlier.how != "verdict" or words.cue.search(text, earlier.at, last.at):
                break
            labels |= earlier.labels
    return Mention(at=last.at, how=last.how, labels=labels, undecided=last.undecided)


def _lone(lines: Sequence[str], options: Options, words: Grammar) -> _Choice | None:
    """A label that has the last lines or the first line to itself, or with its option's text."""
    readings = [_lone_line(line, options, words) for line in lines]
    last = [r for r in itertools.takewhile(lambda r: r is not None, reversed(readings)) if r]
    first = [r for r in readings[:1] if r]
    if last:
        return _Choice(_labels_of(last), "alone on the last line", any(r.undecided for r in last))
    if first and _labels_of(filter(None, readings)) == first[0].labels:
        return _Choice(first[0].labels, "alone on the first line", first[0].undecided)
    return None


def _lone_line(line: str, options: Options, words: Grammar) -> Reading | None:
    line = line.strip("*•>#- ")[:_LINE]
    label = match_text(line, options)
    if label and line.strip(" .()[]").upper() not in options:
        return Reading(labels=frozenset(label), end=len(line))
    line = line[words.option.match(line).end() :]  # type: ignore[union-attr]
    spaced = ",".join(line.split()) if re.fullmatch(r"(?:\(?\w\)?\s+)+\(?\w\)?", line) else line
    reading = read_list(spaced.strip("⟦⟧\"'"), 0, words)
    if reading is None:
        return None
    rest = spaced[reading.end :]
    other = match_text(rest.strip(" .:)("), options)
    if other and other not in reading.labels:  # "C. 41", where 41 is the text of B
        return Reading(labels=reading.labels | {other}, end=len(line), undecided=True)
    pause = re.match(r"\s?[.,;。，]?\s*", rest)
    negation = words.negation.match(rest, pause.end()) if pause else None
    if negation and read_list(rest, words.filler.match(rest, negation.end()).end(), words):  # type: ignore[union-attr]
        return reading  # "C, not B"
    stopped = spaced[reading.end - 1] in ")]" or re.match(r"[.:。]|\s[(–—-]", rest)
    if len(reading.labels) == 1 and stopped:  # "C. Paris is the capital"
        own = normalise(options.get(min(reading.labels), "")).casefold()
        if normalise(rest).casefold().lstrip(".:)(–—-").startswith(own):
            return reading
    return None if rest.strip(" .:)!。,⟧\"'") else reading


def _text_in(line: str, options: Options, words: Grammar) -> str | None:
    """The one option whose text the line contains as whole words."""
    if words.doubt.search(line) or len(line) > 2000:
        return None
    hits: dict[str, str] = {}
    for label, option in options.items():
        text = plain(option).strip().rstrip(".")
        if text and re.search(rf"(?<![\w.]){re.escape(text)}(?![\w]|\.\d)", line, re.IGNORECASE):
            hits[label] = text
    longest = [a for a, t in hits.items() if not any(t in u and t != u for u in hits.values())]
    return longest[0] if len(longest) == 1 else None
