"""The phrases that announce an answer, in 33 languages: `phrases.yaml`, as regular expressions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path

Languages = tuple[str, ...]
"""ISO 639-1 codes, sorted."""

_WORD = re.compile(r"[\wऀ-ॣ]{2,}")  # Devanagari's vowel signs are no letters
# The slots whose words are a language's own, and such a word in a pattern: what follows it there.
_TELLING = ("answer", "option", "right", "wrong", "pick")
_PHRASE_WORD = re.compile(r"(?<![^\W\d_\\])((?:[^\W\d_]|[ऀ-ॣ]){4,})(\\w|\[|\(|\?)?")
_SCRIPTS = {"ja": re.compile("[぀-ヿ]"), "ko": re.compile("[가-힣]"), "zh": re.compile("[一-鿿]")}
# These put no space between words.
_UNSPACED = frozenset(_SCRIPTS)
# The zeros of scripts whose digits people write numbers with: Arabic, Persian, Devanagari, Bengali,
# Thai, and the wide ones of Chinese and Japanese.
_ZEROS = (0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10)
_DIGITS = {zero + digit: str(digit) for zero in _ZEROS for digit in range(10)}
_DIGITS |= {0x66B: ".", 0x66C: ""}  # Arabic decimal and thousands separators
_WITH_COMMA = re.compile(
    r"([-+−]?(?:\d{1,3}(?:[.\u00a0\u202f ]\d{3})+|\d+))(?:,|\{,\})(?!\d{3}(?!\d))(\d+)(?![\d,.])"
    r"|([-+−]?(?:0|\d{1,3}(?:[.\u00a0\u202f ]\d{3})+))(?:,|\{,\})(\d+)(?![\d,.])"
)
# All of ASCII that stands between words.
_BETWEEN = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_MANY = 100_000
# Words of texts that tell no language, as most do.
_silent: set[str] = set()


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some builds have no libyaml
    text = Path(__file__).with_name("phrases.yaml").read_text(encoding="utf-8")
    table: Mapping[str, Mapping[str, str]] = yaml.load(text, Loader=loader)
    return table


@cache
def _marks() -> Mapping[str, frozenset[str]]:
    """The languages that a word tells; `word*` where only its beginning does."""
    english = {w for w in _WORD.findall(" ".join(_table()["en"].values())) if len(w) > 2}
    told: dict[str, set[str]] = defaultdict(set)
    for language, slots in _table().items():
        if language == "en" or language in _UNSPACED:
            continue
        marks = slots.get("marks", "").split()
        for slot in _TELLING:
            for word, more in _PHRASE_WORD.findall(slots.get(slot, "")):
                marks.append(word[:-1] + "*" if more == "?" else f"{word}*" if more else word)
        for mark in marks:
            stem = mark.removesuffix("*")
            if stem not in english and not (mark != stem and _begins_any(stem, english)):
                told[mark].add(language)
    return {mark: frozenset(languages) for mark, languages in told.items()}


def _begins_any(stem: str, words: set[str]) -> bool:
    return any(word.startswith(stem) for word in words)


@cache
def _heads() -> frozenset[str]:
    """How the words begin of which only the beginning tells a language."""
    return frozenset(mark[:3] for mark in _marks() if mark.endswith("*"))


@lru_cache(maxsize=_MANY)
def _told_by(word: str) -> frozenset[str]:
    marks = _marks()
    if word not in marks and word[:3] not in _heads():
        return frozenset()
    stems = (f"{word[:end]}*" for end in range(3, min(len(word), 12) + 1))
    return frozenset[str]().union(*(marks.get(mark, ()) for mark in (word, *stems)))


def languages_of(text: str) -> Languages:
    """The languages whose words for answers the text uses: English always, and of the others each
    that is told by a word which does not tell another one that has more such words in the text.

    Time is linear in the text.
    """
    told: dict[str, set[str]] = defaultdict(set)
    lower = text.lower()
    words = lower.translate(_BETWEEN).split() if lower.isascii() else _WORD.findall(lower)
    for word in set(words) - _silent:
        languages = _told_by(word)
        for language in languages:
            told[language].add(word)
        if not languages and len(_silent) < _MANY:
            _silent.add(word)
    found = {one for one, words in told.items() if not any(words < more for more in told.values())}
    if not lower.isascii():
        found.update(next(([code] for code, one in _SCRIPTS.items() if one.search(text)), []))
    return tuple(sorted({"en", *found}))


def phrases(slot: str, languages: Languages, *, whole: bool = True) -> str:
    """A group that matches any of the slot's phrases, in lower case; without one, nothing.

    `whole`: words are not matched within longer ones, where the language has spaces.
    """
    found = "|".join(_of_languages(slot, languages, whole=whole))
    return f"(?:{found})" if found else "(?!)"


def openings(slot: str, languages: Languages) -> str:
    """Alternatives that match where a phrase of the slot may begin, with nothing around them."""
    return "|".join(_of_languages(slot, languages, whole=False))


def _of_languages(slot: str, languages: Languages, *, whole: bool) -> Iterator[str]:
    for language in languages:
        pattern = _table()[language].get(slot)
        if pattern:
            pattern = pattern.replace(" ", r"\s{1,3}")
            bare = not whole or language in _UNSPACED
            yield pattern if bare else rf"(?<![\wऀ-ॣ])(?:{pattern})(?:(?<!\w)|(?!\w))(?![ऀ-ॣ])"


def spaced(languages: Languages) -> bool:
    """Whether all of the languages put spaces between words."""
    return not _UNSPACED.intersection(languages)


def without_copula(languages: Languages) -> Languages:
    """Those of the languages that say "B correct" for "B is correct"."""
    return tuple(code for code in languages if "copula" in _table()[code])


def ascii_digits(text: str) -> str:
    """The text with digits of other scripts written as `0` to `9`."""
    return text if text.isascii() else text.translate(_DIGITS)


def with_decimal_point(number: str, languages: Languages) -> str:
    """A number such as `3,5` or `1.234,5` with a decimal point, where a language of the text
    writes a comma; any other text as it is. Three digits after the comma may be thousands: `1,234`
    stays, `0,125` does not.
    """
    if "," not in number or not any("decimal" in _table()[code] for code in languages):
        return number
    match = _WITH_COMMA.match(number)
    if match is None:
        return number
    whole, decimals = match[1] or match[3], match[2] or match[4]
    digits = re.sub(r"[^-+−\d]", "", whole)
    return f"{digits}.{decimals}{number[match.end() :]}"
