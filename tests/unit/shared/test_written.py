"""Tables written lately, in shared memory: how long they count, and what happens when there are too many."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.shared.layout import Layout, Words
from pgpool.shared.written import WINDOW, WrittenTables

TTL, MOST = 5.0, 60.0


def table(entries: int = 128) -> WrittenTables:
    layout = Layout(1, 1, 1, verdict_entries=4, written_entries=entries)
    return WrittenTables(Words(memoryview(bytearray(layout.size))), layout, nullcontext)


def test_a_table_counts_for_its_time() -> None:
    written = table()
    assert not written.lately([7, 8], 100.0, TTL, MOST)
    written.note([7], 100.0, TTL, MOST)
    assert written.lately([8, 7], 104.9, TTL, MOST)
    assert not written.lately([8], 100.0, TTL, MOST)
    assert not written.lately([7], 105.0, TTL, MOST)


def test_no_longer_than_so_long_after_the_first_write() -> None:
    written = table()
    for second in range(100, 170, 4):
        written.note([7], float(second), TTL, MOST)
        assert written.lately([7], second + 0.5, TTL, MOST)
    written = table()
    for second in range(100, 158, 4):
        written.note([7], float(second), TTL, MOST)
    assert written.lately([7], 159.9, TTL, MOST)
    assert not written.lately([7], 160.0, TTL, MOST)
    written.note([7], 161.0, TTL, MOST)  # the next row of writes
    assert written.lately([7], 165.9, TTL, MOST)


@given(st.sets(st.integers(1, 2**64 - 1), max_size=400), st.integers(1, 400))
def test_what_was_written_is_never_missed(keys: set[int], others: int) -> None:
    """However many there are: what has no place counts for all."""
    written = table(128)
    for key in keys:
        written.note([key], 100.0, TTL, MOST)
    assert all(written.lately([key], 104.0, TTL, MOST) for key in keys)
    assert not any(written.lately([key], 105.0, TTL, MOST) for key in keys)


def test_old_ones_make_place() -> None:
    written = table(WINDOW)
    written.note(range(1, WINDOW + 1), 100.0, TTL, MOST)
    written.note(range(1001, WINDOW + 1001), 110.0, TTL, MOST)
    assert not written.lately([5], 110.0, TTL, MOST)
    assert written.lately([1005], 110.0, TTL, MOST)
    written.note([9999], 111.0, TTL, MOST)  # one that counts is pushed out
    assert written.lately([5], 111.0, TTL, MOST)
    assert not written.lately([5], 116.0, TTL, MOST)


def test_begin() -> None:
    written = table()
    written.begin(12.5)
    assert written.since == 12.5
    assert not written.lately([1], 0.0, TTL, MOST)


@pytest.mark.parametrize("entries", [128, 2048, 2000])
def test_any_size_will_do(entries: int) -> None:
    written = table(entries)
    written.note([2**64 - 1, 1], 1.0, TTL, MOST)
    assert written.lately([1], 2.0, TTL, MOST)
    assert written.lately([2**64 - 1], 2.0, TTL, MOST)
