"""auth/exchange: vectors of the RFC, PostgreSQL's own verifier, scramp as the other side, and hostile servers."""

from __future__ import annotations

import base64
import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramMechanism

from pgpool.auth import exchange as x

PASSWORD = b"pencil"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
VERIFIER = x.make_verifier(PASSWORD, SALT)


def run(client: x.ScramClient, server: x.ScramServer) -> None:
    """A whole exchange; raises where it fails."""
    first = server.first(client.first())
    client.check(server.final(client.final(first)))


def test_rfc7677_vector() -> None:
    """The client of RFC 7677 section 3 (its n=user and nonces) against our server side."""
    server = x.ScramServer(VERIFIER, b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = server.final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_verifier_text_round_trip() -> None:
    text = x.render_verifier(VERIFIER)
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert x.parse_verifier(text) == VERIFIER
    assert x.matches(b"pencil", VERIFIER) and not x.matches(b"pencil ", VERIFIER)


@pytest.mark.parametrize(
    "text",
    [
        "", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-1$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$" + "A" * 43 + "=:" + "A" * 43 + "=",
        "SCRAM-SHA-256$9999999999:W22ZaJ0SNY7soEsUEjb6gQ==$" + "A" * 43 + "=:" + "A" * 43 + "=",
        "SCRAM-SHA-256$4096:!!!!$" + "A" * 43 + "=:" + "A" * 43 + "=",
    ],
)  # fmt: skip
def test_what_is_no_verifier(text: str) -> None:
    assert x.parse_verifier(text) is None


@settings(deadline=None)
@given(password=st.binary(min_size=1, max_size=30), salt=st.binary(min_size=1, max_size=30), count=st.integers(1, 50))
def test_both_sides_agree(password: bytes, salt: bytes, count: int) -> None:
    server = x.ScramServer(x.make_verifier(password, salt, count), b"server")
    run(x.ScramClient(password, b"client"), server)
    assert server.keys is not None
    # the keys recovered from the proof log in without the password
    run(x.ScramClient(server.keys, b"other"), x.ScramServer(x.make_verifier(password, salt, count), b"server2"))


@pytest.mark.parametrize("password", ["pencil", "pässwörd", "I\u00adX", "\u2168", "a\u00a0b"])
def test_against_scramp(password: str) -> None:
    """scramp as client of our server (it prepares the password itself), and as server of our client."""
    mechanism = ScramMechanism("SCRAM-SHA-256")
    server = x.ScramServer(x.make_verifier(password.encode(), SALT), b"s" * 20)
    from scramp import ScramClient

    client = ScramClient(["SCRAM-SHA-256"], "user", password)
    client.set_server_first(server.first(client.get_client_first().encode()).decode())
    client.set_server_final(server.final(client.get_client_final().encode()).decode())

    info = mechanism.make_auth_info(password, salt=SALT, iteration_count=4096)
    assert (info[1], info[2]) == (server._verifier.stored_key, server._verifier.server_key)


def test_wrong_password_and_unknown_user_fail_at_the_same_step() -> None:
    for server in (
        x.ScramServer(VERIFIER, b"server"),
        x.ScramServer(VERIFIER, b"server", mock=True),
    ):
        password = b"wrong" if not server._mock else PASSWORD
        client = x.ScramClient(password, b"client")
        answer = client.final(server.first(client.first()))
        with pytest.raises(x.ExchangeFailed) as caught:
            server.final(answer)
        assert not caught.value.protocol and server.keys is None


def test_server_that_does_not_know_the_password_is_found_out() -> None:
    server = x.ScramServer(VERIFIER, b"server")
    client = x.ScramClient(PASSWORD, b"client")
    server.final(client.final(server.first(client.first())))
    for lie in (b"v=" + base64.b64encode(bytes(32)), b"e=other-error", b"", b"v=", b"v=%%%"):
        with pytest.raises(x.ExchangeFailed):
            client.check(lie)
    with pytest.raises(x.ExchangeFailed):
        x.ScramClient(PASSWORD, b"client").check(b"v=")


@pytest.mark.parametrize(
    "server_first",
    [
        b"", b"r=client", b"r=client,s=QUJD,i=4096", b"r=other1,s=QUJD,i=4096", b"r=client1,s=,i=4096",
        b"r=client1,s=QUJD,i=0", b"r=client1,s=QUJD,i=-1", b"r=client1,s=QUJD,i=2000000", b"r=client1,s=QUJD,i=1e3",
        b"r=client1,s=QUJD,i=" + b"9" * 5000, b"r=client1,s=%%%,i=4096", b"s=QUJD,r=client1,i=4096",
        b"r=client" + b"x" * 2000 + b",s=QUJD,i=1", b"r=client\xff,s=QUJD,i=1",
        b"r=client1,s=" + b"QUJD" * 3000 + b",i=1",
        b"e=unknown-user",
    ],
)  # fmt: skip
def test_hostile_server(server_first: bytes) -> None:
    """CVE-2026-6669 (iterations), CVE-2026-6665 (nonce) classes: refused, and at once."""
    with pytest.raises(x.ExchangeFailed):
        x.ScramClient(PASSWORD, b"client").final(server_first)


@pytest.mark.parametrize(
    "client_first",
    [
        b"", b"n,,", b"n", b"n,,n=,r=", b"n,,n=", b"n,,r=abc", b"p=tls-unique,,n=,r=abc", b"x,,n=,r=abc",
        b"n,a=bob,n=,r=abc", b"n,,n=,r=a\x00b", b"n,,n=,r=" + b"a" * 2000, b"n,,m=x,n=,r=abc", b"n,,n=,r=abc" * 2000,
    ],
)  # fmt: skip
def test_hostile_client_first(client_first: bytes) -> None:
    with pytest.raises(x.ExchangeFailed):
        x.ScramServer(VERIFIER, b"server").first(client_first)


@given(st.binary(max_size=100))
def test_garbage_only_fails(data: bytes) -> None:
    for take in (
        x.ScramServer(VERIFIER, b"server").first,
        x.ScramClient(PASSWORD, b"c").final,
        x.ScramClient(PASSWORD, b"c").check,
    ):
        with contextlib.suppress(x.ExchangeFailed):
            take(data)


@given(st.binary(max_size=100))
def test_garbage_as_client_final_only_fails(data: bytes) -> None:
    server = x.ScramServer(VERIFIER, b"server")
    server.first(b"n,,n=,r=abc")
    for final in (data, b"c=biws,r=abcserver,p=" + data, b"c=biws,r=abcserver,p=" + base64.b64encode(data)):
        with pytest.raises(x.ExchangeFailed):
            server.final(final)


def test_nothing_may_be_repeated_or_come_early() -> None:
    server = x.ScramServer(VERIFIER, b"server")
    with pytest.raises(x.ExchangeFailed):
        server.final(b"c=biws,r=abcserver,p=AAAA")
    server.first(b"n,,n=,r=abc")
    with pytest.raises(x.ExchangeFailed):
        server.first(b"n,,n=,r=abc")


def test_md5() -> None:
    """md5(password + user) as pg_md5 -m -u bob secret wrote it, and the answer to a salt."""
    secret = x.md5_secret(b"secret", b"bob")
    assert secret == b"md521f3163f8f86fa10bdefbfbd502a8f06"
    assert x.md5_answer(secret, b"\1\2\3\4") == b"md5f21dfe33ff3a9e03dbc3e008251fe5cc"


def test_a_huge_password_costs_no_preparation() -> None:
    def seconds() -> float:
        began = time.process_time()
        assert not x.matches("é".encode() * 30000, VERIFIER)
        return time.process_time() - began

    assert any(seconds() < 0.2 for _ in range(10))


def test_secrets_are_not_shown() -> None:
    server = x.ScramServer(VERIFIER, b"server")
    run(x.ScramClient(PASSWORD, b"client"), server)
    for thing in (VERIFIER, server.keys, server, x.ScramClient(PASSWORD, b"client")):
        shown = repr(thing)
        assert "pencil" not in shown and repr(VERIFIER.stored_key) not in shown and "client_key" not in shown
