"""backend/connect: what a hostile, broken or silent backend may do to us."""

from __future__ import annotations

import contextlib
import struct
import time
from types import SimpleNamespace

import pytest

from pgpool.auth import exchange
from pgpool.auth.admission import Admission
from pgpool.backend import connect
from pgpool.errors import (
    AuthenticationFailed,
    BackendFailed,
    BackendRefused,
)
from pgpool.wire import messages as m

from .scripted import READY, SETTINGS, VERIFIER, Backend, login, start

# ---------------------------------------------------------------- refusals and failures


def test_the_backends_own_error_goes_on_unchanged(backend) -> None:
    packet = m.error_response("FATAL", "3D000", 'database "shop" does not exist')
    for before in (b"", m.authentication_ok(), READY[:-6]):
        with pytest.raises(BackendRefused) as caught:
            login(backend(lambda b, before=before: b.send(before + packet)))
        assert caught.value.packet == packet and caught.value.sqlstate == "3D000"


@pytest.mark.parametrize("payload", [b"", b"\0", b"Mno code\0\0", b"M", b"\xff\xfe\0\0", b"C\0M\0\0"])
def test_errors_without_fields(backend, payload: bytes) -> None:
    """CVE-2026-6666 class."""
    packet = m.message(b"E", payload)
    with pytest.raises(BackendRefused) as caught:
        login(backend(lambda b: b.send(packet)))
    assert caught.value.packet == packet and caught.value.message is not None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"R", READY[:-1], READY[:20], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"N", b"S",
        m.message(b"R", b""), m.message(b"R", b"\0\0\0"), m.message(b"R", struct.pack("!I", 5) + b"abc"),
        m.message(b"R", struct.pack("!I", 11)), m.message(b"R", struct.pack("!I", 12)), m.ready_for_query(),
        m.authentication_ok() + m.authentication_ok(), m.authentication_ok() + m.data_row(["x"]),
        m.authentication_ok() + m.message(b"S", b"no value"), m.authentication_ok() + m.message(b"K", b"short"),
        m.authentication_ok() + b"S\x7f\xff\xff\xff", m.message(b"D", b""), b"R\0\0\0\3", b"R\xff\xff\xff\xff",
        m.negotiate_protocol_version(m.PROTOCOL_3_0) * 2 + READY, m.message(b"v", b"\0"),
        m.message(b"v", struct.pack("!II", m.PROTOCOL_3_0, 0x7FFFFFFF)),
        m.authentication_ok() + m.message(b"K", bytes(300)),
    ],
)  # fmt: skip
def test_broken_backends(backend, data: bytes) -> None:
    with pytest.raises(BackendFailed) as caught:
        login(backend(lambda b: b.send(data)))
    assert caught.value.node_id == 0 and caught.value.message == "failed to create a backend 0 connection"
    assert caught.value.detail


def test_endless_messages_are_cut_off(backend) -> None:
    flood = m.authentication_ok() + m.parameter_status("a", "x" * 20000) * 20

    def script(b: Backend) -> None:
        with contextlib.suppress(OSError):
            b.send(flood)

    with pytest.raises(BackendFailed, match="failed to create"):
        login(backend(script))


def test_endless_authentication_is_cut_off(backend) -> None:
    def script(b: Backend) -> None:
        for _ in range(20):
            b.send(m.authentication_cleartext())
            try:
                b.read()
            except (EOFError, OSError):
                return
        raise AssertionError("asked twenty times and answered")

    with pytest.raises(BackendFailed):
        login(backend(script), Admission.own("bob", b"secret"))


def test_a_silent_backend_ends_at_the_deadline(backend) -> None:
    server = backend(lambda b: b.at_end())
    with pytest.raises(BackendFailed) as caught:
        login(server, seconds=0.3)
    assert caught.value.detail == "timeout expired"


def test_nobody_listens(tmp_path) -> None:
    conf = SimpleNamespace(hostname=str(tmp_path), port=5432)
    with pytest.raises(BackendFailed) as caught:
        connect.login(3, conf, start(), Admission.own("bob"), None, SETTINGS)
    assert caught.value.node_id == 3 and "No such file" in caught.value.detail


@pytest.mark.parametrize("code", [2, 6, 7, 9, 99])
def test_other_methods_are_refused_and_say_nothing_about_the_node(backend, code: int) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        login(backend(lambda b: b.send(m.message(b"R", struct.pack("!I", code)))), Admission.own("bob", b"x"))
    assert caught.value.detail == f"unsupported authentication method {code}"


# ---------------------------------------------------------------- hostile SCRAM servers


@pytest.mark.parametrize("count", [b"0", b"100000000", b"99999999999999999999", b"-1", b"x"])
def test_iteration_counts_are_bounded(backend, count: bytes) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_sasl(["SCRAM-SHA-256"]))
        _, first = m.read_sasl_initial(b.read())
        nonce = first.rpartition(b"r=")[2]
        b.send(m.authentication_sasl_continue(b"r=%bx,s=QUJD,i=%b" % (nonce, count)))
        assert b.at_end()

    began = time.monotonic()
    with pytest.raises(AuthenticationFailed):
        login(backend(script), Admission.own("bob", b"secret"))
    assert time.monotonic() - began < 2


def test_a_server_that_skips_its_own_proof(backend) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_sasl(["SCRAM-SHA-256"]))
        b.read()
        b.send(READY)

    with pytest.raises(BackendFailed) as caught:
        login(backend(script), Admission.own("bob", b"secret"))
    assert "without proving itself" in caught.value.detail


def test_a_server_with_a_wrong_proof(backend) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_sasl(["SCRAM-SHA-256"]))
        server = exchange.ScramServer(VERIFIER, b"n")
        b.send(m.authentication_sasl_continue(server.first(m.read_sasl_initial(b.read())[1])))
        b.read()
        b.send(m.authentication_sasl_final(b"v=" + b"A" * 43 + b"=") + READY)

    with pytest.raises(AuthenticationFailed):
        login(backend(script), Admission.own("bob", b"secret"))


def test_a_frozen_backend_is_given_up_without_a_deadline_too(backend) -> None:
    server = backend(lambda b: b.at_end())
    began = time.monotonic()
    with pytest.raises(BackendFailed):
        connect.login(0, server.conf, start(), Admission.own("bob"), None, SimpleNamespace(connect_timeout=300))
    assert time.monotonic() - began < 3
