"""PCP messages: what is made reads back, known bytes of pcp_protocol.md, and no bytes that break a parser."""

import contextlib

import hypothesis
import pytest
from hypothesis import strategies as st

from pgpool.errors import ProtocolViolation
from pgpool.wire import pcp
from pgpool.wire.messages import message, raw

TEXTS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)
V43, V47 = pcp.Generation.V4_3, pcp.Generation.V4_7
INFO = pcp.NodeInfo("h", 5432, 2, False, "up", 0.5, 2, "primary", True, 7, "streaming", "", 1700000000)


def payloads(data: bytes) -> list[tuple[bytes, bytes]]:
    """The messages of a stream as (kind, payload)."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        found.append((data[:1], data[5 : size + 1]))
        data = data[size + 1 :]
    return found


def test_known_bytes():
    assert pcp.promote(1, True) == bytes.fromhex("31200073")
    assert pcp.done(b"O") == b"c\0\0\0\x14CommandComplete\0"
    assert pcp.rows(b"B", pcp.CONFIG_ROW, [], binary_count=True)[:19] == b"b\0\0\0\x12ArraySize\0\0\0\0\0"
    assert INFO.fields(V47)[5] == "1073741823.500000"
    # md5(md5(pcp.conf hash + user) + salt)
    assert pcp.digest("e8a48653851e28c69d0506508fb27fc5", "postgres", b"\0\1\2\3") == "494eccbf04a2bec28a1a9e9364effa76"


def test_the_answer_of_a_login_depends_on_all_three():
    made = {pcp.digest(h, u, s) for h in ("a" * 32, "b" * 32) for u in ("u", "v") for s in (b"\0\0\0\0", b"\0\0\0\1")}
    assert len(made) == 8 and all(len(text) == pcp.DIGEST_CHARS for text in made)
    request = pcp.LoginRequest("u", pcp.digest("a" * 32, "u", b"salt"))
    assert pcp.proves(request, "a" * 32, b"salt")
    assert not pcp.proves(request, "b" * 32, b"salt") and not pcp.proves(request, "a" * 32, b"tlas")


def test_login_reads_back():
    [(kind, payload)] = payloads(pcp.login("joe", "0" * 32))
    assert kind == b"R" and pcp.read_login(payload) == pcp.LoginRequest("joe", "0" * 32)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"joe\0",
        b"joe\0short\0",
        b"\0" + b"0" * 32 + b"\0",
        b"joe\0" + b"0" * 32,
        b"u" * 128 + b"\0" + b"0" * 32 + b"\0",
        b"joe\0" + b"0" * 32 + b"\0more\0",
    ],
)
def test_a_malformed_login_is_refused(payload):
    with pytest.raises(ProtocolViolation):
        pcp.read_login(payload)


@pytest.mark.parametrize(
    ("payload", "meaning"),
    [(b"1 \0n", (1, False)), (b"1 \0s", (1, True)), (b"3\0", (3, False)), (b"x \0n", (None, False))],
)
def test_promote(payload, meaning):
    assert pcp.read_promote(payload) == meaning


def test_node_info_of_both_generations():
    assert pcp.NodeInfo.read(INFO.fields(V47)) == INFO
    assert len(INFO.fields(V43)) == 12
    assert pcp.NodeInfo.read(INFO.fields(V43)).by_time is False


@hypothesis.given(st.lists(st.lists(TEXTS, min_size=1, max_size=4), max_size=5))
def test_rows_read_back(table):
    got = [pcp.read_row(payload, b"NodeInfo") for _, payload in payloads(pcp.rows(b"I", b"NodeInfo", table))]
    assert got[0].count == len(table) and got[-1].last
    assert [list(row.values) for row in got[1:-1]] == table


@hypothesis.given(TEXTS, TEXTS, TEXTS)
def test_reports_read_back_cut(msg, detail, hint):
    [(_, payload)] = payloads(pcp.report(b"E", "ERROR", "XX000", msg, detail, hint))
    got = pcp.read_report(payload)
    assert (got.severity, got.sqlstate) == ("ERROR", "XX000")
    for text, read in ((msg, got.message), (detail, got.detail), (hint, got.hint)):
        assert raw(read) == raw(text)[:254]


@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(payload):
    """Nothing but ProtocolViolation comes out of a parser."""
    parsers = [pcp.read_login, pcp.read_promote, pcp.one_text, pcp.read_values, pcp.read_report]
    parsers += [lambda data, word=word: pcp.read_row(data, word) for word in (b"NodeInfo", b"ProcessConfig")]
    for parse in parsers:
        with contextlib.suppress(ProtocolViolation):
            parse(payload)
    with contextlib.suppress(ProtocolViolation):
        pcp.NodeInfo.read([part.decode("latin-1") for part in payload.split(b"\0")])


@hypothesis.given(st.binary(max_size=40))
def test_framing(payload):
    assert payloads(message(b"I", payload)) == [(b"I", payload)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), (" -1", -1), ("", None), ("1x", None), ("٣", None), ("9" * 11, None),
        ("-+5", None), ("0 \x1d", None),  # found by the fuzz: a digit by str's rules and no number by int's
    ],
)  # fmt: skip
def test_numbers(text, value):
    assert pcp.number(text) == value
