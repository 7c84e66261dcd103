"""failover_owner = external: somebody else moves the primary and brings nodes back, pgpool follows (issue 6, item 7d)."""

from __future__ import annotations

import contextlib
import os

import psycopg
import pytest

from tests.support.pcp import ours
from tests.support.pgpool import Pgpool
from tests.support.postgres import Cluster, Postgres
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs_pgpool

EXTERNAL = {
    "failover_owner": "external",
    "failover_command": "echo failover_command ran",
    "failback_command": "echo failback_command ran",
    "follow_primary_command": "echo follow_primary_command ran",
    "sr_check_period": 1,
    "health_check_period": 1,
    "health_check_timeout": 4,
    "health_check_max_retries": 0,
    "search_primary_node_timeout": 30,
}
SELDOM = {"sr_check_period": 3600, "health_check_period": 3600}


def roles(pgpool: Pgpool) -> list[str]:
    """What SHOW pool_nodes says: the role of each node in use, else 'down'."""
    try:
        rows = pgpool.show("pool_nodes")
    except psycopg.Error:
        return []
    return ["down" if row["status"] == "down" else row["role"] for row in rows]


def first_checks_are_over(pgpool: Pgpool) -> None:
    """The checks that look SELDOM have looked: what is noticed from now on was told by sessions."""
    wait_until(lambda: pgpool.show("pool_nodes")[1]["replication_state"] == "streaming", "the streaming check")
    wait_until(
        lambda: all(row["last_successful_health_check"] for row in pgpool.show("pool_health_check_stats")), "the checks"
    )


def make_standby(node: Postgres, primary: Postgres) -> None:
    """What Patroni does with an old primary that has lost nothing: it starts again as a standby of the new one."""
    (node.data / "standby.signal").touch()
    os.chmod(node.data / "standby.signal", 0o666)
    node.configure(primary_conninfo=f"host={primary.host} port={primary.port} user=postgres application_name={node.name}")


def no_command_ran(pgpool: Pgpool) -> bool:
    return "_command ran" not in pgpool.log_text() and "execute command" not in pgpool.log_text()


def test_a_failover_and_the_return_of_the_old_primary(make_pgpool, own_cluster: Cluster):
    """The primary dies, somebody promotes the standby and brings the old one back as its standby: nobody tells pgpool."""
    old, new = own_cluster.nodes
    pgpool = make_pgpool(EXTERNAL, nodes=own_cluster.nodes)
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "the start")
    old.stop()
    wait_until(lambda: "=== Starting degeneration" in pgpool.log_text(), "the health check")
    new.promote()
    wait_until(lambda: roles(pgpool) == ["down", "primary"], "the new primary")
    make_standby(old, new)
    old.start()
    wait_until(lambda: roles(pgpool) == ["standby", "primary"], "the old primary to come back as a standby")
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE written (i int)")
    assert no_command_ran(pgpool)


def test_the_same_primary_starts_again_then_all_nodes_do(make_pgpool, own_cluster: Cluster):
    """No failover: who owns it has restarted what pgpool had detached meanwhile."""
    pgpool = make_pgpool({**EXTERNAL, "search_primary_node_timeout": 1}, nodes=own_cluster.nodes)
    own_cluster.primary.stop()
    wait_until(lambda: roles(pgpool)[:1] == ["down"], "the primary to be detached")
    own_cluster.primary.start()
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "its return")
    for node in reversed(own_cluster.nodes):
        node.stop()
    pgpool.wait_for_log("All the DB nodes are in down status")
    for node in own_cluster.nodes:
        node.start()
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "both nodes")
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE written (i int)")
    assert no_command_ran(pgpool)


def test_what_a_person_detached_stays_out(make_pgpool, cluster: Cluster):
    pgpool = make_pgpool(EXTERNAL, nodes=cluster.nodes)
    assert ours(pgpool, "pcp_detach_node", "-n", "1")[0] == 0
    wait_until(lambda: roles(pgpool) == ["primary", "down"], "the standby to be detached")

    def skipped() -> int:
        return int(pgpool.show("pool_health_check_stats")[1]["skip_count"])

    before = skipped()
    wait_until(lambda: skipped() >= before + 2, "two checks that leave it alone")
    assert roles(pgpool) == ["primary", "down"]


