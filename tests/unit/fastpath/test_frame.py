"""Framing of client bytes, in one piece and split at every byte, against the slow twin."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from pgpool._fastpath import frontend_frames

from . import twin


def message(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("!I", len(payload) + 4) + payload


messages = st.lists(
    st.tuples(st.sampled_from([bytes([c]) for c in b"QPBFdDECSHXcf"]), st.binary(max_size=40)), max_size=6
).map(lambda rows: b"".join(message(k, p) for k, p in rows))


@given(messages, st.binary(max_size=12))
def test_same_as_twin(stream, tail):
    data = stream + tail
    assert frontend_frames(data) == twin.frames(data)


@given(messages)
def test_every_prefix_agrees_with_the_whole(stream):
    whole, bad = frontend_frames(stream)
    assert bad is None
    for cut in range(len(stream) + 1):
        found, bad = frontend_frames(stream[:cut])
        assert bad is None
        assert found == [row for row in whole if row[1] + row[2] <= cut]


def test_lengths_no_client_may_send():
    for size in (0, 3, 2**31 - 1, 2**32 - 1, 2**30):
        found, bad = frontend_frames(b"Q" + struct.pack("!I", size) + b"x" * 8)
        assert (found, bad) == ([], (0, "length"))
    assert frontend_frames(b"S" + struct.pack("!I", 10001) + b"x")[1] == (0, "length")
    assert frontend_frames(b"\0\0\0\0\4")[1] == (0, "type")
    assert frontend_frames(message(b"Q", b"select 1\0") + b"y\0\0\0\4")[1] == (14, "type")
