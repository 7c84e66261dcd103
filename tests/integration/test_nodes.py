"""Nodes that go and come: start with what is up, health check, sessions' reports, the primary, replication delay."""

from __future__ import annotations

import os
import re
import signal
import time

import psycopg
import pytest

from tests.support.pcp import ours
from tests.support.pgpool import Pgpool
from tests.support.places import free_port, wait_until
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.needs_pgpool]

CHECKED = {"health_check_period": 1, "health_check_timeout": 3, "health_check_max_retries": 0}


def status(pgpool: Pgpool) -> dict[str, str]:
    return {row["node_id"]: row["status"] for row in pgpool.show("pool_nodes")}


def roles(pgpool: Pgpool) -> dict[str, str]:
    return {row["node_id"]: row["role"] for row in pgpool.show("pool_nodes")}


def try_status(pgpool: Pgpool) -> dict[str, str]:
    try:
        return status(pgpool)
    except psycopg.Error:
        return {}


def try_roles(pgpool: Pgpool) -> dict[str, str]:
    try:
        return roles(pgpool)
    except psycopg.Error:
        return {}


def stored(pgpool: Pgpool) -> str:
    path = pgpool.place / "pgpool_status"
    return path.read_text() if path.exists() else ""


# -- at start --------------------------------------------------------------------------------------------------------


def test_start_with_a_standby_that_is_down(make_pgpool, own_cluster: Cluster):
    own_cluster.nodes[1].stop()
    pgpool = make_pgpool(nodes=own_cluster.nodes)
    assert "WARNING:  backend 1 cannot be reached, it is not used until it answers" in pgpool.log_text()
    wait_until(lambda: status(pgpool) == {"0": "up", "1": "down"}, "node 0 to be up")
    own_cluster.nodes[1].start()
    pgpool.wait_for_log("backend 1 answers now and is used", timeout=20)
    assert status(pgpool)["1"] in ("up", "waiting")
    pgpool.stop()
    assert stored(pgpool) == "up\nup\n"


def test_a_node_that_was_only_unreachable_is_not_stored_as_down(make_pgpool, own_cluster: Cluster):
    own_cluster.nodes[1].stop()
    pgpool = make_pgpool(nodes=own_cluster.nodes)
    pgpool.stop()
    assert stored(pgpool) == "up\nup\n"


def test_both_backends_down_at_start(make_pgpool, own_cluster: Cluster):
    """Clients are told why; when the backends come, pgpool serves without a restart."""
    for node in own_cluster.nodes:
        node.stop()
    pgpool = make_pgpool(nodes=own_cluster.nodes, start=False)
    pgpool.start(wait=False)
    pgpool.wait_for_log("successfully started")
    with pytest.raises(psycopg.OperationalError, match="pgpool is not accepting any new connections"):
        pgpool.connect("postgres")
    for node in own_cluster.nodes:
        node.start()
    wait_until(lambda: len(try_status(pgpool)) == 2, "service", 20)
    wait_until(lambda: "down" not in status(pgpool).values(), "both nodes", 20)
    assert roles(pgpool) == {"0": "primary", "1": "standby"}
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE t (i int)")


def test_a_second_primary_does_not_come_back_by_itself(make_pgpool, own_cluster: Cluster):
    old, new = own_cluster.nodes
    old.stop()
    new.promote()
    pgpool = make_pgpool(nodes=own_cluster.nodes)
    assert roles(pgpool)["1"] == "primary"
    old.start()
    pgpool.wait_for_log("backend 0 answers now, but it is a primary as well as node 1: it stays down", timeout=20)
    assert status(pgpool)["0"] == "down"


def test_disallow_to_failover_is_never_marked_down(make_pgpool, cluster: Cluster):
    settings = {
        "backend_hostname2": "127.0.0.1",
        "backend_port2": free_port(),
        "backend_weight2": 0,
        "backend_flag2": "DISALLOW_TO_FAILOVER",
    }
    pgpool = make_pgpool({**settings, **CHECKED})
    pgpool.wait_for_log("node 2 is not carried out: its backend_flag is DISALLOW_TO_FAILOVER")
    assert status(pgpool)["2"] == "waiting"


def test_without_an_account_the_main_node_is_the_primary(make_pgpool):
    pgpool = make_pgpool({"sr_check_user": "", "health_check_user": ""})
    assert "the backends cannot be asked for their role: sr_check_user is not set" in pgpool.log_text()
    assert "HINT:  set sr_check_user" in pgpool.log_text()
    assert roles(pgpool) == {"0": "primary", "1": "standby"}


