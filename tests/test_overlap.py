"""Benchmark items in texts: word for word, as a part, disguised, and with other numbers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from filter.hashing import buffers
from filter.overlap import Hit, find_items, index_items
from filter.tokens import NO_PLACES, powers, read_words, run_hash, tables

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
TRAIN = (
    "A train leaves the station at 9 and runs east at 80 kilometres an hour. Another one leaves at "
    "10 and runs at 120 kilometres an hour. After how many hours do they meet?"
)
SHORT = "What is the sum of 17 and 25?"
TINY = "Compute 7 * 8."
ITEMS = [TRAIN, SHORT, TINY, "What is the sum of 18 and 25?"]
FILLER = "We were given the following task, and think about it for a while before we begin. "


def words(text: str, blind: bool = False) -> list[int]:
    data, offsets = buffers([text])
    starts, hashes = np.zeros(len(data) + 2, np.int64), np.zeros(len(data) + 2, np.uint64)
    count = read_words(data, 0, offsets[1], *tables(), blind, starts, hashes, NO_PLACES)
    power = powers(len(data) + 2)
    return [int(run_hash(starts, hashes, power, n, n + 1)) for n in range(count)]


def found(text: str, **more: float) -> Hit | None:
    (hit,) = find_items([text], index_items(ITEMS, 13), **more)  # type: ignore[arg-type]
    return hit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is THIS?", "what is this"),
        ("a, b; (c)", "a b c"),
        ("1,000 cows", "1000 cows"),
        ("x+y=3", "x + y = 3"),
        ("zero\u200bwidth", "zerowidth"),
        ("soft\u00adhyphen", "softhyphen"),
        ("\uff37\uff48\uff41\uff54\u3000is\uff11\uff12\uff1f", "what is12"),
        ("5 \u2212 3 \u00d7 2 \u00f7 4", "5 - 3 * 2 / 4"),
        ("\u201cquoted\u201d \u2014 so", "quoted so"),
        (r"\frac{1}{2}", "frac 1 2"),
        ("我们 先写", "我们先写"),
    ],
)
def test_what_a_copy_may_change_changes_no_word(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x + y", "x - y"),
        ("3.5", "35"),
        ("a b", "ab"),
        ("x < y", "x > y"),
        ("élan", "elan"),
        ("12", "21"),
        ("我们", "们我"),
    ],
)
def test_what_makes_another_problem_changes_words(one: str, other: str) -> None:
    assert words(one) != words(other)


@pytest.mark.parametrize(
    ("text", "item", "kind"),
    [
        (TRAIN, 0, "run"),
        (TRAIN.upper(), 0, "run"),
        (TRAIN.replace(" ", "  \n").replace(".", " ."), 0, "run"),
        (FILLER + TRAIN + FILLER, 0, "run"),
        (FILLER + " ".join(TRAIN.split()[5:20]) + FILLER, 0, "run"),
        ("\u200b".join(TRAIN), 0, "run"),
        ("".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in TRAIN), 0, "run"),
        (SHORT, 1, "whole"),
        (FILLER + SHORT + FILLER, 1, "whole"),
        ("What is the sum of 18 and 25?", 3, "whole"),
    ],
)
def test_items_are_found_where_they_are_disguised(text: str, item: int, kind: str) -> None:
    hit = found(text)
    assert hit is not None
    assert (hit.item, hit.kind) == (item, kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!?",
        "12",
        FILLER * 20,
        SHORT.replace("17", "16"),
        "What is the sum of 17 and 26?",
        FILLER + TINY + FILLER,
        TRAIN.replace("kilometres", "miles"),
        " ".join(TRAIN.split()[:12]),
    ],
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert found(text) is None


def test_other_numbers_are_the_same_problem_where_that_is_asked() -> None:
    twin = TRAIN.replace("80", "1,250.5").replace("120", "95").replace("9", "8").replace("10", "11")
    assert found(twin) is None
    hit = found(twin, renumbered=0.8)
    assert hit is not None
    assert (hit.item, hit.kind) == (0, "renumbered")
    half = " ".join(TRAIN.split()[:19]).replace("80", "81") + " and never comes back again."
    assert found(half, renumbered=0.8) is None


def test_more_runs_can_be_asked_for() -> None:
    part = FILLER + " ".join(TRAIN.split()[3:16]) + " or " + FILLER
    hit = found(part)
    assert hit is not None
    assert hit.hits == 1
    assert found(part, least=2) is None
    whole = found(TRAIN, least=2)
    assert whole is not None
    assert whole.hits > 2


def test_numbers_are_one_word_when_they_are_left_open() -> None:
    text = "from 3.5 to 1,000 by 07"
    assert words(text, blind=True) == words("from 1 to 2 by 99999", blind=True)
    assert words(text) != words("from 1 to 2 by 99999")
    assert words("from x1 to 2", blind=True) != words("from y1 to 2", blind=True)
    data, offsets = buffers([text])
    starts, hashes = np.zeros(40, np.int64), np.zeros(40, np.uint64)
    places = np.zeros(40, np.int64)
    count = read_words(data, 0, offsets[1], *tables(), False, starts, hashes, places)
    assert places[:count].tolist() == [0, 5, 9, 12, 18, 21]


def test_random_bytes_and_cut_characters_are_read_to_their_end() -> None:
    rng = random.Random(0)
    for _ in range(300):
        points = rng.choices([65, 32, 48, 46, 0x301, 0x4E00, 0xFF21, 0xFF0C, 0x1F600], k=9)
        raw = np.frombuffer("".join(map(chr, points)).encode()[: rng.randrange(1, 30)], np.uint8)
        raw = raw[rng.randrange(2) :]
        for blind in (False, True):
            starts, hashes = np.zeros(40, np.int64), np.zeros(40, np.uint64)
            count = read_words(raw, 0, len(raw), *tables(), blind, starts, hashes, NO_PLACES)
            assert 0 <= count <= len(raw)
            assert starts[count] <= len(raw)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared/data beside this checkout")
def test_math500_in_itself_and_not_in_gsm8k() -> None:
    rows = (DATA / "math500.jsonl").read_text(encoding="utf-8").splitlines()
    items = [json.loads(row)["problem"] for row in rows]
    index = index_items(items, 13)
    hits = find_items([FILLER + item + FILLER for item in items], index)
    lost = [item for item, hit in zip(items, hits, strict=True) if hit is None]
    assert all(len(words(item)) < 5 for item in lost)
    assert len(lost) < 10
    others = (DATA / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(row)["question"] for row in others]
    assert sum(hit is not None for hit in find_items(questions, index)) <= 1
