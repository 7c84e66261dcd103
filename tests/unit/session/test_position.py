"""Positions in the WAL as text, as numbers, and at the start of a page."""

from __future__ import annotations

import pytest

from pgpool.session.position import end_of_record, number_of, text_of


@pytest.mark.parametrize(
    ("text", "number"),
    [("0/0", 0), ("0/3000148", 0x3000148), ("16/B374D848", 0x16B374D848), ("FFFFFFFF/FFFFFFFF", 2**64 - 1)],
)
def test_text_and_number(text: str, number: int) -> None:
    assert (number_of(text), text_of(number)) == (number, text)
    assert number_of(f" {text.lower()} ") == number


@pytest.mark.parametrize("text", ["", "0", "/", "1/", "0/123456789", "0x1/2", "0/1 0/2", "-1/0", "0/G", "\u0661/0"])
def test_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="not a WAL position"):
        number_of(text)


def test_the_header_of_a_fresh_page_is_no_record() -> None:
    """pg_current_wal_insert_lsn is behind it when the last record ended with the page; replay stops before it."""
    assert end_of_record(0x4000028, 8192) == 0x4000000
    assert end_of_record(0x4002018, 8192) == 0x4002000
    for lsn in (0x4000000, 0x4000020, 0x4000030, 0x4002148):
        assert end_of_record(lsn, 8192) == lsn
    assert end_of_record(0x4002018, 32768) == 0x4002018