def test_an_account_which_every_backend_refuses(make_pgpool):
    pgpool = make_pgpool({"sr_check_user": "nobody_here"})
    assert "every backend refused the login of sr_check_user" in pgpool.log_text()
    assert roles(pgpool)["0"] == "primary"


def test_the_health_check_account_stands_in(make_pgpool, own_cluster: Cluster):
    nodes = list(reversed(own_cluster.nodes))  # node 0 is the standby
    pgpool = make_pgpool({"sr_check_user": ""}, nodes=nodes)
    assert roles(pgpool) == {"0": "standby", "1": "primary"}


@pytest.mark.parametrize("mode", ["logical_replication", "raw"])
def test_other_modes_ask_nobody(make_pgpool, mode):
    pgpool = make_pgpool({"backend_clustering_mode": mode})
    assert "find_primary_node" not in pgpool.log_text()
    assert roles(pgpool)["0"] in ("primary", "main")


# -- the health check ------------------------------------------------------------------------------------------------


def test_health_check_detaches_a_standby(make_pgpool, own_cluster: Cluster):
    pgpool = make_pgpool({**CHECKED, "backend_weight1": 0}, nodes=own_cluster.nodes)
    conn = pgpool.connect("postgres")
    standby = own_cluster.nodes[1]
    wait_until(lambda: int(pgpool.show("pool_health_check_stats")[1]["success_count"]) > 0, "a good check")
    mark = pgpool.mark()
    standby.stop("immediate")
    wait_until(lambda: status(pgpool) == {"0": "up", "1": "down"}, "node 1 to be down")
    place = f"{standby.host}:{standby.port}"
    host = f"{standby.host}({standby.port})"
    expected = [
        f'LOG:  failed to connect to PostgreSQL server on "{place}", getsockopt() detected error "Connection refused"',
        "ERROR:  failed to make persistent db connection",
        f'DETAIL:  connection to host:"{place}" failed',
        "LOG:  health check failed on node 1 (timeout:0)",
        "LOG:  received degenerate backend request for node_id: 1 from pid [",
        "LOG:  Pgpool-II parent process has received failover request",
        f"LOG:  === Starting degeneration. shutdown host {host} ===",
        "LOG:  failover: set new primary node: 0",
        "LOG:  failover: set new main node: 0",
        f"LOG:  === Failover done. shutdown host {host} ===",
    ]
    log = pgpool.log_since(mark)
    places = [log.find(line) for line in expected]
    assert -1 not in places
    assert places == sorted(places)
    assert stored(pgpool) == "up\ndown\n"
    assert conn.execute("SELECT 1").fetchone() == (1,), "a session on the primary goes on"
    conn.close()
    wait_until(lambda: int(pgpool.show("pool_health_check_stats")[1]["skip_count"]) > 0, "skipped checks")
    [_, row] = pgpool.show("pool_health_check_stats")
    assert int(row["fail_count"]) == 1
    assert row["last_failed_health_check"]


def test_health_check_retries(make_pgpool, own_cluster: Cluster):
    checked = {**CHECKED, "health_check_max_retries": 20, "health_check_retry_delay": 1}
    pgpool = make_pgpool(checked, nodes=own_cluster.nodes)
    own_cluster.nodes[1].stop("immediate")
    pgpool.wait_for_log(r"health check retrying on DB node: 1 \(round:2\)")
    own_cluster.nodes[1].start()
    wait_until(lambda: int(pgpool.show("pool_health_check_stats")[1]["max_retry_count"]) >= 2, "the check to end")
    assert status(pgpool)["1"] != "down"


def test_health_check_of_a_frozen_server_times_out(make_pgpool, own_cluster: Cluster):
    pgpool = make_pgpool({**CHECKED, "health_check_timeout": 1}, nodes=own_cluster.nodes)
    own_cluster.nodes[1].freeze()
    try:
        pgpool.wait_for_log(r"health check failed on node 1 \(timeout:1\)")
        wait_until(lambda: try_status(pgpool).get("1") == "down", "node 1 to be down")
    finally:
        own_cluster.nodes[1].thaw()


