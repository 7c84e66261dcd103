"""A node falls silent under load: its network is cut, so that packets vanish and nobody is told (issue 6). Where the machine
gives no network namespaces its processes stand still instead: the kernel goes on taking connections, nobody answers.

Two pgpools, one for each failover_client_policy, stand before the same pair: what happens hits both."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.cable import Cable
from tests.support.load import Load
from tests.support.pcp import ours
from tests.support.pgpool import Pgpool
from tests.support.places import pg_bin, wait_until
from tests.support.postgres import Cluster, Postgres

pytestmark = [pytest.mark.needs_pgpool, pytest.mark.long]

WRITERS, IDLE = 8, 8
TIMEOUT, RETRIES = 2, 1
LIMIT = TIMEOUT * (RETRIES + 1) + 2
"""Seconds from the silence until the checks have given the node up (issue 6). A period may pass before the first check
begins; the default health_check_retry_delay would take the last second too."""
BUSY = 15
"""Seconds that a busy machine may need for what comes then, and takes half a second (a session that nobody ends waits for
a quarter of an hour, until TCP gives up)."""
SETTINGS = {
    "num_init_children": WRITERS + IDLE + 2,
    "sr_check_period": 1,
    "health_check_period": 1,
    "health_check_timeout": TIMEOUT,
    "health_check_max_retries": RETRIES,
    "health_check_retry_delay": 0,
    "failover_on_backend_error": "check",
    "search_primary_node_timeout": 60,
}
UP = {"up": "up", "waiting": "up", "down": "down"}


@contextlib.contextmanager
def pair(silent: int) -> Iterator[tuple[Cluster, Callable[[], None], Callable[[], None]]]:
    """A primary and a standby; what makes node `silent` fall silent, and what makes it answer again."""
    with contextlib.ExitStack() as stack:
        cable = None
        if not Cable.refused():
            cable = Cable()
            stack.callback(cable.remove)
        cluster = Cluster(make=cable.server(f"server{silent}") if cable else Postgres)
        stack.callback(cluster.remove)
        cluster.create()
        cluster.primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY); CREATE TABLE idle (i int)")
        node = cluster.nodes[silent]
        silence, mend = (cable.cut, cable.mend) if cable else (node.freeze, node.thaw)
        stack.callback(mend)
        yield cluster, silence, mend


def promoting(place) -> str:
    """A failover_command that may be run by two pgpools."""
    script = place / "failover.sh"
    sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(true, 30) END"
    script.write_text(f"#!/bin/sh\n{pg_bin()}/psql -h $1 -p $2 -U postgres -d postgres -Atqc '{sql}'\n")
    script.chmod(0o755)
    os.chmod(place, 0o777)  # pgpool may run as another user
    return f"{script} %H %r"


class Watched:
    """One pgpool with `WRITERS` sessions that write and read, and `IDLE` ones that have written and say nothing."""

    def __init__(self, pgpool: Pgpool, policy: str, number: int):
        self.pgpool, self.policy = pgpool, policy
        self.load = Load(pgpool, "ledger", WRITERS, first=100 * number, pause=0.1)
        self.idle: list[psycopg.Connection] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[Watched]:
        with contextlib.ExitStack() as stack:
            for _ in range(IDLE):
                self.idle.append(stack.enter_context(contextlib.closing(self.pgpool.connect())))
                self.idle[-1].execute("INSERT INTO idle VALUES (1)")
            stack.enter_context(self.load)
            self.all_go_on()
            yield self

    def all_go_on(self) -> None:
        """Every writing session has more commits acknowledged."""
        before = len(self.load.acknowledged)

        def writers() -> set[int]:
            return {number // 1_000_000 for number in self.load.acknowledged[before:]}

        wait_until(lambda: len(writers()) == WRITERS, "all sessions to go on", BUSY)

    def survivors(self) -> int:
        """Idle sessions that still are what they were."""
        alive = 0
        for conn in self.idle:
            with contextlib.suppress(psycopg.OperationalError):
                conn.execute("INSERT INTO idle VALUES (1)")
                alive += 1
        return alive

    def told(self, *columns: str) -> list[tuple[str, ...]]:
        """What SHOW pool_nodes says of each node."""
        try:
            return [tuple(UP.get(row[c], row[c]) for c in columns) for row in self.pgpool.show("pool_nodes")]
        except psycopg.Error:
            return []

    def check_ledger(self, kept_by: Postgres) -> None:
        assert not self.load.wrong
        assert not [error for error in self.load.errors if "duplicate" in error], "written twice"
        kept = {row[0] for row in kept_by.execute("SELECT id FROM ledger")}
        assert not set(self.load.acknowledged) - kept, "acknowledged and lost"


@contextlib.contextmanager
def two_pgpools(make_pgpool, cluster: Cluster, settings: dict[str, object]) -> Iterator[list[Watched]]:
    both = []
    for number, policy in enumerate(("restart", "wait")):
        pgpool = make_pgpool({**settings, "failover_client_policy": policy}, nodes=cluster.nodes)
        both.append(Watched(pgpool, policy, number))
    with contextlib.ExitStack() as stack:
        for watched in both:
            stack.enter_context(watched.running())
        yield both


def fall_silent(both: list[Watched], node_id: int, silence: Callable[[], None], nodes: list) -> None:
    """After `silence` node `node_id` is given up in time, no session waits for it, and SHOW pool_nodes says `nodes`.

    A check that timed out restarts all children where the policy is restart, as in Pgpool-II (behaviour.md 10.4)."""
    marks = [watched.pgpool.mark() for watched in both]
    silence()
    for watched, mark in zip(both, marks, strict=True):
        watched.pgpool.wait_for_log(rf"health check failed on node {node_id} \(timeout:1\)", mark, LIMIT)
    for watched, mark in zip(both, marks, strict=True):
        watched.pgpool.wait_for_log("=== Failover done. shutdown host", mark, BUSY)
        watched.all_go_on()
        assert watched.survivors() == (IDLE if watched.policy == "wait" else 0)
    with ThreadPoolExecutor() as pool:  # it takes 2 s to find out that nobody answers
        told = list(pool.map(lambda watched: watched.told("status", "pg_status", "role"), both))
    assert told == [nodes, nodes]


def test_the_primary_is_cut_off(make_pgpool, tmp_path):
    with pair(0) as (cluster, cut, _):
        cluster.make_synchronous("server1")
        with two_pgpools(make_pgpool, cluster, {**SETTINGS, "failover_command": promoting(tmp_path)}) as both:
            fall_silent(both, 0, cut, [("down", "down", "standby"), ("up", "up", "primary")])
        for watched in both:
            watched.check_ledger(cluster.standby)


def test_a_standby_is_cut_off_and_comes_back(make_pgpool):
    with pair(1) as (cluster, cut, mend):
        with two_pgpools(make_pgpool, cluster, SETTINGS) as both:
            fall_silent(both, 1, cut, [("up", "up", "primary"), ("down", "down", "standby")])
            mend()
            for watched in both:
                assert ours(watched.pgpool, "pcp_attach_node", "-n", "1")[0] == 0
            for watched in both:
                wait_until(lambda w=watched: w.told("status") == [("up",), ("up",)], "its return")
                watched.all_go_on()
        for watched in both:
            watched.check_ledger(cluster.primary)
