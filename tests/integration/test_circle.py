"""The circle of a pair: the primary stops, the standby takes over, the stopped one is recovered, and the same again the
other way round, under load (issue 6; behaviour.md 10.3, 11)."""

from __future__ import annotations

import os

import psycopg
import pytest

from tests.support.load import Load
from tests.support.pcp import ours
from tests.support.pgpool import Pgpool
from tests.support.places import pg_bin, wait_until
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.needs_pgpool, pytest.mark.long]


def states(pgpool: Pgpool) -> list[str]:
    """For each node 'down', 'primary', 'standby', or 'streaming': a standby that streams."""
    try:
        rows = pgpool.show("pool_nodes")
    except psycopg.Error:
        return []
    return ["down" if r["status"] == "down" else r["replication_state"] or r["role"] for r in rows]


def promoting(place) -> str:
    script = place / "failover.sh"
    script.write_text(
        f"#!/bin/sh\n{pg_bin()}/psql -h $1 -p $2 -U postgres -d postgres -Atqc 'SELECT pg_promote(true, 30)'\n"
    )
    script.chmod(0o755)
    os.chmod(place, 0o777)  # pgpool may run as another user
    return f"{script} %H %r"


def test_the_circle(make_pgpool, rewindable: Cluster, tmp_path):
    rewindable.primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)")
    settings = {
        "failover_command": promoting(tmp_path),
        "recovery_user": "postgres",
        "recovery_method": "pg_rewind",
        "sr_check_user": "postgres",
        "sr_check_period": 1,
        "health_check_period": 1,
        "health_check_timeout": 4,
        "health_check_max_retries": 0,
        "search_primary_node_timeout": 60,
    }
    pgpool = make_pgpool(settings, nodes=rewindable.nodes)
    with Load(pgpool, "ledger", 3) as load:
        for number, old in enumerate(rewindable.nodes):
            roles = ["streaming", "streaming"]
            roles[number] = "primary"
            wait_until(lambda roles=roles: states(pgpool) == roles, f"node {number} as the primary", 60)
            load.goes_on()
            old.stop_anybodys()
            roles = ["primary", "primary"]
            roles[number] = "down"
            wait_until(lambda roles=roles: states(pgpool) == roles, f"the other one instead of node {number}", 60)
            load.goes_on()
            code, out, err = ours(pgpool, "pcp_recovery_node", "-n", str(number))
            assert (code, out) == (0, "pcp_recovery_node -- Command Successful\n"), err
        wait_until(lambda: states(pgpool) == ["primary", "streaming"], "the pair as it was", 60)
    assert not load.wrong
    wait_until(lambda: rewindable.nodes[1].value("SELECT count(*) FROM ledger") >= len(load.acknowledged), "the standby")
    for node in rewindable.nodes:
        kept = {row[0] for row in node.execute("SELECT id FROM ledger")}
        assert not set(load.acknowledged) - kept, "acknowledged and lost"