def test_a_check_that_a_test_makes_fail(make_pgpool):
    """health_check_test, with retries as for any failure; attached, the node stays up."""
    prefix = {"log_line_prefix": "%a|%P|"}  # Pgpool-II's health checks have an empty %P
    checked = {**CHECKED, **prefix, "health_check_test": True, "health_check_max_retries": 1}
    pgpool = make_pgpool(checked, start=False)
    request = pgpool.place / "backend_down_request"
    request.write_text("1\tdown\n")
    request.chmod(0o666)
    pgpool.start()
    pgpool.wait_for_log(r"health_check1\|HEALTH CHECK\|LOG:  health check of node 1 fails: backend_down_request says so")
    wait_until(lambda: try_status(pgpool).get("1") == "down", "node 1 to be down")
    assert "health check retrying on DB node: 1 (round:1)" in pgpool.log_text()
    wait_until(lambda: request.read_text() == "1\talready_down\n", "the answer")
    assert ours(pgpool, "pcp_attach_node", "-n", "1")[0] == 0

    def good_checks() -> int:
        return int(pgpool.show("pool_health_check_stats")[1]["success_count"])

    wait_until(lambda: good_checks() >= 1, "a good check")
    assert try_status(pgpool)["1"] in ("up", "waiting")


@pytest.mark.parametrize(
    "account",
    [{"health_check_user": "nobody_here"}, {"health_check_database": "no_such_db"}, {"health_check_user": ""}],
)
def test_an_account_problem_never_detaches_a_node(make_pgpool, account):
    pgpool = make_pgpool({**CHECKED, **account})
    pgpool.wait_for_log("ERROR:  health check of node 1: the server answers, but ")
    time.sleep(2)
    assert set(status(pgpool).values()) <= {"up", "waiting"}
    assert len(re.findall("ERROR:  health check of node 1", pgpool.log_text())) == 1, "told once"


def test_all_nodes_down(make_pgpool, own_cluster: Cluster):
    pgpool = make_pgpool(CHECKED, nodes=own_cluster.nodes)
    for node in own_cluster.nodes:
        node.stop("immediate")
    pgpool.wait_for_log("all of the backends are down. Giving up finding primary node")
    wait_until(lambda: "failover: set new primary node: -1" in pgpool.log_text(), "the primary to be gone")
    assert "All the DB nodes are in down status and skip writing status file." in pgpool.log_text()
    with pytest.raises(psycopg.OperationalError):
        pgpool.connect("postgres")


# -- the primary -----------------------------------------------------------------------------------------------------


def test_the_primary_dies_and_the_standby_is_promoted(make_pgpool, own_cluster: Cluster):
    old, new = own_cluster.nodes
    pgpool = make_pgpool({**CHECKED, "search_primary_node_timeout": 60}, nodes=own_cluster.nodes)
    old.stop("immediate")
    pgpool.wait_for_log("LOG:  Restart all children")
    pgpool.wait_for_log("find_primary_node: standby node is 1")
    new.promote()
    pgpool.wait_for_log("LOG:  find_primary_node: primary node id is 1")
    pgpool.wait_for_log("LOG:  failover: set new primary node: 1")
    wait_until(lambda: try_status(pgpool) == {"0": "down", "1": "up"}, "node 1 alone")
    with pgpool.connect() as conn:
        conn.execute("CREATE TABLE written_after (i int)")
    assert roles(pgpool)["1"] == "primary"


def test_sr_check_sees_another_primary(make_pgpool, own_cluster: Cluster):
    """Nobody is detached: a promotion behind our back, the old primary is a standby of something else now."""
    old, new = own_cluster.nodes
    pgpool = make_pgpool({"sr_check_period": 1}, nodes=own_cluster.nodes)
    old.stop("fast")
    new.promote()
    (old.data / "standby.signal").touch()
    os.chmod(old.data / "standby.signal", 0o666)
    old.start()
    pgpool.wait_for_log("node 1 is the primary now, it was node 0", timeout=30)
    wait_until(lambda: try_roles(pgpool) == {"0": "standby", "1": "primary"}, "the roles")


# -- what sessions report --------------------------------------------------------------------------------------------


