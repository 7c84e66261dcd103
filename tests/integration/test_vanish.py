"""A backend or a client goes away in the middle (behaviour.md 4, 10.2, 14)."""

import time

import psycopg
import pytest

from tests.support.servers import wait_until
from tests.support.wire import SYNC, Closed, RawClient, bind, execute, parse, query

pytestmark = pytest.mark.needs_pgpool


def lives(pgpool) -> bool:
    with pgpool.connect() as conn:
        return conn.execute("SELECT 1").fetchone() == (1,)


def ending(client: RawClient, timeout: float = 10) -> list[dict]:
    """Errors the client hears before the connection closes."""
    return [m.fields for m in client.wait_closed(timeout) if m.kind == "E"]


def test_terminated_while_idle(pgpool, postgres):
    """FATAL 57P01 comes through while the client is doing nothing, and the session ends."""
    with RawClient.login(pgpool) as client:
        client.value("SELECT 1")
        postgres.execute(f"SELECT pg_terminate_backend({client.pid})")
        errors = ending(client)
        assert [e["C"] for e in errors] == ["57P01"]
        assert errors[0]["S"] == "FATAL"
    assert lives(pgpool)


def test_terminated_while_a_query_runs(pgpool, postgres):
    with RawClient.login(pgpool) as client:
        client.send(query("SELECT pg_sleep(60)"))
        wait_until(lambda: postgres.busy(f"pid = {client.pid}"), "the query to run")
        postgres.execute(f"SELECT pg_terminate_backend({client.pid})")
        assert [e["C"] for e in ending(client)] == ["57P01"]
    assert lives(pgpool)


