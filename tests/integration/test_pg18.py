"""Clients of PostgreSQL 18: protocol 3.2 with long cancel keys, OAuth. (Direct TLS: test_tls.)"""

from __future__ import annotations

import struct

import psycopg
import pytest

from tests.support.fakeserver import GREETING, FakeServer, ask_sasl
from tests.support.places import pg_version, wait_until
from tests.support.servers import Pgpool
from tests.support.wire import RawClient, cstr, msg, startup

pytestmark = pytest.mark.needs_pgpool

new_libpq = pytest.mark.skipif(psycopg.pq.version() < 180000, reason="this libpq does not know protocol 3.2")


@new_libpq
@pytest.mark.parametrize("most", ["3.0", "3.2", "latest"])
def test_libpq_asks_for_a_protocol(pgpool, postgres, most: str) -> None:
    """A session with whatever the server speaks, and its cancel key (32 bytes in 3.2) is good."""
    with pgpool.connect(max_protocol_version=most) as conn:
        conn.pgconn.send_query(b"SELECT pg_sleep(25)")
        wait_until(lambda: postgres.backends("query = 'SELECT pg_sleep(25)' AND state = 'active'"), "the statement to run")
        conn.cancel_safe(timeout=20)
        assert conn.pgconn.get_result().error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        assert conn.pgconn.get_result() is None


@new_libpq
def test_libpq_insists_on_a_protocol(pgpool, postgres) -> None:
    """The answer is that of the server itself: pgpool promises nothing that it does not speak."""
    answers = []
    for server in (postgres, pgpool):
        try:
            server.connect(min_protocol_version="3.2", max_protocol_version="3.2").close()
            answers.append("ok")
        except psycopg.OperationalError as error:
            answers.append(str(error).rpartition("failed:")[2])
    assert answers[0] == answers[1]
    assert (answers[1] == "ok") == (pg_version() >= 18)


@pytest.fixture
def before_oauth():
    """A server that asks for a bearer token, and a pgpool before it."""
    fake = FakeServer()
    made = Pgpool(
        [fake], {"backend_clustering_mode": "raw", "num_init_children": 1}, files={"pool_passwd": "carol:TEXTsecret\n"}
    )
    try:
        made.start(wait=False)
        made.wait_for_log("successfully started")
        yield made, fake
    finally:
        made.remove()
        fake.close()


def bearer(token: bytes) -> bytes:
    data = b"n,,\x01auth=Bearer " + token + b"\x01\x01"
    return msg("p", cstr("OAUTHBEARER") + struct.pack("!i", len(data)) + data)


def test_oauth_is_passed_through(before_oauth) -> None:
    """Client and server settle it; a connection that a token has opened is for nobody else."""
    pgpool, fake = before_oauth
    seen = []

    def play(link) -> None:
        link.send(ask_sasl("OAUTHBEARER"))
        seen.append(link.read()[1])
        good = b"good" in seen[-1]
        link.send(GREETING if good else msg("E", cstr("SFATAL", "C28000", "Mbad token") + b"\0"))

    fake.script = play
    for token, kind in ((b"good", "Z"), (b"bad", "E"), (b"good", "Z")):
        with RawClient(pgpool.host, pgpool.port) as client:
            client.send(startup(user="alice", database="app"))
            asked = client.read()
            assert asked.body == struct.pack("!i", 10) + b"OAUTHBEARER\0\0"
            client.send(bearer(token))
            last = client.read_until("EZ")[-1]
            assert last.kind == kind and (kind == "Z" or last.fields["M"] == "bad token")
            if kind == "Z":
                client.send(msg("X"))
    assert len(seen) == 3


def test_a_stored_password_is_no_token(before_oauth) -> None:
    """Ours has nothing to offer for carol's own sessions: the client is asked, as everybody."""
    pgpool, fake = before_oauth
    fake.script = lambda link: link.send(ask_sasl("OAUTHBEARER", "SCRAM-SHA-1"))
    with RawClient(pgpool.host, pgpool.port) as client:
        client.send(startup(user="carol", database="app"))
        assert client.read().body[4:] == b"OAUTHBEARER\0SCRAM-SHA-1\0\0"
