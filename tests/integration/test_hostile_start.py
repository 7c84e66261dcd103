"""Hostile input at the door: FATAL with a SQLSTATE, and nobody else notices."""

from __future__ import annotations

import contextlib
import struct
import time

import pytest

from tests.support.wire import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    Closed,
    RawClient,
    cancel_request,
    cstr,
    msg,
    query,
    startup,
)

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture(scope="module")
def door(shared):
    return shared(authentication_timeout=3)


def fatal(pgpool, *parts: bytes) -> dict[str, str]:
    """The error that ``parts`` get as the first bytes of a connection; the connection must be closed behind it."""
    with RawClient(pgpool.host, pgpool.port) as client:
        with contextlib.suppress(Closed):
            client.send(*parts)
        seen = client.wait_closed()
        assert [m.kind for m in seen] == ["E"], seen
        return seen[0].fields


BAD_LENGTH = "invalid length of startup packet"
BAD_LAYOUT = "invalid startup packet layout: expected terminator as last byte"


@pytest.mark.parametrize(
    ("data", "sqlstate", "text"),
    [
        (struct.pack("!I", 0), "08P01", BAD_LENGTH),
        (struct.pack("!I", 7) + b"abc", "08P01", BAD_LENGTH),
        (struct.pack("!I", 10001) + b"\0\3\0\0", "08P01", BAD_LENGTH),
        (struct.pack("!I", 0xFFFFFFFF), "08P01", BAD_LENGTH),
        (b"p" + struct.pack("!I", 12) + b"secret\0", "08P01", BAD_LENGTH),
        (query("SELECT 1"), "08P01", BAD_LENGTH),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01", BAD_LENGTH),
        (b"\x16\x03\x01\x00\xc8\x01", "08P01", BAD_LENGTH),
        (struct.pack("!II", 8, PROTOCOL_3_0), "08P01", BAD_LAYOUT),
        (struct.pack("!II", 12, PROTOCOL_3_0) + b"user", "08P01", BAD_LAYOUT),
        (struct.pack("!II", 18, PROTOCOL_3_0) + b"user\0bob\0x", "08P01", BAD_LAYOUT),
        (startup(PROTOCOL_3_0), "28000", "no PostgreSQL user name specified in startup packet"),
        (startup(PROTOCOL_3_0, user=""), "28000", "no PostgreSQL user name specified in startup packet"),
        (startup(2 << 16, user="u"), "0A000", "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"),
        (startup(4 << 16, user="u"), "0A000", "unsupported frontend protocol 4.0: server supports 3.0 to 3.2"),
        (SSL_REQUEST + startup(user="postgres"), "08P01", "received unencrypted data after SSL request"),
        (GSSENC_REQUEST + b"x", "08P01", "received unencrypted data after GSSAPI encryption request"),
        (cancel_request(1, b""), "08P01", "invalid length of query cancel packet"),
        (cancel_request(1, b"k" * 257), "08P01", "invalid length of query cancel packet"),
    ],
)  # fmt: skip
def test_first_packets(door, data: bytes, sqlstate: str, text: str) -> None:
    fields = fatal(door, data)
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", sqlstate, text)
    with RawClient.login(door) as client:
        assert client.value("SELECT 1") == "1"


def test_encryption_is_declined(door) -> None:
    with RawClient(door.host, door.port) as client:
        for request in (GSSENC_REQUEST, SSL_REQUEST):
            client.send(request)
            assert client.read_raw(1) == b"N"
        client.start(user="postgres", database="app")
        assert client.value("SELECT 1") == "1"


def test_a_second_startup_in_a_session(door) -> None:
    """Its first byte is no message type."""
    with RawClient.login(door) as client:
        client.send(startup(user="postgres", database="app"))
        seen = client.wait_closed()
        assert seen[-1].kind == "E" and seen[-1].fields["S"] == "FATAL" and seen[-1].fields["C"] == "08P01"


