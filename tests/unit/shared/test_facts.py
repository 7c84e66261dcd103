"""Catalog facts in shared memory: found as long as they hold, and never half."""

from __future__ import annotations

import random

import pytest

from pgpool.shared.facts import SharedFacts
from pgpool.shared.layout import FACT_ENTRY, Layout, Words

KEY = ("t", "db", "17", "", "orders")


def area(entries: int = 64) -> tuple[SharedFacts, Words, Layout]:
    layout = Layout(1, 1, 1, verdict_entries=4, fact_entries=entries)
    words = Words(memoryview(bytearray(layout.size)))
    return SharedFacts(words, layout, (11, 22)), words, layout


def test_put_and_get() -> None:
    facts, words, layout = area()
    assert facts.get(KEY, 1, 0.0) is None
    facts.put(KEY, 1, 5, 100.0, 0.0)
    assert facts.get(KEY, 1, 99.9) == (5, 100.0)
    other = SharedFacts(words, layout, (11, 22))  # another process
    assert other.get(KEY, 1, 50.0) == (5, 100.0)
    facts.put(KEY, 1, 7, float("inf"), 0.0)
    assert other.get(KEY, 1, 1e12) == (7, float("inf"))


@pytest.mark.parametrize("place", range(5))
def test_every_part_of_the_key_counts(place: int) -> None:
    facts, _, _ = area()
    facts.put(KEY, 1, 5, 100.0, 0.0)
    assert facts.get((*KEY[:place], KEY[place] + "x", *KEY[place + 1 :]), 1, 0.0) is None


def test_time_and_epoch() -> None:
    facts, _, _ = area()
    facts.put(KEY, 0xFFFFFFFF, 5, 100.0, 0.0)
    assert facts.get(KEY, 0xFFFFFFFF, 100.0) is None
    assert facts.get(KEY, 1, 50.0) is None
    assert facts.get(KEY, 0xFFFFFFFF, 50.0) == (5, 100.0)


def test_half_a_change_is_a_miss() -> None:
    """Whatever mixture of two entries a reader sees in the words of one."""
    one, words, layout = area(4)
    one.put(KEY, 1, 5, 100.0, 0.0)
    first = layout.facts_at // 8
    before = [words.of["Q"][first + i] for i in range(layout.fact_entries * FACT_ENTRY // 8)]
    one.put(KEY, 1, 6, 200.0, 0.0)
    after = [words.of["Q"][first + i] for i in range(len(before))]
    at = next(i for i in range(0, len(before), 4) if after[i])
    for mixture in range(16):
        for i in range(4):
            words.of["Q"][first + at + i] = (after if mixture >> i & 1 else before)[at + i]
        assert one.get(KEY, 1, 0.0) in (None, (5, 100.0), (6, 200.0))
    for i in range(1, 4):
        words.of["Q"][first + at + i] ^= 1 << 40
        assert one.get(KEY, 1, 0.0) is None
        words.of["Q"][first + at + i] ^= 1 << 40


def test_a_full_memory_forgets_and_never_lies() -> None:
    facts, _, _ = area(16)
    dice = random.Random(1)
    told: dict[tuple[str, ...], int] = {}
    found = 0
    for number in range(1, 400):
        key = ("f", "db", str(dice.randrange(60)), "s", "f")
        facts.put(key, 1, number, 100.0, 0.0)
        told[key] = number
        for known, value in told.items():
            got = facts.get(known, 1, 0.0)
            assert got in (None, (value, 100.0))
            found += got is not None
    assert found > 1000


def test_what_is_out_of_date_goes_first() -> None:
    facts, _, _ = area(4)
    keys = [("t", "db", "1", "", f"t{i}") for i in range(8)]
    for key in keys[:4]:
        facts.put(key, 1, 5, 100.0, 0.0)
    for key in keys[4:]:
        facts.put(key, 2, 6, 100.0, 0.0)
    assert [facts.get(key, 2, 0.0) for key in keys[4:]] == [(6, 100.0)] * 4
