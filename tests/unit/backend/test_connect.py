"""backend/connect against a scripted backend: logins, versions, cancel, queries of our own."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from types import SimpleNamespace

import pytest

from pgpool.auth import exchange
from pgpool.auth.admission import Admission
from pgpool.backend import connect
from pgpool.errors import (
    BackendFailed,
    StatementError,
)
from pgpool.wire import messages as m
from pgpool.wire import startup as s

from .scripted import READY, SETTINGS, VERIFIER, Backend, login, start

# ---------------------------------------------------------------- nobody there


def test_who_does_not_answer_is_given_all_the_time() -> None:
    """A health check that was given up a moment too early would not know that its time limit had passed."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        for _ in range(4):  # the queue is full then: the kernel answers nobody any more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        node = SimpleNamespace(hostname=host, port=port)
        for _ in range(20):
            end = time.monotonic() + 0.007
            with pytest.raises(BackendFailed) as failed:
                connect.open_channel(0, node, SimpleNamespace(connect_timeout=7))
            assert time.monotonic() >= end and "timed out" in failed.value.detail


# ---------------------------------------------------------------- honest backends


def test_trust(backend) -> None:
    server = backend(lambda b: b.send(READY))
    link = login(server)
    assert server.startup == start().render()[4:]
    assert link.parameter_status == {"server_version": "15.4", "TimeZone": "UTC"}
    assert link.raw_status == m.parameter_status("server_version", "15.4") + m.parameter_status("TimeZone", "UTC")
    assert (link.pid, link.key, link.protocol) == (4711, b"\1\2\3\4", m.PROTOCOL_3_0)
    assert (link.auth.method, link.relayed, link.reusable, link.prelude) == ("trust", False, True, b"")
    assert link.greeting(link.prelude) == READY


def test_answers_in_single_bytes(backend) -> None:
    def script(b: Backend) -> None:
        for byte in READY:
            b.send(bytes([byte]))

    assert login(backend(script)).pid == 4711


@pytest.mark.parametrize("size", [4, 32, 256])
def test_long_keys_of_protocol_3_2(backend, size: int) -> None:
    ready = m.authentication_ok() + m.backend_key_data(1, b"k" * size) + m.ready_for_query()
    link = login(backend(lambda b: b.send(ready)), startup=start(protocol=m.PROTOCOL_3_2))
    assert link.key == b"k" * size and link.protocol == m.PROTOCOL_3_2


def test_password_and_md5_with_a_secret(backend) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_cleartext())
        assert b.read() == b"secret\0"
        b.send(READY)

    assert login(backend(script), Admission.own("bob", b"secret")).auth.method == "password"

    def md5(b: Backend) -> None:
        b.send(m.authentication_md5(b"salt"))
        assert b.read() == exchange.md5_answer(exchange.md5_secret(b"secret", b"bob"), b"salt") + b"\0"
        b.send(READY)

    assert login(backend(md5), Admission.own("bob", b"secret")).auth.method == "md5"
    assert login(backend(md5), Admission.own("bob", md5=exchange.md5_secret(b"secret", b"bob"))).auth.method == "md5"


def test_scram_with_a_password_and_with_keys(backend) -> None:
    def script(b: Backend) -> None:
        b.scram()
        b.send(READY)

    assert login(backend(script), Admission.own("bob", b"secret")).auth.method == "scram"
    client_key = exchange._keys(b"secret", VERIFIER.salt, 4096)[0]
    admission = Admission("bob", verified=True, negotiated=True, keys=exchange.ClientKeys(VERIFIER, client_key))
    assert login(backend(script), admission).auth.method == "scram"


def test_notices_reach_the_client_and_nobody_else(backend, client) -> None:
    notice = m.notice_response("WARNING", "01000", "collation version mismatch")
    ready = READY[:9] + notice + READY[9:]
    assert login(backend(lambda b: b.send(ready)), Admission("bob"), client[0]).prelude == notice
    assert login(backend(lambda b: b.send(ready))).prelude == b""


# ---------------------------------------------------------------- versions


def test_an_older_backend_is_passed_on_to_the_client(backend, client) -> None:
    older = m.negotiate_protocol_version(m.PROTOCOL_3_0)
    startup = start(protocol=m.PROTOCOL_3_2)
    link = login(backend(lambda b: b.send(older + READY)), Admission("bob"), client[0], startup)
    assert link.protocol == m.PROTOCOL_3_0 and link.prelude == older
    assert startup.negotiation(link.auth.protocol) == older


def test_options_and_versions_unknown_to_us_are_answered_by_us(backend, client) -> None:
    server = backend(lambda b: b.send(READY))
    startup = s.parse_startup(s.startup_packet(0x30009, user="bob", **{"_pq_.new": "1"})[4:])
    link = login(server, Admission("bob"), client[0], startup)
    assert link.prelude == m.negotiate_protocol_version(m.PROTOCOL_3_2, ["_pq_.new"])
    assert server.startup == start(protocol=m.PROTOCOL_3_2).render()[4:].replace(b"database\0shop\0", b"")


@pytest.mark.parametrize("version", [0x30003, 0x20000, 0x40000, 0])
def test_a_version_nobody_asked_for(backend, version: int) -> None:
    answer = m.message(b"v", struct.pack("!II", version, 0))
    if version == 0:  # the documentation's form: a bare minor number, 3.0
        assert login(backend(lambda b: b.send(answer + READY))).protocol == m.PROTOCOL_3_0
        return
    with pytest.raises(BackendFailed):
        login(backend(lambda b: b.send(answer + READY)), startup=start(protocol=m.PROTOCOL_3_2))


# ---------------------------------------------------------------- cancel, simple_query


def test_cancel(backend) -> None:
    server = backend(lambda b: None)
    connect.cancel(0, server.conf, SETTINGS, 4711, b"k" * 32)
    server.join(10)
    assert s.parse_startup(server.startup) == s.CancelRequest(4711, b"k" * 32)


def test_cancel_does_not_wait_for_ever(backend, monkeypatch) -> None:
    monkeypatch.setattr(connect, "CANCEL_WAIT", 0.2)
    began = time.monotonic()
    connect.cancel(0, backend(lambda b: b.at_end()).conf, SETTINGS, 1, b"1234")
    assert time.monotonic() - began < 2


def test_simple_query(backend) -> None:
    def script(b: Backend) -> None:
        b.send(READY)
        for answer in (
            m.row_description(["a", "b"])
            + m.data_row(["1", None])
            + m.data_row(["2", "x"])
            + m.command_complete("SELECT 2"),
            m.error_response("ERROR", "42P01", "no such table"),
            b"",
        ):
            assert b.exactly(5)[:1] == b"Q"
            b.exactly(13)
            b.send(answer + (m.ready_for_query() if answer else b"D\0\0\0\3"))

    link = connect.login(0, backend(script).conf, start(), Admission.own("bob"), None, SETTINGS)
    try:
        assert connect.simple_query(link.channel, "select x, y;") == [["1", None], ["2", "x"]]
        with pytest.raises(StatementError) as caught:
            connect.simple_query(link.channel, "select x, z;")
        assert caught.value.sqlstate == "42P01"
        with pytest.raises(BackendFailed):
            connect.simple_query(link.channel, "select x, w;")
    finally:
        link.channel.close()
