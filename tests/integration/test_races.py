"""Administrators who detach, attach, promote and reload at the same moments, while sessions run (issue 6, race tests)."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pgpool.errors import PgpoolError
from tests.support.load import Load
from tests.support.pcp import client
from tests.support.pgpool import Pgpool
from tests.support.postgres import Cluster
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs_pgpool

ROUNDS, CHECKED_EVERY = 50, 25
"""Rounds for each policy, together 100; after so many of them all must be as it was."""
SEED = "2026"
ADMINS, SESSIONS = 3, 4
SETTINGS = {
    "num_init_children": SESSIONS + 4,
    "sr_check_period": 1,
    "health_check_period": 1,
    "health_check_timeout": 4,
    "failover_on_backend_error": "check",
    "search_primary_node_timeout": 60,
}


def one_wish(pgpool: Pgpool, what: str, node_id: int, delay: float) -> None:
    """What one administrator does in a round; that it is refused is an answer too."""
    time.sleep(delay)
    with contextlib.suppress(PgpoolError), client(pgpool) as admin:
        if what == "reload":
            admin.reload_config()
        else:
            getattr(admin, what)(node_id)


def as_it_was(pgpool: Pgpool) -> bool:
    """Both nodes are in use and have their true roles; SHOW and PCP say the same."""
    try:
        rows = pgpool.show("pool_nodes")
    except psycopg.Error:
        return False
    with client(pgpool) as admin:
        told = [info.status for info in admin.node_info()]
    in_use = {"up": 2, "waiting": 1}
    return [r["role"] for r in rows] == ["primary", "standby"] and [in_use.get(r["status"]) for r in rows] == told


def settle(pgpool: Pgpool) -> None:
    """Attach what is out, until nothing changes any more."""

    def settled() -> bool:
        with client(pgpool) as admin:
            for node_id, info in enumerate(admin.node_info()):
                if info.status == 3:
                    admin.attach(node_id)
        return as_it_was(pgpool)

    wait_until(settled, "both nodes with their roles", pause=0.1)


@pytest.fixture
def races(cluster: Cluster):
    cluster.primary.execute("CREATE TABLE races (id bigint PRIMARY KEY)")
    yield cluster.primary
    cluster.primary.execute("DROP TABLE races")


@pytest.mark.parametrize("policy", ["restart", "wait"])
def test_interleavings_end_in_a_consistent_state(make_pgpool, races, policy):
    dice = random.Random(SEED + policy)
    pgpool = make_pgpool({**SETTINGS, "failover_client_policy": policy})
    with Load(pgpool, "races", SESSIONS) as load, ThreadPoolExecutor(ADMINS) as admins:
        for number in range(1, ROUNDS + 1):
            wishes = [
                (dice.choice(["detach", "attach", "promote", "reload"]), dice.randrange(2), dice.random() * 0.03)
                for _ in range(ADMINS)
            ]
            list(admins.map(lambda wish: one_wish(pgpool, *wish), wishes))
            if number % CHECKED_EVERY == 0:
                settle(pgpool)
                load.goes_on()
    assert not load.wrong
    kept = {row[0] for row in races.execute("SELECT id FROM races")}
    assert not set(load.acknowledged) - kept, "acknowledged and lost"
    assert as_it_was(pgpool)
    with contextlib.ExitStack() as stack:  # every child serves
        for _ in range(SETTINGS["num_init_children"]):
            stack.enter_context(pgpool.connect()).execute("CREATE TEMP TABLE t (i int)")
