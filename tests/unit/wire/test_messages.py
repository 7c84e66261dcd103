"""wire/messages: what is built is read back; nothing that comes in raises anything but ProtocolViolation."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.errors import ProtocolViolation
from pgpool.wire import messages as m

cstrings = st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"x"))
oids = st.lists(st.integers(0, 2**32 - 1), max_size=5)
formats = st.lists(st.integers(0, 1), max_size=1)
values = st.lists(st.none() | st.binary(max_size=30), max_size=5)


def payload(packet: bytes, kind: bytes) -> bytes:
    """The payload of exactly one message of that kind."""
    found, rest = m.split_messages(packet)
    assert rest == b"" and len(found) == 1 and found[0][0] == kind
    return found[0][1]


@given(name=cstrings, sql=cstrings, types=oids)
def test_parse_round_trip(name: bytes, sql: bytes, types: list[int]) -> None:
    assert m.read_parse(payload(m.parse(name, sql, types), b"P")) == m.Parse(name, sql, tuple(types))


@given(portal=cstrings, statement=cstrings, params=values, kinds=formats, results=formats)
def test_bind_round_trip(portal: bytes, statement: bytes, params: list, kinds: list, results: list) -> None:
    packet = m.bind(portal, statement, params, kinds, results)
    assert m.read_bind(payload(packet, b"B")) == m.Bind(portal, statement, tuple(kinds), tuple(params), tuple(results))


@given(params=values)
def test_data_row_round_trip(params: list) -> None:
    assert m.data_row_values(payload(m.data_row(params), b"D")) == params


@given(text=st.text(max_size=50))
def test_any_text_goes_into_an_error(text: str) -> None:
    packet = m.error_response("FATAL", "28000", text, text, text)
    fields = m.error_fields(payload(packet, b"E"))
    assert fields["S"] == fields["V"] == "FATAL" and fields["C"] == "28000"
    assert fields["M"] == text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape").replace("\0", "?")


def test_error_fields_in_postgresql_order() -> None:
    packet = m.error_response("FATAL", "08P01", "message", "detail", "hint")
    assert payload(packet, b"E") == b"SFATAL\0VFATAL\0C08P01\0Mmessage\0Ddetail\0Hhint\0\0"
    assert payload(m.notice_response("NOTICE", "00000", "m"), b"N") == b"SNOTICE\0VNOTICE\0C00000\0Mm\0\0"


@given(data=st.binary(max_size=200))
def test_error_fields_never_raise(data: bytes) -> None:
    assert isinstance(m.error_fields(data), dict)


READERS = [
    m.read_parse,
    m.read_bind,
    m.read_target,
    m.read_execute,
    m.read_query,
    m.read_password,
    m.read_sasl_initial,
    m.read_sasl_mechanisms,
    m.read_parameter_status,
    m.read_backend_key_data,
    m.read_negotiate,
    m.data_row_values,
    m.row_description_names,
    m.split_messages,
]


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.__name__)
@given(data=st.binary(max_size=120))
def test_garbage_is_a_protocol_violation(reader, data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        reader(data)


@pytest.mark.parametrize(
    ("reader", "packet"),
    [
        (m.read_parse, m.parse("n", "select 1", [23, 25])),
        (m.read_bind, m.bind("p", "s", ["1", None], [0, 1], [1])),
        (m.data_row_values, m.data_row(["abc", None, b""])),
        (m.read_negotiate, m.negotiate_protocol_version(m.PROTOCOL_3_0, ["_pq_.a"])),
        (m.read_execute, m.execute("p", 7)),
        (m.read_target, m.describe(b"S", "x")),
        (m.read_parameter_status, m.parameter_status("a", "b")),
        (m.read_sasl_initial, m.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x")),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_every_cut_and_every_extra_byte_is_refused(reader, packet: bytes) -> None:
    whole = packet[5:]
    reader(whole)
    for cut in range(len(whole)):
        with pytest.raises(ProtocolViolation):
            reader(whole[:cut])
    with pytest.raises(ProtocolViolation):
        reader(whole + b"\0")


def test_huge_lengths_are_refused_before_they_are_used() -> None:
    """CVE-2026-6664 class: a length near 2^31 or 2^32 in SASLInitialResponse, Bind, DataRow."""
    for size in (0x7FFFFFFF, 0xFFFFFFFE, 0x80000000):
        word = struct.pack("!I", size)
        with pytest.raises(ProtocolViolation):
            m.read_sasl_initial(b"SCRAM-SHA-256\0" + word + b"n,,")
        with pytest.raises(ProtocolViolation):
            m.data_row_values(b"\0\1" + word + b"x")
        with pytest.raises(ProtocolViolation):
            m.read_bind(b"\0\0\0\0\0\1" + word + b"x\0\0")
        with pytest.raises(ProtocolViolation):
            m.read_negotiate(b"\0\3\0\0" + word)


def test_split_at_every_byte() -> None:
    stream = m.query("select 1") + m.sync() + m.parse("", "select 2") + m.terminate()
    whole = m.split_messages(stream)[0]
    for cut in range(len(stream) + 1):
        first, rest = m.split_messages(stream[:cut])
        second, end = m.split_messages(rest + stream[cut:])
        assert first + second == whole and end == b""


def test_row_description_in_the_incumbents_shape() -> None:
    body = payload(m.row_description(["a", "bc"]), b"T")
    field = struct.Struct("!ihihih")
    assert body[:2] == b"\0\2" and m.row_description_names(body) == [b"a", b"bc"]
    assert field.unpack(body[4:22]) == (0, 0, 0, -1, 0, 0)
    assert field.unpack(body[25:]) == (0, 1, 0, -1, 0, 0)
    assert field.unpack(payload(m.row_description(["a"], 25), b"T")[4:]) == (0, 0, 25, -1, 0, 0)


def test_negotiate_understands_both_readings_of_the_documentation() -> None:
    assert m.read_negotiate(struct.pack("!ii", 0x30000, 0)) == (0x30000, [])
    assert m.read_negotiate(struct.pack("!ii", 0, 0)) == (0x30000, [])
    assert m.read_negotiate(struct.pack("!ii", 2, 0)) == (0x30002, [])


def test_key_lengths() -> None:
    for size in (4, 32, 256):
        assert m.read_backend_key_data(m.backend_key_data(77, b"k" * size)[5:]) == (77, b"k" * size)
    for size in (0, 3, 257):
        with pytest.raises(ProtocolViolation):
            m.read_backend_key_data(m.backend_key_data(77, b"k" * size)[5:])


def test_a_nul_cannot_be_smuggled_into_a_string() -> None:
    for build in (lambda: m.query("a\0b"), lambda: m.parameter_status("a\0", "b"), lambda: m.password_message(b"a\0b")):
        with pytest.raises(ValueError):
            build()


def test_password_must_fill_its_message() -> None:
    assert m.read_password(b"secret\0") == b"secret"
    for bad in (b"", b"secret", b"sec\0ret\0", b"secret\0\0"):
        with pytest.raises(ProtocolViolation, match="invalid password packet size"):
            m.read_password(bad)
