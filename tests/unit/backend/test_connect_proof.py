"""backend/connect: nobody is vouched for; who asks the client, and what is spent on whom."""

from __future__ import annotations

import socket
import threading

import pytest

from pgpool.auth import exchange
from pgpool.auth.admission import Admission
from pgpool.errors import (
    AuthenticationFailed,
    BackendFailed,
    ClientGone,
    ProtocolViolation,
    SessionFatal,
)
from pgpool.wire import messages as m
from pgpool.wire import startup as s

from .scripted import READY, VERIFIER, Backend, client_answers, login

# ---------------------------------------------------------------- nobody is vouched for


def test_a_typed_password_must_be_looked_at(backend, client) -> None:
    """CVE-2025-46801 class: a backend that trusts has not verified what the client typed."""
    admission = Admission("bob", typed=True, password=b"anything")
    with pytest.raises(AuthenticationFailed, match='password authentication failed for user "bob"'):
        login(backend(lambda b: b.send(READY)), admission, client[0])
    assert not admission.verified


def test_a_stored_secret_is_not_spent_on_somebody_unproved(backend) -> None:
    """The primary trusted the client; the standby asks for a password, which pool_passwd holds."""

    def script(b: Backend) -> None:
        b.send(m.authentication_cleartext())
        assert b.at_end()

    with pytest.raises(AuthenticationFailed) as caught:
        login(backend(script), Admission("bob", password=b"secret"))
    assert (caught.value.message, caught.value.detail) == (
        "failed to authenticate with backend", "valid password not found",
    )  # fmt: skip


@pytest.mark.parametrize("method", ["md5", "scram"])
def test_with_a_stored_secret_we_ask_the_client_first(backend, client, method: str) -> None:
    def script(b: Backend) -> None:
        if method == "md5":
            b.send(m.authentication_md5(b"salt"))
            assert b.read() == exchange.md5_answer(exchange.md5_secret(b"secret", b"bob"), b"salt") + b"\0"
        else:
            b.scram()
        b.send(READY)

    answering = client_answers(client[1], b"secret")
    admission = Admission("bob", password=b"secret")
    link = login(backend(script), admission, client[0])
    answering.join()
    assert admission.verified and not link.relayed and link.reusable and link.auth.method == method


@pytest.mark.parametrize("method", ["md5", "scram"])
def test_the_stored_secret_is_not_used_when_the_client_fails(backend, client, method: str) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_md5(b"salt") if method == "md5" else m.authentication_sasl(["SCRAM-SHA-256"]))
        assert b.at_end()

    answering = client_answers(client[1], b"wrong")
    with pytest.raises(AuthenticationFailed) as caught:
        login(backend(script), Admission("bob", password=b"secret"), client[0])
    answering.join()
    assert caught.value.sqlstate == "28P01"


@pytest.mark.parametrize("method", ["md5", "scram", "password"])
def test_nothing_stored_the_backend_judges(backend, client, method: str) -> None:
    def script(b: Backend) -> None:
        if method == "md5":
            b.send(m.authentication_md5(b"salt"))
            assert b.read() == exchange.md5_answer(exchange.md5_secret(b"secret", b"bob"), b"salt") + b"\0"
        elif method == "scram":
            b.scram()
        else:
            b.send(m.authentication_cleartext())
            assert b.read() == b"secret\0"
        b.send(READY)

    answering = client_answers(client[1], b"secret")
    admission = Admission("bob")
    link = login(backend(script), admission, client[0])
    answering.join()
    assert admission.verified and link.auth.method == method
    # a clear text password is known from now on, an exchange that was passed through leaves nothing
    assert (link.relayed, link.reusable) == ((False, True) if method == "password" else (True, False))
    assert (b"v=" in link.prelude) == (method == "scram")
    assert admission.password == (b"secret" if method == "password" else None)


@pytest.mark.parametrize("method", ["md5", "scram"])
def test_clear_text_from_the_client_where_allowed(backend, client, method: str) -> None:
    def script(b: Backend) -> None:
        if method == "md5":
            b.send(m.authentication_md5(b"salt"))
            b.read()
        else:
            b.scram()
        b.send(READY)

    client[1].sendall(m.password_message(b"secret"))
    admission = Admission("bob", clear_text=True)
    link = login(backend(script), admission, client[0])
    assert client[1].recv(100) == m.authentication_cleartext()
    assert admission.verified and link.auth.recalls(b"secret") and not link.auth.recalls(b"other")


def test_a_verifier_checks_the_client_and_its_key_logs_in(backend, client) -> None:
    def script(b: Backend) -> None:
        b.scram()
        b.send(READY)

    answering = client_answers(client[1], b"secret")
    admission = Admission("bob", verifier=VERIFIER)
    login(backend(script), admission, client[0])
    answering.join()
    assert admission.verified and login(backend(script), admission).auth.method == "scram"


def test_no_second_startup_in_the_middle_of_a_relay(backend, client) -> None:
    """CVE-2026-107350 class."""

    def script(b: Backend) -> None:
        b.send(m.authentication_sasl(["SCRAM-SHA-256"]))
        assert b.at_end()

    client[1].sendall(s.startup_packet(user="root"))
    with pytest.raises(ProtocolViolation, match="expected password response, got message type 0"):
        login(backend(script), Admission("bob"), client[0])


def test_a_client_that_leaves_takes_the_login_with_it(backend, client) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_md5(b"salt"))
        assert b.at_end()

    client[1].shutdown(socket.SHUT_WR)
    with pytest.raises(ClientGone):
        login(backend(script), Admission("bob"), client[0])


def test_a_backend_that_lost_patience_with_the_client_is_not_dead(backend, client) -> None:
    def script(b: Backend) -> None:
        b.send(m.authentication_md5(b"salt"))

    server = backend(script)
    server_gone = threading.Thread(target=lambda: (server.join(10), client[1].sendall(m.password_message(b"late"))))
    server_gone.start()
    with pytest.raises(SessionFatal) as caught:
        login(server, Admission("bob"), client[0])
    server_gone.join()
    assert not isinstance(caught.value, BackendFailed)


def test_a_client_that_wasted_his_time_does_not_make_the_node_look_dead(backend, client) -> None:
    """He sends his startup packet just before authentication_timeout: nobody can log in within the rest."""
    with pytest.raises(SessionFatal) as caught:
        login(backend(lambda b: b.at_end()), Admission("bob"), client[0], seconds=0.1)
    assert not isinstance(caught.value, BackendFailed) and caught.value.sqlstate == "57014"
