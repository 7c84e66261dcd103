"""wire/startup: the first packet, its lengths, its layout, and what PostgreSQL says to a wrong one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.errors import PgpoolError, ProtocolViolation, SessionFatal
from pgpool.wire import startup as s
from pgpool.wire.messages import PROTOCOL_3_0, PROTOCOL_3_2

LAYOUT = "invalid startup packet layout: expected terminator as last byte"


def body(*strings: str, protocol: int = PROTOCOL_3_0) -> bytes:
    """What follows the length word: protocol, strings, the terminator."""
    return struct.pack("!I", protocol) + b"".join(x.encode() + b"\0" for x in strings) + b"\0"


def parsed(*strings: str, protocol: int = PROTOCOL_3_0) -> s.Startup:
    result = s.parse_startup(body(*strings, protocol=protocol))
    assert isinstance(result, s.Startup)
    return result


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.dictionaries(names.filter(lambda n: not n.startswith("_pq_.") and n != "replication"), texts), names)
def test_round_trip(params: dict[str, str], user: str) -> None:
    params["user"] = user
    packet = s.startup_packet(PROTOCOL_3_0, **params)
    start = s.parse_startup(packet[4:])
    assert isinstance(start, s.Startup)
    assert start.params == params and start.user == user
    assert start.database == (params.get("database") or user)
    assert start.render() == packet


@given(st.binary(max_size=300))
def test_garbage_never_crashes(data: bytes) -> None:
    for packet in (data, b"\0\3\0\0" + data, b"\0\3\0\0user\0x\0" + data, b"\x04\xd2\x16\x2e" + data):
        try:
            s.parse_startup(packet)
        except PgpoolError as error:
            assert error.severity == "FATAL" and error.sqlstate in ("08P01", "0A000", "28000", "22023")


def test_bytes_that_are_no_utf8_survive() -> None:
    packet = s.startup_packet(PROTOCOL_3_0, user=b"\xff\xfe", application_name=b"caf\xe9")
    start = s.parse_startup(packet[4:])
    assert isinstance(start, s.Startup) and start.render() == packet


def test_requests_for_encryption() -> None:
    assert isinstance(s.parse_startup(struct.pack("!I", 80877103)), s.SSLRequest)
    assert isinstance(s.parse_startup(struct.pack("!I", 80877104)), s.GSSENCRequest)
    for code in (80877103, 80877104):
        with pytest.raises(ProtocolViolation, match="invalid length of startup packet"):
            s.parse_startup(struct.pack("!I", code) + b"x")


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel(size: int) -> None:
    packet = s.cancel_packet(4_000_000_000, b"k" * size)
    assert int.from_bytes(packet[:4], "big") == len(packet)
    assert s.parse_startup(packet[4:]) == s.CancelRequest(4_000_000_000, b"k" * size)


@pytest.mark.parametrize("size", [0, 3, 257])
def test_cancel_with_a_key_that_cannot_be(size: int) -> None:
    with pytest.raises(ProtocolViolation):
        s.parse_startup(s.cancel_packet(1, b"k" * size)[4:])


@pytest.mark.parametrize(
    ("head", "good"), [(8, True), (10000, True), (7, False), (0, False), (10001, False), (0xFFFFFFFF, False)]
)
def test_packet_length(head: int, good: bool) -> None:
    data = struct.pack("!I", head)
    if good:
        assert s.packet_length(data) == head - 4
    else:
        with pytest.raises(ProtocolViolation, match="invalid length of startup packet"):
            s.packet_length(data)


def test_direct_tls_and_password_first_are_no_startup_packets() -> None:
    for data in (b"\x16\x03\x01\x02\x00", b"p\0\0\0\x0cse", b"Q\0\0\0\x0c", b"GET / HTTP"):
        with pytest.raises(ProtocolViolation):
            s.packet_length(data)


@pytest.mark.parametrize(
    ("protocol", "shown"), [(0x20000, "2.0"), (0x40000, "4.0"), (0, "0.0"), (0x04D2162D, "1234.5677")]
)
def test_other_protocols(protocol: int, shown: str) -> None:
    with pytest.raises(SessionFatal) as caught:
        s.parse_startup(body("user", "u", protocol=protocol))
    assert caught.value.sqlstate == "0A000"
    assert caught.value.message == f"unsupported frontend protocol {shown}: server supports 3.0 to 3.2"


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack("!I", PROTOCOL_3_0),
        struct.pack("!I", PROTOCOL_3_0) + b"user",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0bob",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0bob\0",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0bob\0\0x",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0bob\0\0\0",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0bob\0\0x\0\0",
        struct.pack("!I", PROTOCOL_3_0) + b"user\0bob\0database\0\0\0\0",
    ],
)
def test_layout(packet: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        s.parse_startup(packet)
    assert caught.value.message == LAYOUT


def test_no_user() -> None:
    for strings in ((), ("database", "d"), ("user", ""), ("user", "", "database", "d")):
        with pytest.raises(SessionFatal) as caught:
            s.parse_startup(body(*strings))
        assert caught.value.sqlstate == "28000"
        assert caught.value.message == "no PostgreSQL user name specified in startup packet"


def test_a_name_sent_twice_has_one_meaning_for_us_and_the_backend() -> None:
    start = parsed("user", "alice", "database", "d", "user", "bob")
    assert start.user == "bob"
    assert start.render().count(b"user\0") == 1 and b"alice" not in start.render()


def test_database_defaults_to_the_user() -> None:
    assert parsed("user", "bob").database == "bob"
    assert parsed("user", "bob", "database", "").database == "bob"
    assert parsed("user", "bob", "application_name", "psql").application_name == "psql"


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("true", "true"), ("on", "true"), ("1", "true"), ("t", "true"), ("y", "true"), ("false", ""), ("off", ""),
     ("0", ""), ("no", ""), ("", ""), ("database", "database")],
)  # fmt: skip
def test_replication(value: str, meaning: str) -> None:
    start = parsed("user", "bob", "database", "d", "replication", value)
    assert start.replication == meaning
    assert start.database == ("" if meaning == "true" else "d")


def test_replication_nonsense() -> None:
    for value in ("o", "maybe", " ", "truely"):
        with pytest.raises(SessionFatal) as caught:
            parsed("user", "bob", "replication", value)
        assert caught.value.sqlstate == "22023"


def test_protocol_options_are_named_to_the_client_and_hidden_from_backends() -> None:
    start = parsed("user", "bob", "_pq_.x", "1", "_pq_.y", "2", protocol=PROTOCOL_3_2)
    assert start.pq_options == ("_pq_.x", "_pq_.y") and b"_pq_" not in start.render()
    assert start.negotiation(PROTOCOL_3_2) == (
        b"v" + struct.pack("!iii", 12 + 14, PROTOCOL_3_2, 2) + b"_pq_.x\0_pq_.y\0"
    )


def test_versions_are_negotiated_down() -> None:
    newer = parsed("user", "bob", protocol=0x3270F)
    assert newer.backend_protocol == PROTOCOL_3_2
    assert newer.negotiation(PROTOCOL_3_2) == b"v" + struct.pack("!iii", 12, PROTOCOL_3_2, 0)
    assert newer.negotiation(PROTOCOL_3_0) == b"v" + struct.pack("!iii", 12, PROTOCOL_3_0, 0)
    assert parsed("user", "bob", protocol=PROTOCOL_3_2).negotiation(PROTOCOL_3_2) == b""
    assert parsed("user", "bob").negotiation(PROTOCOL_3_0) == b""
    assert parsed("user", "bob").negotiation(PROTOCOL_3_2) == b""