def test_an_idle_session_notices_a_promotion_at_once(make_pgpool, own_cluster: Cluster):
    """The checks look once an hour: what the servers say in passing is enough. The old primary is gone for good."""
    old, new = own_cluster.nodes
    settings = {**EXTERNAL, **SELDOM, "backend_weight0": 0, "failover_client_policy": "wait"}
    pgpool = make_pgpool(settings, nodes=own_cluster.nodes)
    first_checks_are_over(pgpool)
    with pgpool.connect() as reader:
        assert reader.execute("SELECT inet_server_port()").fetchone() == (new.port,)
        new.promote()
        mark = pgpool.mark()
        reader.execute("SELECT 1")  # the standby's answer says that it is none any more
        pgpool.wait_for_log("node 1 is the primary now, it was node 0", mark, 5)
    wait_until(lambda: roles(pgpool)[1:] == ["primary"], "the new primary")
    assert old.process.poll() is None, "it still takes writes: two primaries"
    with pgpool.connect() as conn:
        conn.execute("CREATE TABLE written (i int)")
    assert new.value("SELECT to_regclass('written') IS NOT NULL")


def test_a_primary_that_refuses_writes_is_looked_at_at_once(make_pgpool, own_cluster: Cluster):
    """Roles change places while pgpool looks away; a new connection or a refused write (25006) tells."""
    old, new = own_cluster.nodes
    pgpool = make_pgpool({**EXTERNAL, **SELDOM, "load_balance_mode": False}, nodes=own_cluster.nodes)
    first_checks_are_over(pgpool)
    old.stop()
    new.promote()
    make_standby(old, new)
    old.start()
    mark = pgpool.mark()
    with contextlib.suppress(psycopg.Error), pgpool.connect() as conn:  # it may be the new primary already
        conn.execute("CREATE TABLE refused ()")
    pgpool.wait_for_log("node 1 is the primary now, it was node 0", mark, 5)
    wait_until(lambda: roles(pgpool) == ["standby", "primary"], "the roles", 10)


def test_read_only_sessions_do_not_storm_the_check(make_pgpool, cluster: Cluster):
    """A client's own read-only transaction is refused with the same SQLSTATE: looked at a few times a second, no more."""
    pgpool = make_pgpool({**EXTERNAL, **SELDOM, "log_min_messages": "debug1"}, nodes=cluster.nodes)
    mark = pgpool.mark()
    with pgpool.connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        for _ in range(200):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("CREATE TABLE refused ()")
    assert roles(pgpool) == ["primary", "standby"]
    asked = pgpool.log_since(mark).count("Pgpool-II parent process received SIGUSR1")
    assert 1 <= asked <= 20


def test_a_promotion_is_seen_though_another_node_hangs(make_pgpool, own_cluster: Cluster, fault_proxy):
    """The old primary takes connections and says nothing, and would be waited for a minute: others are asked meanwhile."""
    old, new = own_cluster.nodes
    proxy = fault_proxy(old)
    settings = {**EXTERNAL, "health_check_period": 0, "connect_timeout": 60000, "backend_weight0": 0}
    pgpool = make_pgpool(settings, nodes=own_cluster.nodes, ports=[proxy.port, new.port])
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "the start")
    mark = pgpool.mark()
    proxy.hold = True
    pgpool.wait_for_log("failed to check the replication of node 0", mark)
    new.promote()
    pgpool.wait_for_log("failover: set new primary node: 1", mark)

    def written() -> bool:
        with contextlib.suppress(psycopg.OperationalError), pgpool.connect() as conn:
            conn.execute("CREATE TABLE written ()")
            return True
        return False

    wait_until(written, "the new primary to be used")
    assert new.value("SELECT to_regclass('written') IS NOT NULL")


def test_a_standby_is_discovered_without_a_configured_name(make_pgpool, own_cluster: Cluster):
    """It says itself how pg_stat_replication calls it; when a second standby has that name, nobody knows which is which."""
    unnamed = {f"backend_application_name{number}": "" for number in (0, 1)}
    pgpool = make_pgpool({**EXTERNAL, **unnamed}, nodes=[*own_cluster.nodes])

    def states() -> list[str]:
        return [row["replication_state"] for row in pgpool.show("pool_nodes")]

    wait_until(lambda: states() == ["", "streaming"], "the standby to be found")
    own_cluster.add_standby("server1")
    wait_until(lambda: states() == ["", ""], "the doubt")