def test_session_terminates_itself(pgpool):
    with RawClient.login(pgpool) as client:
        client.send(query("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert [e["C"] for e in ending(client)] == ["57P01"]
    assert lives(pgpool)


def test_terminated_in_a_pipeline(pgpool, postgres):
    with RawClient.login(pgpool) as client:
        client.send(
            parse("SELECT pg_terminate_backend(pg_backend_pid())"),
            bind(),
            execute(),
            parse("SELECT 1"),
            bind(),
            execute(),
            SYNC,
        )
        assert [e["C"] for e in ending(client)] == ["57P01"]
    assert lives(pgpool)


def test_terminated_in_copy_in(pgpool, postgres, table):
    name = table()
    with RawClient.login(pgpool) as client:
        client.ask(query(f"COPY {name} FROM STDIN"), until="G")
        postgres.execute(f"SELECT pg_terminate_backend({client.pid})")
        try:
            for _ in range(200):
                client.send(b"d\0\0\0\x0a1\tone\n")
                time.sleep(0.005)
        except Closed:
            pass
        assert [e["C"] for e in ending(client)] in (["57P01"], [])
    assert lives(pgpool)


def test_backend_crashes(own_cluster, make_pgpool):
    """SIGKILL of one backend: the server restarts all of them (57P02 to the others, broken socket for the victim)."""
    import os
    import signal

    own_cluster.primary.configure(restart_after_crash="on")
    pgpool = make_pgpool({"num_init_children": 3}, nodes=own_cluster.nodes)
    with RawClient.login(pgpool) as victim, RawClient.login(pgpool) as witness:
        os.kill(victim.pid, signal.SIGKILL)
        errors = ending(victim)
        assert len(errors) == 1 and errors[0]["S"] == "FATAL" and errors[0]["C"] in ("08006", "57P02"), errors
        assert [e["C"] for e in ending(witness)] in (["57P02"], ["08006"])
    wait_until(lambda: own_cluster.primary._ready(), "the server to be back")

    def served() -> bool:
        try:
            return lives(pgpool)
        except psycopg.Error:
            return False

    wait_until(served, "pgpool to serve again", 20)


def test_connection_to_the_backend_is_cut(make_pgpool, cluster, fault_proxy):
    """RST in the middle of an answer: FATAL 08006 for this client (but not in the middle of a row), the child serves on."""
    proxy = fault_proxy(cluster.primary)
    pgpool = make_pgpool({"num_init_children": 2, "backend_weight1": 0}, ports=[proxy.port, cluster.standby.port])
    with RawClient.login(pgpool) as client:
        client.ask(query("BEGIN"))
        proxy.cut()
        client.send(query("SELECT 1"))
        errors = ending(client)
        assert [(e["S"], e["C"]) for e in errors] == [("FATAL", "08006")]
    assert lives(pgpool)
    with RawClient.login(pgpool) as client:
        proxy.cut_after = proxy.to_client + 5000
        client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100)"))
        proxy.cut()
        errors = ending(client)
        if client.unread:
            assert client.unread[:1] == b"D" and b"08006" not in client.unread
        else:
            assert [(e["S"], e["C"]) for e in errors] == [("FATAL", "08006")]
    proxy.cut_after = None
    assert lives(pgpool)


def test_standby_connection_is_cut(make_pgpool, cluster, fault_proxy):
    """Only the standby's connection breaks while the session is idle; the next read may fail or go elsewhere, never hang."""
    proxy = fault_proxy(cluster.standby)
    pgpool = make_pgpool({"num_init_children": 2, "backend_weight0": 0}, ports=[cluster.primary.port, proxy.port])
    with RawClient.login(pgpool) as client:
        assert client.value("SELECT 1") == "1"
        proxy.cut()
        try:
            client.send(query("SELECT 2"))
            messages = client.read_until("ZE", 10)
            assert messages[-1].kind == "Z" or messages[-1].fields["C"] in ("08006", "57P01")
        except Closed:
            pass
    assert lives(pgpool)


def test_standby_down_at_session_start(own_cluster, make_pgpool):
    """failover_on_backend_error = off: the standby is skipped for the session, reads go to the primary."""
    pgpool = make_pgpool({"backend_weight0": 0, "num_init_children": 2}, nodes=own_cluster.nodes)
    own_cluster.standby.stop("immediate")
    for _ in range(4):
        with pgpool.connect() as conn:
            assert conn.execute("SELECT inet_server_port()").fetchone() == (own_cluster.primary.port,)
    own_cluster.standby.start()

    def read_on_standby() -> bool:
        with pgpool.connect() as conn:
            return conn.execute("SELECT inet_server_port()").fetchone() == (own_cluster.standby.port,)

    wait_until(read_on_standby, "reads on the standby again", 30)


def test_standby_down_when_pgpool_starts(own_cluster, make_pgpool):
    own_cluster.standby.stop("immediate")
    pgpool = make_pgpool({"num_init_children": 2, "backend_weight0": 0}, nodes=own_cluster.nodes)
    with pgpool.connect() as conn:
        assert conn.execute("SELECT inet_server_port()").fetchone() == (own_cluster.primary.port,)
        conn.execute("CREATE TABLE made ()")


@pytest.mark.long
def test_nothing_there_at_all(own_cluster, make_pgpool):
    """Both nodes down: a clear error, not a hang; and service when the primary comes back."""
    for node in own_cluster.nodes:
        node.stop("immediate")
    pgpool = make_pgpool(
        {"num_init_children": 2, "search_primary_node_timeout": 1}, nodes=own_cluster.nodes, start=False
    )
    pgpool.start(wait=False)
    wait_until(lambda: _refuses(pgpool), "pgpool to answer with an error", 20)
    own_cluster.primary.start()
    own_cluster.standby.start()

    def served() -> bool:
        try:
            return lives(pgpool)
        except psycopg.Error:
            return False

    wait_until(served, "service", 30)


def _refuses(pgpool) -> bool:
    try:
        pgpool.connect().close()
    except psycopg.OperationalError as error:
        return "refused" not in str(error)
    return False


def test_primary_frozen(make_pgpool, cluster, fault_proxy):
    """The network swallows everything: other sessions are not held up."""
    proxy = fault_proxy(cluster.primary)
    pgpool = make_pgpool({"num_init_children": 3, "backend_weight0": 0}, ports=[proxy.port, cluster.standby.port])
    with RawClient.login(pgpool) as one, RawClient.login(pgpool) as two:
        assert two.value("SELECT inet_server_port()") == str(cluster.standby.port)  # the catalogs have been asked
        proxy.hold = True
        one.send(query("CREATE TEMP TABLE x ()"))
        assert two.value("SELECT inet_server_port()") == str(cluster.standby.port)
        proxy.hold = False
        assert one.read_until("Z")[-1].kind == "Z"


def test_client_vanishes_in_copy_in(pgpool, postgres, table):
    name = table()
    client = RawClient.login(pgpool)
    client.ask(query(f"COPY {name} FROM STDIN"), until="G")
    client.send(b"d\0\0\0\x0a1\tone\n")
    client.vanish()
    wait_until(lambda: not postgres.backends(f"pid = {client.pid} AND state <> 'idle'"), "COPY to be given up", 10)
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0
    assert lives(pgpool)


def test_client_vanishes_in_copy_out(pgpool, postgres):
    client = RawClient.login(pgpool)
    client.send(query("COPY (SELECT repeat('x', 10000) FROM generate_series(1, 10000)) TO STDOUT"))
    client.read_until("d")
    client.vanish()
    wait_until(lambda: not postgres.backends(f"pid = {client.pid} AND state = 'active'"), "COPY to be given up", 10)
    assert lives(pgpool)


def test_client_vanishes_before_login_ends(pgpool):
    from tests.support.wire import startup

    for length in (1, 4, 8, 20, 100):
        client = RawClient(pgpool.host, pgpool.port)
        client.send(startup(user="postgres", database="app")[:length])
        client.vanish()
    assert lives(pgpool)


def test_child_is_killed(make_pgpool, postgres):
    """SIGKILL to the child that serves: this client loses its connection, the child is replaced, the backend freed."""
    pgpool = make_pgpool({"num_init_children": 2})
    with pgpool.connect() as conn:
        pid = conn.info.backend_pid
        child = pgpool.child_of(conn)
        child.kill()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    wait_until(lambda: not postgres.backends(f"pid = {pid}"), "the backend to notice", 10)
    for _ in range(4):
        assert lives(pgpool)
    with pgpool.connect(), pgpool.connect():
        pass
    rows = [row for row in pgpool.show("pool_pools") if row["pool_pid"] == str(child.pid)]
    assert rows == []


def test_parent_is_killed(make_pgpool):
    """No orphan serves on."""
    pgpool = make_pgpool({"num_init_children": 2})
    pgpool.kill()
    wait_until(lambda: not pgpool.leftovers(), "the children to go too", 10)
    with pytest.raises(psycopg.OperationalError):
        pgpool.connect()
