"""Nodes that come back and nodes that claim too much: auto_failback, detach_false_primary, timelines (behaviour.md
10.5, 10.6)."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.pcp import ours
from tests.support.pgpool import Pgpool
from tests.support.postgres import Cluster, Postgres
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs_pgpool

QUICK = {
    "sr_check_period": 1,
    "sr_check_user": "postgres",
    "health_check_period": 1,
    "health_check_timeout": 4,
    "health_check_max_retries": 0,
}


def nodes(pgpool: Pgpool, *columns: str) -> list[tuple[str, ...]]:
    try:
        return [tuple(row[c] for c in columns) for row in pgpool.show("pool_nodes")]
    except psycopg.Error:
        return []


def in_use(pgpool: Pgpool) -> list[bool]:
    return [status in ("up", "waiting") for (status,) in nodes(pgpool, "status")]


def test_a_standby_that_streams_again_comes_back_by_itself(make_pgpool, own_cluster: Cluster):
    settings = {**QUICK, "auto_failback": True, "auto_failback_interval": 0, "backend_weight0": 0}
    pgpool = make_pgpool(settings, nodes=own_cluster.nodes)
    standby = own_cluster.standby
    wait_until(lambda: nodes(pgpool, "replication_state")[1:] == [("streaming",)], "the streaming check")
    for _ in range(2):
        standby.stop()
        wait_until(lambda: nodes(pgpool, "status")[1:] == [("down",)], "the standby to be detached")
        mark = pgpool.mark()
        standby.start()
        wait_until(lambda: in_use(pgpool) == [True, True], "its return")
        assert "request auto failback, node id:1" in pgpool.log_since(mark)
        with pgpool.connect() as conn:
            assert conn.execute("SELECT inet_server_port()").fetchone() == (standby.port,)


def test_the_interval_keeps_a_node_out(make_pgpool, own_cluster: Cluster):
    """One return at once, no other for an hour; an operator can always attach it."""
    settings = {**QUICK, "auto_failback": True, "auto_failback_interval": 3600}
    pgpool = make_pgpool(settings, nodes=own_cluster.nodes)
    wait_until(lambda: nodes(pgpool, "replication_state")[1:] == [("streaming",)], "the streaming check")
    assert ours(pgpool, "pcp_detach_node", "-n", "1")[0] == 0
    pgpool.wait_for_log("request auto failback, node id:1")
    wait_until(lambda: in_use(pgpool) == [True, True], "its return")
    mark = pgpool.mark()
    assert ours(pgpool, "pcp_detach_node", "-n", "1")[0] == 0
    wait_until(lambda: nodes(pgpool, "status")[1:] == [("down",)], "the second detachment")

    def skipped() -> int:
        return int(pgpool.show("pool_health_check_stats")[1]["skip_count"])

    before = skipped()
    wait_until(lambda: skipped() >= before + 3, "three checks that leave it alone")
    assert "request auto failback" not in pgpool.log_since(mark)
    assert ours(pgpool, "pcp_attach_node", "-n", "1")[0] == 0
    wait_until(lambda: in_use(pgpool) == [True, True], "the operator's attachment")


def test_a_primary_without_the_standbys_is_detached(make_pgpool, own_cluster: Cluster):
    stray = own_cluster.add_standby("server2")
    pgpool = make_pgpool({**QUICK, "detach_false_primary": True}, nodes=own_cluster.nodes)
    wait_until(lambda: nodes(pgpool, "role") == [("primary",), ("standby",), ("standby",)], "the roles")
    stray.promote()
    wait_until(lambda: in_use(pgpool) == [True, True, False], "the stray primary to be detached")
    assert nodes(pgpool, "role")[0] == ("primary",)
    assert "detach_false_primary: not the true primary: node 2" in pgpool.log_text()
    pgpool.forgiven += ("more than one node says it is the primary",)


def test_of_two_primaries_the_one_on_the_higher_timeline_is_chosen(make_pgpool, own_cluster: Cluster):
    """At the start nobody is known to be the primary. The old one comes last, which Pgpool-II would take."""
    own_cluster.standby.promote()
    wait_until(lambda: not own_cluster.standby.in_recovery(), "the promotion")
    pgpool = make_pgpool(QUICK, nodes=[own_cluster.standby, own_cluster.primary])
    assert nodes(pgpool, "role") == [("primary",), ("standby",)]
    assert "more than one node says it is the primary" in pgpool.log_text()
    with pgpool.connect() as conn:
        assert conn.execute("CREATE TEMP TABLE t AS SELECT inet_server_port()")
        assert conn.execute("SELECT * FROM t").fetchone() == (own_cluster.standby.port,)


def test_an_old_primary_is_not_taken_for_the_new_one(make_pgpool, own_cluster: Cluster):
    """The new primary dies; the old one, still writable on its old timeline, has lost what was written since."""
    old, new = own_cluster.nodes
    new.promote()
    wait_until(lambda: not new.in_recovery(), "the promotion")
    pgpool = make_pgpool({**QUICK, "search_primary_node_timeout": 1}, nodes=[new, old])
    assert nodes(pgpool, "role") == [("primary",), ("standby",)]
    new.stop("immediate")
    pgpool.wait_for_log("node 1 says it is the primary and is not used: its history is another one")
    pgpool.wait_for_log(f"=== Failover done. shutdown host .*{old.port}")

    def refusal() -> str:
        try:
            with pgpool.connect() as conn:
                conn.execute("CREATE TABLE lost ()")
        except psycopg.OperationalError as error:
            return str(error)
        raise AssertionError("the old primary was written to")

    wait_until(lambda: "not accepting any new connections" in refusal(), "the children to know")
    assert old.value("SELECT to_regclass('lost')") is None
    pgpool.forgiven += ("says it is the primary",)


def with_status(make_pgpool, settings: dict[str, object], status: str, nodes_: list[Postgres]) -> Pgpool:
    """A pgpool that finds a status file of an earlier run."""
    pgpool = make_pgpool({**QUICK, **settings}, nodes=nodes_, start=False)
    (pgpool.place / "pgpool_status").write_text(status)
    return pgpool.start(wait=False)


@pytest.mark.parametrize("auto_failback", [True, False])
def test_a_status_file_that_keeps_the_primary_out(make_pgpool, cluster: Cluster, auto_failback):
    """Stored as down, it is the primary all the same: attached by itself, or at least the log says why nothing can write."""
    settings = {"auto_failback": auto_failback, "search_primary_node_timeout": 1}
    pgpool = with_status(make_pgpool, settings, "down\nup\n", cluster.nodes)
    pgpool.wait_for_log("node 0 is the primary of the others, and not in use")
    if not auto_failback:
        pgpool.wait_for_log("no primary node was found")
        assert nodes(pgpool, "status", "role")[0] == ("down", "standby")
        assert ours(pgpool, "pcp_attach_node", "-n", "0")[0] == 0
    wait_until(lambda: nodes(pgpool, "role") == [("primary",), ("standby",)], "the primary to be attached")
    assert in_use(pgpool) == [True, True]
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE written (i int)")


def test_a_primary_kept_out_that_starts_after_the_search(make_pgpool, own_cluster: Cluster):
    old = own_cluster.primary
    old.stop()
    settings = {"auto_failback": True, "search_primary_node_timeout": 1}
    pgpool = with_status(make_pgpool, settings, "down\nup\n", own_cluster.nodes)
    pgpool.wait_for_log("expired, no primary node was found")
    old.start()
    wait_until(lambda: nodes(pgpool, "role") == [("primary",), ("standby",)], "the primary to be attached")


@pytest.mark.parametrize("name", ["server1", "known under another name"])
def test_a_status_file_that_keeps_a_standby_out(make_pgpool, cluster: Cluster, name):
    """It streams, so it comes back; with the wrong backend_application_name the standby itself says so."""
    settings = {"auto_failback": True, "auto_failback_interval": 0, "backend_application_name1": name}
    pgpool = with_status(make_pgpool, settings, "up\ndown\n", cluster.nodes)
    pgpool.wait_for_log("reading status file: 1 th backend is set to down status")
    wait_until(lambda: in_use(pgpool) == [True, True], "its return")
    assert nodes(pgpool, "role") == [("primary",), ("standby",)]


def test_a_status_file_older_than_the_failover(make_pgpool, own_cluster: Cluster):
    """The old primary still takes writes, and is up in the file; the new one is down there. A standby shows who is right."""
    old, new = own_cluster.nodes
    third = own_cluster.add_standby("server2")
    new.promote()
    third.execute(f"ALTER SYSTEM SET primary_conninfo = 'host={new.host} port={new.port} user=postgres'")
    third.reload()
    wait_until(lambda: new.value("SELECT count(*) FROM pg_stat_replication") == 1, "the standby to follow")
    pgpool = with_status(make_pgpool, {}, "up\ndown\nup\n", own_cluster.nodes)
    wait_until(lambda: nodes(pgpool, "role")[1:2] == [("primary",)], "the true primary to be attached")
    with pgpool.connect() as conn:
        conn.execute("CREATE TABLE written (i int)")
    assert new.value("SELECT to_regclass('written') IS NOT NULL")
    assert old.value("SELECT to_regclass('written')") is None
    pgpool.forgiven += ("says it is the primary",)


def test_of_two_primaries_the_file_decides_and_the_log_warns(make_pgpool, own_cluster: Cluster):
    own_cluster.standby.promote()
    pgpool = with_status(make_pgpool, {}, "up\ndown\n", own_cluster.nodes)
    pgpool.wait_for_log("WARNING:  node 1 is down in the status file, and says it is a primary on a later timeline")
    wait_until(lambda: nodes(pgpool, "role", "status") == [("primary", "up"), ("standby", "down")], "service")
