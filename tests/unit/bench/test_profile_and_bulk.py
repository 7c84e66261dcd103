"""Reading strace's table and callgrind's files, the end of a stream, CopyData, process titles."""

import struct

import pytest

from bench.bulk import MESSAGE, Piece, copy_messages, is_end, medians
from bench.memory import is_child
from bench.profile import parse_callgrind, parse_strace, per_query

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 44.44    0.001234           2       600           poll
 33.33    0.000900           1       610        10 recvfrom
 22.23    0.000600           1       601           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.002734           1      1811        10 total
"""


def test_strace_with_and_without_errors():
    assert parse_strace(STRACE) == {"poll": 600, "recvfrom": 610, "sendto": 601}
    assert parse_strace("") == {}


def test_per_query_is_the_difference():
    once = {"recvfrom": 210, "sendto": 205, "openat": 40}
    twice = {"recvfrom": 410, "sendto": 405, "openat": 40, "close": 1}
    assert per_query(once, twice, 100) == {"recvfrom": 2.0, "sendto": 2.0, "close": 0.01}


def test_callgrind_takes_the_last_total():
    assert parse_callgrind("events: Ir\nsummary: 10\n\nfn=x\n1 2\ntotals: 4711\n") == 4711
    with pytest.raises(ValueError, match="no totals"):
        parse_callgrind("events: Ir\n")


@pytest.mark.parametrize(
    ("tail", "end"),
    [(b"Z\0\0\0\5I", True), (b"Z\0\0\0\5E", True), (b"Z\0\0\0\5", False), (b"", False), (b"D\0\0\0\5I", False)],
)
def test_end_of_a_stream(tail, end):
    assert is_end(tail) is end


def test_copy_messages_are_whole():
    data, at, kinds = copy_messages(100_000), 0, []
    while at < len(data):
        size = struct.unpack_from("!i", data, at + 1)[0]
        kinds.append(data[at : at + 1])
        assert size <= MESSAGE + 4
        if kinds[-1] == b"d":
            assert data[at + size] == ord("\n")
        at += 1 + size
    assert at == len(data)
    assert kinds[-1] == b"c"
    assert set(kinds[:-1]) == {b"d"}
    assert 90_000 < len(data) <= 100_500


def test_bulk_share_of_direct_is_taken_inside_a_round():
    pieces = [
        Piece(0, "result", "direct", 400.0, None, None), Piece(0, "result", "ours", 380.0, 900.0, 0.0),
        Piece(1, "result", "direct", 200.0, None, None), Piece(1, "result", "ours", 196.0, 1100.0, 2.5),
        Piece(2, "result", "ours", 0.0, None, None, "refused"),
    ]  # fmt: skip
    assert medians(pieces, "result", "ours") == (288.0, pytest.approx(0.965), 1000.0, 2.5)
    assert medians(pieces, "copy-in", "ours") is None


def test_titles():
    assert is_child("pgpool: wait for connection request")
    assert not is_child("pgpool: PCP: wait for connection request")
    assert not is_child("pgpool: health check process(0)")
