"""The tests' own servers do what they say; run with --proxy debian this proves them against the oracle."""

import psycopg
import pytest

from tests.support.servers import wait_until
from tests.support.wire import PROTOCOL_3_2, Closed, RawClient, query


def test_cluster_streams(cluster, table):
    name = table(rows="VALUES (1, 'one')")
    assert cluster.streaming() == {"server1"}
    assert not cluster.primary.in_recovery()
    assert cluster.standby.in_recovery()
    assert cluster.standby.value(f"SELECT t FROM {name}") == "one"


def test_own_cluster_promotes(own_cluster):
    own_cluster.primary.kill()
    own_cluster.standby.promote()
    own_cluster.standby.execute("CREATE TABLE after (i int)")


@pytest.mark.needs_pgpool
def test_pgpool_serves_and_goes(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 2})
    with pgpool.connect() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert pgpool.child_of(conn).pid in [p.pid for p in pgpool.family()]
    assert len(pgpool.show("pool_nodes")) == 2
    pgpool.reload()
    assert pgpool.stop() == 0
    wait_until(lambda: not pgpool.leftovers(), "the processes to end", 10)
    with pytest.raises(psycopg.OperationalError):
        pgpool.connect()


def test_raw_client(pgpool):
    with RawClient.login(pgpool) as client:
        assert [m.kind for m in client.ask(query("SELECT 1"))] == ["T", "D", "C", "Z"]
        assert client.value("SELECT 42") == "42"
        assert client.is_quiet(0.05)
        assert client.pid and len(client.key) == 4
        assert client.parameters["server_encoding"] == "UTF8"


def test_raw_client_talks_3_2_to_old_servers(postgres):
    """PostgreSQL before 18 answers NegotiateProtocolVersion."""
    with RawClient.login(postgres, protocol=PROTOCOL_3_2) as client:
        assert client.negotiated is not None or len(client.key) > 4


def test_fault_proxy(pgpool, fault_proxy):
    proxy = fault_proxy(pgpool)
    proxy.split = 1
    with RawClient.login(proxy) as client:
        assert client.value("SELECT repeat('x', 10)") == "x" * 10
        proxy.hold = True
        client.send(query("SELECT 2"))
        assert client.is_quiet(0.1)
        proxy.hold = False
        assert [m.kind for m in client.read_until()] == ["T", "D", "C", "Z"]
        proxy.cut()
        assert client.wait_closed() == []
    proxy.split = 0
    proxy.cut_after = 20
    with pytest.raises((Closed, OSError)), RawClient.login(proxy):
        pass
