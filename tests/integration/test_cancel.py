"""CancelRequest arrives at another child and finds its way (what_users_ask.md B5)."""

import subprocess
import threading
import time

import pytest

from tests.support.places import pg_bin
from tests.support.servers import wait_until
from tests.support.wire import FLUSH, SYNC, RawClient, bind, cancel_request, execute, parse, query


def send_cancel(server, pid: int, key: bytes) -> None:
    """As libpq does: a connection of its own, no answer, wait for the end."""
    with RawClient(server.host, server.port) as client:
        client.send(cancel_request(pid, key))
        assert client.wait_closed(5) == []


def running(server, pid: int, postgres) -> None:
    wait_until(
        lambda: postgres.busy(f"pid = {pid} AND query LIKE '%pg_sleep%'"), "the query to run"
    )


def test_simple_query(pgpool, postgres):
    with RawClient.login(pgpool) as client:
        for _ in range(3):
            client.send(query("SELECT pg_sleep(60)"))
            running(pgpool, client.pid, postgres)
            send_cancel(pgpool, client.pid, client.key)
            assert client.read_until("E", 5)[-1].fields["C"] == "57014"
            assert client.read_until("Z")[-1].state == "I"
        assert client.value("SELECT 1") == "1"


def test_extended_query(pgpool, postgres):
    with RawClient.login(pgpool) as client:
        client.send(parse("SELECT pg_sleep(60)"), bind(), execute(), FLUSH)
        running(pgpool, client.pid, postgres)
        send_cancel(pgpool, client.pid, client.key)
        assert client.read_until("E", 5)[-1].fields["C"] == "57014"
        assert client.ask(SYNC)[-1].state == "I"


def test_in_a_transaction(pgpool, postgres):
    with RawClient.login(pgpool) as client:
        client.ask(query("BEGIN"))
        client.send(query("SELECT pg_sleep(60)"))
        running(pgpool, client.pid, postgres)
        send_cancel(pgpool, client.pid, client.key)
        assert client.read_until("Z", 5)[-1].state == "E"
        assert client.ask(query("ROLLBACK"))[-1].state == "I"


def test_copy_in(pgpool, table, postgres):
    name = table()
    with RawClient.login(pgpool) as client:
        client.ask(query(f"COPY {name} FROM STDIN"), until="G")
        time.sleep(0.05)
        send_cancel(pgpool, client.pid, client.key)
        client.send(b"d" + (4 + 6).to_bytes(4, "big") + b"1\tone\n")
        assert client.read_until("E", 5)[-1].fields["C"] == "57014"
        client.read_until("Z")
        assert client.value("SELECT 1") == "1"


@pytest.mark.needs_pgpool
def test_a_read_on_the_standby(standby_reads, cluster):
    """The key is the primary's, the query runs on the standby: pg_sleep is volatile, so a slow read without it."""
    with RawClient.login(standby_reads) as client:
        client.send(query("SELECT count(*), inet_server_port() FROM generate_series(1, 1000000000)"))
        wait_until(
            lambda: cluster.standby.busy("query LIKE '%1000000000%'"), "the standby to work"
        )
        send_cancel(standby_reads, client.pid, client.key)
        assert client.read_until("E", 8)[-1].fields["C"] == "57014"
        client.read_until("Z")
        assert client.value("SELECT 1") == "1"


def test_wrong_key_does_nothing(pgpool, postgres):
    with RawClient.login(pgpool) as client:
        client.send(query("SELECT pg_sleep(1), 'not cancelled'"))
        running(pgpool, client.pid, postgres)
        for pid, key in (
            (client.pid, b"\0\0\0\0"),
            (client.pid + 1, client.key),
            (0, client.key),
            (client.pid, client.key[::-1]),
        ):
            if key != client.key or pid != client.pid:
                send_cancel(pgpool, pid, key)
        assert [m.kind for m in client.read_until("Z", 5)] == ["T", "D", "C", "Z"]


def test_while_idle_does_nothing(pgpool):
    with RawClient.login(pgpool) as client:
        for _ in range(3):
            send_cancel(pgpool, client.pid, client.key)
        time.sleep(0.1)
        assert client.value("SELECT 'fine'") == "fine"


@pytest.mark.needs_pgpool
def test_old_key_after_reuse(make_pgpool, postgres):
    """A cancel that comes late must not hit the next session on the same pooled backend... unless it has the same key.

    The pid is the backend's, so it may be the same; then only the key protects: it must differ or the cancel must be void.
    """
    pgpool = make_pgpool({"num_init_children": 2, "max_pool": 1})
    with RawClient.login(pgpool) as client:
        old = (client.pid, client.key)
        client.send(b"X\0\0\0\4")
        client.wait_closed()
    wait_until(lambda: not postgres.backends(f"pid = {old[0]} AND state <> 'idle'"), "the session to end")
    send_cancel(pgpool, *old)
    with RawClient.login(pgpool) as client:
        assert client.value("SELECT 'undisturbed'") == "undisturbed"


@pytest.mark.needs_pgpool
def test_all_children_busy(make_pgpool, postgres):
    """The cancel needs a child to read it; with every child busy it waits until one is free.

    With one child left it must work at once (pgdog#1362: dropped when saturated).
    """
    pgpool = make_pgpool({"num_init_children": 3})
    clients = [RawClient.login(pgpool) for _ in range(2)]
    try:
        for client in clients:
            client.send(query("SELECT pg_sleep(60)"))
            running(pgpool, client.pid, postgres)
        for client in clients:
            send_cancel(pgpool, client.pid, client.key)
            assert client.read_until("E", 5)[-1].fields["C"] == "57014"
    finally:
        for client in clients:
            client.close()


def test_cancels_the_right_one(pgpool, postgres):
    clients = [RawClient.login(pgpool) for _ in range(4)]
    try:
        for client in clients:
            client.send(query("SELECT pg_sleep(2), 'slept'"))
            running(pgpool, client.pid, postgres)
        send_cancel(pgpool, clients[2].pid, clients[2].key)
        ends = [client.read_until("Z", 8) for client in clients]
        assert ["E" in [m.kind for m in end] for end in ends] == [False, False, True, False]
    finally:
        for client in clients:
            client.close()


def test_psql_ctrl_c(pgpool):
    """SIGINT to psql."""
    import signal

    argv = [pg_bin() / "psql", "-X", "-h", pgpool.host, "-p", str(pgpool.port), "-U", "postgres", "-d", "app"]
    with subprocess.Popen(
        [*argv, "-c", "SELECT pg_sleep(60)"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as psql:
        threading.Timer(0.7, psql.send_signal, (signal.SIGINT,)).start()
        _, said = psql.communicate(timeout=20)
    assert "canceling statement due to user request" in said