@pytest.mark.parametrize(
    "data", [msg("?", b""), msg("p", b"secret\0"), b"Q\0\0\0\3", b"Q\xff\xff\xff\xff", b"\xff" * 9]
)
def test_unknown_messages_in_a_session(door, data: bytes) -> None:
    with RawClient.login(door) as other, RawClient.login(door) as client:
        client.send(data)
        seen = client.wait_closed()
        assert seen[-1].kind == "E" and seen[-1].fields["S"] == "FATAL" and seen[-1].fields["C"] == "08P01"
        assert other.value("SELECT 1") == "1"


def test_unknown_cancel_key_is_only_logged(door) -> None:
    mark = door.mark()
    with RawClient(door.host, door.port) as client:
        client.send(cancel_request(4711, b"nokey..."[:4]))
        assert client.wait_closed() == []
    door.wait_for_log("unknown key", mark)


def test_slow_loris_is_cut_off(door) -> None:
    """One byte a second: the deadline counts from the start, not from the last byte."""
    began = time.monotonic()
    with RawClient(door.host, door.port) as client:
        with pytest.raises((Closed, AssertionError)):
            for byte in startup(user="postgres", database="app")[:-1]:
                client.send(bytes([byte]))
                if not client.is_quiet(0.5):
                    client.read_raw(1, 0.1)
                    break
        assert 2 < time.monotonic() - began < 8


def test_silent_and_half_closed_clients_are_let_go(door) -> None:
    began = time.monotonic()
    with RawClient(door.host, door.port) as silent:
        silent.wait_closed()
    assert time.monotonic() - began < 8
    with RawClient(door.host, door.port) as half:
        half.send(startup(user="postgres", database="app")[:20])
        half.sock.shutdown(1)
        assert half.wait_closed(3) == []


def test_names_at_every_limit(door) -> None:
    """CVE-2012-4575 class: long names are the backend's matter (it cuts them at 63 bytes)."""
    for size in (62, 63, 64, 65, 255, 256, 4096, 9900):
        fields = fatal(door, startup(user="postgres", database="d" * size))
        assert fields["C"] == "3D000" and f'database "{"d" * min(size, 63)}"' in fields["M"]


@pytest.mark.parametrize("options", ["-c=", "-c =x", "-c", "--=", "--", "-", "\\", "-c a\\", " ", "-c search_path=x'"])
def test_odd_options(door, postgres, options: str) -> None:
    """CVE-2026-107349 class: the answer is the backend's, at once."""
    answers = []
    for server in (postgres, door):
        with RawClient(server.host, server.port) as client:
            client.send(startup(user="postgres", database="app", options=options))
            kinds = client.read_until("EZ")
            answers.append(kinds[-1].fields if kinds[-1].kind == "E" else "Z")
    assert answers[0] == answers[1]


def test_newer_protocols_are_negotiated(door, postgres) -> None:
    """As the backend itself answers, when it is asked for the newest version both know."""
    for protocol in (PROTOCOL_3_2, 3 << 16 | 9999):
        with RawClient.login(door, protocol=protocol) as ours, RawClient.login(postgres, protocol=protocol) as theirs:
            assert (ours.negotiated is None) == (theirs.negotiated is None)
            if theirs.negotiated is not None and ours.negotiated is not None:
                assert ours.negotiated == theirs.negotiated
            assert ours.value("SELECT 1") == "1" and len(ours.key) == len(theirs.key)


def test_unknown_protocol_options_are_named(door) -> None:
    packet = startup(PROTOCOL_3_0, user="postgres", database="app", **{"_pq_.unknown": "on"})
    with RawClient(door.host, door.port) as client:
        client.send(packet)
        first = client.read()
        assert first.kind == "v" and first.body[4:] == struct.pack("!i", 1) + cstr("_pq_.unknown")
        client.read_until("Z")
        assert client.value("SELECT 1") == "1"
