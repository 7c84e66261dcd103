"""The primary dies, standbys die, sessions are terminated: what clients see, what the log tells, who is the primary."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time

import psutil
import psycopg
import pytest

from tests.support.pgpool import Pgpool
from tests.support.places import pg_bin, wait_until
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.needs_pgpool]

CHECKED = {
    "health_check_period": 2,
    "health_check_timeout": 4,
    "health_check_max_retries": 1,
    "failover_on_backend_error": "check",
    "search_primary_node_timeout": 60,
}


def rows(pgpool: Pgpool, column: str) -> list[str]:
    try:
        return [row[column] for row in pgpool.show("pool_nodes")]
    except psycopg.Error:
        return []


def promoting(cluster: Cluster, place) -> dict[str, object]:
    """A failover_command that notes its arguments and promotes the new main node, once its data directory is told."""
    script = place / "failover.sh"
    note = place / "failover.told"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {note}\necho promoting node $3\n'
        f"{pg_bin()}/psql -h $4 -p $5 -U postgres -d postgres -Atqc 'SELECT pg_promote(true, 30)'\n"
    )
    script.chmod(0o755)
    os.chmod(place, 0o777)  # pgpool may run as another user
    follow = f"echo %d %m %H %P >> {place}/followed; echo node %d follows"
    return {**CHECKED, "failover_command": f"{script} %d %M %m %H %r", "follow_primary_command": follow}


class Writers:
    """Clients that write unique numbers, and connect again when they are thrown out."""

    def __init__(self, pgpool: Pgpool, count: int = 3):
        self.acknowledged: list[int] = []
        self.errors: list[str] = []
        self._pgpool, self._stop = pgpool, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        conn, step = None, 0
        while not self._stop.is_set() and step < 100000:
            try:
                if conn is None:
                    conn = self._pgpool.connect()
                step += 1
                value = number * 1000000 + step
                conn.execute("INSERT INTO ledger VALUES (%s)", (value,))
                self.acknowledged.append(value)
            except psycopg.Error as error:
                self.errors.append(str(error))
                if conn is not None:
                    conn.close()
                conn = None
                time.sleep(0.02)
            time.sleep(0.002)
        if conn is not None:
            conn.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def pair():
    """A primary with one synchronous standby, and a table to write to."""
    made = Cluster()
    try:
        made.create()
        made.primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)")
        made.make_synchronous("server1")
        made.nodes[1].configure(synchronous_standby_names="")
        yield made
    finally:
        made.remove()


def test_the_scene(make_pgpool, pair: Cluster, tmp_path):
    """scene.md: the primary of a running pair is stopped under load, the script promotes the standby, clients go on."""
    old, new = pair.nodes
    pgpool = make_pgpool(promoting(pair, tmp_path), nodes=pair.nodes)
    writers = Writers(pgpool)
    try:
        wait_until(lambda: len(writers.acknowledged) > 20, "the load")
        mark = pgpool.mark()
        old.stop("immediate")
        pgpool.wait_for_log("=== Failover done", mark, 60)
        wait_until(lambda: rows(pgpool, "role") == ["standby", "primary"], "the new primary", 30)
        count = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > count + 20, "clients to go on")
    finally:
        writers.stop()
    assert rows(pgpool, "status") == ["down", "up"]
    kept = {row[0] for row in new.execute("SELECT id FROM ledger")}
    assert not set(writers.acknowledged) - kept, "acknowledged and lost"
    assert (tmp_path / "failover.told").read_text() == f"0 0 1 {new.host} {new.port}\n"
    pgpool.wait_for_log("follow_primary_command for node 0 ended with exit code 0", mark)
    assert (tmp_path / "followed").read_text() == f"0 1 {new.host} 0\n"
    host = re.escape(f"{old.host}({old.port})")
    story = [
        r"ERROR:  failed to make persistent db connection",
        r"LOG:  health check failed on node 0 \(timeout:0\)",
        r"LOG:  received degenerate backend request for node_id: 0 from pid \[\d+\]",
        r"LOG:  Pgpool-II parent process has received failover request",
        rf"LOG:  === Starting degeneration. shutdown host {host} ===",
        r"LOG:  Restart all children",
        rf"LOG:  execute command: \S+failover.sh 0 0 1 {re.escape(new.host)} {new.port}",
        r"LOG:  failover_command: promoting node 1",
        r"LOG:  failover_command for node 0 ended with exit code 0",
        r"LOG:  find_primary_node_repeatedly: waiting for finding a primary node",
        r"LOG:  find_primary_node: checking backend no 1",
        r"LOG:  find_primary_node: primary node id is 1",
        r"LOG:  failover: set new primary node: 1",
        r"LOG:  failover: set new main node: 1",
        rf"LOG:  === Failover done. shutdown host {host} ===",
    ]
    log, at = pgpool.log_since(mark), 0
    for line in story:
        found = re.search(line, log[at:])
        assert found, f"{line} is not told after\n{log[max(0, at - 500) : at]}"
        at += found.end()


def test_waiting_clients_survive_a_clean_stop_of_the_primary(make_pgpool, pair: Cluster, tmp_path):
    """failover_client_policy = wait: settings, prepared statements and a statement that comes meanwhile."""
    old, _ = pair.nodes
    pgpool = make_pgpool({**promoting(pair, tmp_path), "failover_client_policy": "wait"}, nodes=pair.nodes)
    with contextlib.ExitStack() as stack:
        idle, holder, open_one, locker, freed = (stack.enter_context(pgpool.connect()) for _ in range(5))
        for conn in (locker, freed):
            conn.execute("SELECT pg_advisory_lock_shared(%s)", (7,))
        freed.execute("SELECT pg_advisory_unlock_all()")
        idle.execute("SET work_mem = '7MB'")
        idle.execute("PREPARE p AS SELECT 40 + 2")
        for _ in range(7):  # psycopg prepares it under a name
            idle.execute("INSERT INTO ledger SELECT %s WHERE false", (1,))
        holder.execute("CREATE TEMP TABLE mine (i int)")
        open_one.execute("BEGIN")
        open_one.execute("INSERT INTO ledger VALUES (1)")
        mark = pgpool.mark()
        old.stop("fast")
        assert idle.execute("INSERT INTO ledger VALUES (2) RETURNING id").fetchone() == (2,)
        idle.execute("INSERT INTO ledger SELECT %s WHERE false", (1,))
        assert idle.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert idle.execute("EXECUTE p").fetchone() == (42,)
        assert freed.execute("SELECT 1").fetchone() == (1,)
        for lost in (holder, open_one, locker):
            with pytest.raises(psycopg.OperationalError):
                lost.execute("SELECT 1")
            assert lost.closed
    assert "the session goes on with node 1 as its primary, it was node 0" in pgpool.log_since(mark)
    assert rows(pgpool, "role") == ["standby", "primary"]


@pytest.mark.parametrize("policy", ["restart", "wait"])
def test_sessions_that_terminate_themselves_detach_nothing(make_pgpool, cluster: Cluster, policy):
    pgpool = make_pgpool({**CHECKED, "failover_client_policy": policy})
    with pgpool.connect() as bystander:
        for _ in range(5):
            with pytest.raises(psycopg.OperationalError) as caught, pgpool.connect() as conn:
                conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            assert caught.value.sqlstate == "57P01"
        assert bystander.execute("SELECT 1").fetchone() == (1,)
    assert "Starting degeneration" not in pgpool.log_text()
    assert set(rows(pgpool, "status")) <= {"up", "waiting"}


def test_only_those_who_read_on_a_dying_standby_are_hit(make_pgpool, own_cluster: Cluster):
    standby = own_cluster.nodes[1]
    pgpool = make_pgpool({**CHECKED, "backend_weight0": 0}, nodes=own_cluster.nodes)
    with pgpool.connect() as reader, pgpool.connect() as idle:
        for conn in (reader, idle):
            assert conn.execute("SELECT inet_server_port()").fetchone() == (standby.port,)
        rows_of = reader.cursor().stream("SELECT generate_series(1, 10000000000)")
        assert next(rows_of) == (1,)  # what the client has seen a part of cannot be repeated elsewhere
        standby.stop("immediate")
        with pytest.raises(psycopg.OperationalError):
            for _ in rows_of:
                pass
        assert idle.execute("SELECT inet_server_port()").fetchone() == (own_cluster.primary.port,)
        idle.execute("CREATE TEMP TABLE t (i int)")
    wait_until(lambda: rows(pgpool, "status")[1:] == ["down"], "node 1 to be down", 30)


def test_a_command_that_hangs_stops_neither_clients_nor_reports_nor_the_end(make_pgpool, own_cluster: Cluster):
    """It waits for its end, as Pgpool-II does; the primary is well, so clients come and go; a shutdown leaves it alone."""
    pgpool = make_pgpool(
        {**CHECKED, "failover_command": "echo begun; sleep 6; exit 3", "backend_weight1": 0}, nodes=own_cluster.nodes
    )
    with pgpool.connect("postgres") as conn:
        own_cluster.nodes[1].stop("immediate")
        pgpool.wait_for_log("failover_command: begun")
        assert conn.execute("SELECT 1").fetchone() == (1,)
        result = conn.pgconn.exec_(b"SHOW pool_nodes")
        assert result.ntuples == 2
        with pgpool.connect() as other:
            other.execute("CREATE TEMP TABLE t (i int)")
    assert "Failover done" not in pgpool.log_text()
    began = time.monotonic()
    pgpool.stop()
    assert time.monotonic() - began < 30


def test_a_command_that_fails(make_pgpool, own_cluster: Cluster):
    """The log says so, what only reads is served, and a promotion by hand is found."""
    old, new = own_cluster.nodes
    settings = {**CHECKED, "failover_command": "echo no such host; exit 3", "sr_check_period": 1}
    pgpool = make_pgpool({**settings, "search_primary_node_timeout": 1}, nodes=own_cluster.nodes)
    old.stop("immediate")
    pgpool.wait_for_log("failover_command: no such host")
    pgpool.wait_for_log("WARNING:  failover_command for node 0 ended with exit code 3")
    pgpool.wait_for_log("expired, no primary node was found")
    pgpool.wait_for_log("=== Failover done. shutdown host")
    wait_until(lambda: rows(pgpool, "role") == ["standby", "standby"], "service")
    with pgpool.connect() as conn:
        assert conn.execute("SELECT inet_server_port()").fetchone() == (new.port,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("CREATE TABLE refused ()")
    new.promote()
    wait_until(lambda: rows(pgpool, "role")[1:] == ["primary"], "the promotion to be found")
    with pgpool.connect() as conn:
        conn.execute("CREATE TABLE written ()")


def test_a_command_that_hangs_after_the_promotion(make_pgpool, own_cluster: Cluster, tmp_path):
    """failover_command_timeout ends it, with all that it has started."""
    old, new = own_cluster.nodes
    script = tmp_path / "failover.sh"
    psql = f"{pg_bin()}/psql -h {new.host} -p {new.port} -U postgres -d postgres -Atqc"
    script.write_text(f"#!/bin/sh\n{psql} 'SELECT pg_promote(true, 30)'\nsleep 4711 &\necho hanging on $!\nsleep 4711\n")
    script.chmod(0o755)
    os.chmod(tmp_path, 0o777)  # pgpool may run as another user
    pgpool = make_pgpool(
        {**CHECKED, "failover_command": str(script), "failover_command_timeout": 2}, nodes=own_cluster.nodes
    )
    old.stop("immediate")
    pid = int(pgpool.wait_for_log(r"failover_command: hanging on (\d+)")[1])
    assert psutil.Process(pid).is_running()
    pgpool.wait_for_log(r"was ended, it took more than 2 s \(failover_command_timeout\)")
    wait_until(lambda: rows(pgpool, "role") == ["standby", "primary"], "the new primary")
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "what it started to end")
    with pgpool.connect() as conn:
        conn.execute("CREATE TABLE written ()")
