"""A text's words without what a copy may change: case, punctuation, white space, zero-width and
full-width characters. By compiled code over UTF-8 bytes.

A word is a run of letters and digits; a number keeps its point and loses the commas between its
digits; each operator (`+ - * / = < > ^ %` and the like) and each Chinese, Japanese or Korean
character is a word of its own; other punctuation only separates. In its blind form every number is
the same.

Words are not hashed one by one: the characters of all words follow each other in one stream, of
which the polynomial hash of any part comes from those of two beginnings (Karp and Rabin 1987). So a
byte costs a table look-up and a multiplication, and hardly a branch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from filter.hashing import Bytes, Hashes, compiled

Places = npt.NDArray[np.int64]

_SEPARATES, _LETTER, _DIGIT, _ALONE, _MARK, _WIDE = range(6)
_BASE = np.uint64(0x9E3779B97F4A7C15)
NO_PLACES = np.zeros(0, np.int64)


def _tables() -> tuple[Bytes, Bytes]:
    """For each byte what it is, and itself in lower case."""
    kinds = np.full(256, _SEPARATES, np.uint8)
    lower = np.arange(256, dtype=np.uint8)
    for byte in range(128):
        character = chr(byte)
        if character.isalpha():
            kinds[byte], lower[byte] = _LETTER, ord(character.lower())
        elif character.isdigit():
            kinds[byte] = _DIGIT
        elif character in "+-*/=<>^%&|~#@":
            kinds[byte] = _ALONE
        elif character in ".,":
            kinds[byte] = _MARK
    kinds[128:] = _WIDE
    return kinds, lower


_KINDS, _LOWER = _tables()


def tables() -> tuple[Bytes, Bytes]:
    """What `read_words` is told of bytes: their kinds, and their lower case."""
    return _KINDS, _LOWER


@compiled
def powers(count: int) -> Hashes:
    """The first powers of the hash's base."""
    made = np.empty(count, np.uint64)
    value = np.uint64(1)
    for number in range(count):
        made[number] = value
        value *= _BASE
    return made


@compiled
def read_words(
    data: Bytes,
    begin: int,
    end: int,
    kinds: Bytes,
    lower: Bytes,
    blind: bool,
    starts: Places,
    hashes: Hashes,
    places: Places,
) -> int:
    """Read the words of data[begin:end]; returns how many there are. For each, and once more at
    the end, `starts` takes how many characters precede it in the stream and `hashes` their hash;
    `places` its first byte, if it has room for any. `blind` takes every number for the same.
    """
    count = length = 0
    value = np.uint64(0)
    before = np.uint8(_SEPARATES)
    keep = len(places) > 0
    place = begin
    while place < end:
        byte = data[place]
        kind = kinds[byte]
        if kind >= _MARK:
            step, plain, own = 1, int(byte), int(kind)
            if kind == _WIDE:
                own, plain, step = _wide(data, place, end)
            if own == _MARK:
                following = place + step < end and kinds[data[place + step]] == _DIGIT
                if before != _DIGIT or not following:
                    before = np.uint8(_SEPARATES)
                elif plain == 46 and not blind:
                    value = value * _BASE + np.uint64(46)
                    length += 1
            elif own == _SEPARATES:
                if plain != 1:  # 1: of no width, as if it were not there
                    before = np.uint8(_SEPARATES)
            else:
                if (before == _SEPARATES) | (before == _ALONE) | (own == _ALONE):
                    starts[count], hashes[count] = length, value
                    if keep:
                        places[count] = place
                    count += 1
                if not blind or own != _DIGIT or before != _DIGIT:
                    for other in range(place, place + (1 if plain else step)):
                        said = plain if plain else int(data[other])
                        if blind and own == _DIGIT:
                            said = 48
                        value = value * _BASE + np.uint64(said)
                        length += 1
                before = np.uint8(own)
            place += step
            continue
        if blind and kind == _DIGIT:
            byte = np.uint8(48)
            if before == _DIGIT:
                place += 1
                continue
        is_word = kind != _SEPARATES
        starts[count] = length
        hashes[count] = value
        if keep:
            places[count] = place
        # Without a branch: which it would be cannot be foreseen.
        count += is_word & ((before == _SEPARATES) | (before == _ALONE) | (kind == _ALONE))
        more = value * _BASE + np.uint64(lower[byte])
        value = more if is_word else value
        length += is_word
        before = kind
        place += 1
    starts[count], hashes[count] = length, value
    return count


@compiled
def run_hash(starts: Places, hashes: Hashes, power: Hashes, first: int, end: int) -> np.uint64:
    """The hash of the words from `first` to before `end`."""
    return np.uint64(hashes[end] - hashes[first] * power[starts[end] - starts[first]])


@compiled
def _wide(data: Bytes, place: int, end: int) -> tuple[int, int, int]:
    """A character of several bytes: what it is, the byte that stands for it (0 for itself, 1 where
    it has no width), and how many bytes it has.
    """
    first = data[place]
    if first < 0xC0:  # the further byte of a character that was cut off
        return _LETTER, 0, 1
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if place + size > end:
        return _LETTER, 0, end - place
    point = 0
    if size == 2:
        point = (int(first) & 0x1F) << 6 | (int(data[place + 1]) & 0x3F)
    elif size == 3:
        point = (int(first) & 0x0F) << 12 | (int(data[place + 1]) & 0x3F) << 6
        point |= int(data[place + 2]) & 0x3F
    if size == 4:
        return _LETTER, 0, size
    # Zero-width space and joiners, the mark of byte order, soft hyphen.
    if 0x200B <= point <= 0x200F or point == 0x2060 or point == 0xFEFF or point == 0xAD:
        return _SEPARATES, 1, size
    if 0xFF01 <= point <= 0xFF5E:  # the full-width forms of ASCII
        plain = point - 0xFEE0
        if 0x30 <= plain <= 0x39:
            return _DIGIT, plain, size
        if 0x41 <= plain <= 0x5A or 0x61 <= plain <= 0x7A:
            return _LETTER, plain | 0x20, size
        alone = plain in (0x2B, 0x2D, 0x2A, 0x2F, 0x3D, 0x3C, 0x3E, 0x5E, 0x25, 0x26, 0x7C, 0x7E)
        if plain in (0x2C, 0x2E):
            return _MARK, plain, size
        return (_ALONE, plain, size) if alone else (_SEPARATES, 0, size)
    if point == 0x2212:  # minus
        return _ALONE, 0x2D, size
    if point == 0xD7 or point == 0xB7 or point == 0x22C5:  # times
        return _ALONE, 0x2A, size
    if point == 0xF7:
        return _ALONE, 0x2F, size
    if point < 0xC0 or 0x2000 <= point <= 0x206F or 0x3000 <= point <= 0x3004:
        return _SEPARATES, 0, size
    if 0x3008 <= point <= 0x3020 or 0xFF5F <= point <= 0xFF65:
        return _SEPARATES, 0, size
    if 0x3040 <= point <= 0x30FF or 0x3400 <= point <= 0x9FFF or 0xAC00 <= point <= 0xD7AF:
        return _ALONE, 0, size
    if 0x2190 <= point <= 0x22FF:  # arrows and mathematical operators
        return _ALONE, 0, size
    return _LETTER, 0, size
