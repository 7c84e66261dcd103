"""Nodes that go and come: a flapping one, a short break, both down and back (issue 6)."""

from __future__ import annotations

import random
import time

import psycopg
import pytest

from tests.support.load import Load
from tests.support.pcp import ours
from tests.support.pgpool import Pgpool
from tests.support.postgres import Cluster
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs_pgpool

CHECKED = {
    "num_init_children": 12,
    "sr_check_period": 1,
    "health_check_period": 1,
    "health_check_timeout": 4,
    "health_check_max_retries": 0,
    "failover_on_backend_error": "check",
}


def states(pgpool: Pgpool) -> list[tuple[str, str]]:
    try:
        return [(row["status"].replace("waiting", "up"), row["role"]) for row in pgpool.show("pool_nodes")]
    except psycopg.Error:
        return []


def refusal(pgpool: Pgpool) -> str:
    """What a client is told that comes now, '' when it is let in."""
    try:
        pgpool.connect().close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


BOTH = [("up", "primary"), ("up", "standby")]


@pytest.fixture
def ledger(cluster: Cluster):
    cluster.primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)")
    yield cluster.primary
    cluster.primary.execute("DROP TABLE ledger")


@pytest.mark.parametrize("policy", ["restart", "wait"])
def test_a_flapping_standby(make_pgpool, cluster: Cluster, fault_proxy, ledger, policy):
    """Whoever only writes notices nothing; it is used again when it stays; nobody reads a wrong answer."""
    dice = random.Random(policy)
    primary, standby = cluster.nodes
    proxy = fault_proxy(standby)
    settings = {**CHECKED, "auto_failback": True, "auto_failback_interval": 0, "failover_client_policy": policy}
    pgpool = make_pgpool({**settings, "backend_weight0": 0}, ports=[primary.port, proxy.port])
    wait_until(lambda: pgpool.show("pool_nodes")[1]["replication_state"] == "streaming", "the streaming check")
    with Load(pgpool, "ledger", 3, reads=False) as writers, Load(pgpool, "ledger", 3, first=3) as readers:
        for number in range(6):
            proxy.refuse = True
            proxy.cut()
            if number == 0:
                pgpool.wait_for_log("=== Starting degeneration. shutdown host")
            time.sleep(dice.random() * 0.6)
            proxy.refuse = False
            time.sleep(dice.random() * 0.6)
        wait_until(lambda: states(pgpool) == BOTH, "its return")
        passed = proxy.to_client
        wait_until(lambda: proxy.to_client > passed + 1000, "reads there")
    assert writers.errors == []
    assert not readers.wrong
    assert len(readers.acknowledged) > 20
    kept = {row[0] for row in ledger.execute("SELECT id FROM ledger")}
    assert not {*writers.acknowledged, *readers.acknowledged} - kept, "acknowledged and lost"


def test_a_break_shorter_than_the_retries(make_pgpool, cluster: Cluster, fault_proxy):
    """The primary cannot be reached for a moment: nothing is detached."""
    proxy = fault_proxy(cluster.primary)
    settings = {**CHECKED, "health_check_max_retries": 30, "health_check_retry_delay": 1}
    pgpool = make_pgpool(settings, ports=[proxy.port, cluster.standby.port])
    wait_until(lambda: states(pgpool) == BOTH, "the start")
    mark = pgpool.mark()
    proxy.refuse = True
    proxy.cut()
    pgpool.wait_for_log(r"health check retrying on DB node: 0 \(round:2\)", mark)
    proxy.refuse = False
    wait_until(lambda: states(pgpool) == BOTH, "service")
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE t (i int)")
    assert "Starting degeneration" not in pgpool.log_since(mark)


@pytest.mark.parametrize("policy", ["restart", "wait"])
def test_both_nodes_down_and_back(make_pgpool, own_cluster: Cluster, policy):
    """One of them attached is enough to go on (behaviour.md 10.8); no acknowledged commit is lost."""
    primary, standby = own_cluster.nodes
    primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)")
    settings = {**CHECKED, "failover_client_policy": policy, "failover_wait_timeout": 2}
    pgpool = make_pgpool(settings, nodes=own_cluster.nodes)
    with Load(pgpool, "ledger") as load:
        load.goes_on()
        standby.stop("immediate")
        primary.stop("immediate")
        pgpool.wait_for_log("All the DB nodes are in down status and skip writing status file.")
        pgpool.wait_for_log("failover: set new primary node: -1")
        wait_until(lambda: "not accepting any new connections" in refusal(pgpool), "clients to be told")
        primary.start()
        standby.start()
        assert ours(pgpool, "pcp_attach_node", "-n", "0")[0] == 0
        load.goes_on()
        assert ours(pgpool, "pcp_attach_node", "-n", "1")[0] == 0
        wait_until(lambda: states(pgpool) == BOTH, "both nodes")
    assert not load.wrong
    kept = {row[0] for row in primary.execute("SELECT id FROM ledger")}
    assert not set(load.acknowledged) - kept, "acknowledged and lost"
