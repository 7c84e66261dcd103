"""Administrators who detach, attach, promote, reload and recover at the same moments, while sessions run (issue 6)."""

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
"""Rounds for each policy, together 100; after so many of them the standby is lost and recovered, and all must be as it
was."""
SEED = "2026"
ADMINS, SESSIONS = 3, 4
SETTINGS = {
    "num_init_children": SESSIONS + 4,
    "sr_check_period": 1,
    "health_check_period": 1,
    "health_check_timeout": 4,
    "failover_on_backend_error": "check",
    "search_primary_node_timeout": 60,
    "recovery_user": "postgres",
    "recovery_method": "pg_rewind",
}


def one_wish(pgpool: Pgpool, what: str, node_id: int, delay: float) -> None:
    """What one administrator does in a round; that it is refused is an answer too."""
    time.sleep(delay)
    with contextlib.suppress(PgpoolError), client(pgpool) as admin:
        if what == "reload":
            admin.reload_config()
        else:
            getattr(admin, what)(node_id)


def any_wish(dice: random.Random, longest: float) -> tuple[str, int, float]:
    return dice.choice(["detach", "attach", "promote", "reload"]), dice.randrange(2), dice.random() * longest


def recover(pgpool: Pgpool) -> int:
    """One administrator recovers node 1, however often he is refused because of what the others do; how often he was."""
    for refusals in range(300):
        with contextlib.suppress(PgpoolError), client(pgpool, timeout=90) as admin:
            if admin.node_info()[0].status == 3:
                admin.attach(0)
            admin.recover(1)
            return refusals
        time.sleep(0.1)
    raise AssertionError(f"node 1 cannot be recovered:\n{pgpool.log_text()[-3000:]}")


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
def races(rewindable: Cluster):
    rewindable.primary.execute("CREATE TABLE races (id bigint PRIMARY KEY)")
    yield rewindable
    rewindable.primary.execute("DROP TABLE races")


@pytest.mark.parametrize("policy", ["restart", "wait"])
def test_interleavings_end_in_a_consistent_state(make_pgpool, races: Cluster, policy):
    dice = random.Random(SEED + policy)
    pgpool = make_pgpool({**SETTINGS, "failover_client_policy": policy}, nodes=races.nodes)
    with Load(pgpool, "races", SESSIONS) as load, ThreadPoolExecutor(ADMINS) as admins:
        for number in range(1, ROUNDS + 1):
            if number % CHECKED_EVERY:
                wishes = [any_wish(dice, 0.03) for _ in range(ADMINS)]
                list(admins.map(lambda wish: one_wish(pgpool, *wish), wishes))
                continue
            races.standby.stop_anybodys()
            wishes = [any_wish(dice, 0.3) for _ in range(ADMINS * 3)]
            recovery = admins.submit(recover, pgpool)
            list(admins.map(lambda wish: one_wish(pgpool, *wish), wishes))
            recovery.result()
            settle(pgpool)
            assert races.standby.quick("SELECT pg_is_in_recovery()")
            load.goes_on()
    assert not load.wrong
    kept = {row[0] for row in races.primary.execute("SELECT id FROM races")}
    assert not set(load.acknowledged) - kept, "acknowledged and lost"
    assert as_it_was(pgpool)
    with contextlib.ExitStack() as stack:  # every child serves, if only when a wish still in the queue has been heard
        for _ in range(SETTINGS["num_init_children"]):
            stack.enter_context(pgpool.connect(connect_timeout=60)).execute("CREATE TEMP TABLE t (i int)")