def test_a_broken_session_does_not_detach_a_healthy_node(make_pgpool, fault_proxy, postgres):
    proxy = fault_proxy(postgres)
    pgpool = make_pgpool({"failover_on_backend_error": "check"}, nodes=[postgres], ports=[proxy.port])
    conn = pgpool.connect("postgres")
    proxy.cut_after = 0
    with pytest.raises(psycopg.OperationalError):
        conn.execute("SELECT 1")
    conn.close()
    proxy.cut_after = None
    time.sleep(0.5)
    assert status(pgpool)["0"] in ("up", "waiting")


@pytest.mark.parametrize("on", ["on", "check", "off"])
def test_failover_on_backend_error(make_pgpool, own_cluster: Cluster, on):
    pgpool = make_pgpool({"failover_on_backend_error": on, "backend_weight0": 0}, nodes=own_cluster.nodes)
    own_cluster.nodes[1].stop("immediate")
    for _ in range(3):
        try:
            with pgpool.connect("postgres") as conn:
                conn.execute("SELECT 1")
        except psycopg.Error:
            pass
    if on != "off":
        wait_until(lambda: try_status(pgpool).get("1") == "down", "node 1 to be down")
        assert ("health check failed on node 1" in pgpool.log_text()) is (on == "check")
    else:
        time.sleep(0.5)
        assert try_status(pgpool).get("1") != "down"


# -- the streaming replication check ---------------------------------------------------------------------------------


def test_replication_state_and_delay(make_pgpool, own_cluster: Cluster):
    primary, standby = own_cluster.nodes
    pgpool = make_pgpool(
        {"sr_check_period": 1, "log_standby_delay": "if_over_threshold", "delay_threshold": 1000},
        nodes=own_cluster.nodes,
    )

    def row() -> dict[str, str]:
        return pgpool.show("pool_nodes")[1]

    wait_until(lambda: row()["replication_state"] == "streaming", "the state")
    assert row()["replication_sync_state"] == "async"
    standby.execute("SELECT pg_wal_replay_pause()")
    primary.execute("CREATE TABLE big AS SELECT generate_series(1, 100000)")
    wait_until(lambda: int(row()["replication_delay"]) > 1000, "the delay")
    pattern = r"LOG:  Replication of node: 1 is behind \d+ bytes from the primary server \(node: 0\)"
    pgpool.wait_for_log(pattern)
    standby.execute("SELECT pg_wal_replay_resume()")
    wait_until(lambda: int(row()["replication_delay"]) == 0, "the standby to catch up")
    assert pgpool.show("pool_nodes")[0]["replication_delay"] == "0"


def test_delay_by_time(make_pgpool, own_cluster: Cluster):
    primary, standby = own_cluster.nodes
    pgpool = make_pgpool(
        {"sr_check_period": 1, "log_standby_delay": "always", "delay_threshold_by_time": 1}, nodes=own_cluster.nodes
    )
    standby.execute("SELECT pg_wal_replay_pause()")
    primary.execute("CREATE TABLE big AS SELECT generate_series(1, 1000)")
    time.sleep(1.5)
    standby.execute("SELECT pg_wal_replay_resume()")
    pgpool.wait_for_log(r"Replication of node: 1 is behind \d+\.\d{6} second\(s\) from the primary server \(node: 0\)")


def test_a_dead_health_check_process_comes_back(make_pgpool):
    pgpool = make_pgpool(CHECKED)
    pgpool.wait_for_log("successfully started")
    [victim] = [p for p in pgpool.family() if "health check process(1)" in " ".join(p.cmdline())]
    victim.send_signal(signal.SIGKILL)
    pgpool.wait_for_log("fork a new health check process with pid")
    before = int(pgpool.show("pool_health_check_stats")[1]["total_count"])
    wait_until(lambda: int(pgpool.show("pool_health_check_stats")[1]["total_count"]) > before, "checks to go on")


def test_a_backend_added_by_a_reload_is_down(make_pgpool, cluster: Cluster):
    pgpool = make_pgpool(nodes=cluster.nodes[:1])
    standby = cluster.nodes[1]
    mark = pgpool.mark()
    pgpool.write_conf(backend_hostname1=standby.host, backend_port1=standby.port, backend_weight1=1)
    pgpool.reload()
    pgpool.wait_for_log("backend 1 was added, it is down until it is attached", mark)
    wait_until(lambda: status(pgpool).get("1") == "down", "children to know it")
    wait_until(
        lambda: any("health check process(1)" in " ".join(p.cmdline()) for p in pgpool.family()), "its health check"
    )
    pgpool.stop()
    assert stored(pgpool) == "up\ndown\n"
