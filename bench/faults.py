"""`python -m bench.faults`: how long writes stop and who is thrown out when a server dies, beside Pgpool-II.

Eight clients write unique numbers, each in a transaction of its own; eight have done a read and sit idle. Then something
breaks. Told are the longest time without an acknowledged write, the sessions of both kinds that were lost, and what of the
acknowledged writes the new primary does not have (or has twice: impossible, they are keys).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench import machine
from bench.run import chosen, json_option, keep, orderly, say
from tests.support.pgpool import Pgpool
from tests.support.places import give, pg_bin, short_dir
from tests.support.postgres import Cluster

WRITERS = IDLERS = 8
WARM, WATCH, HANG = 2.0, 12.0, 22.0
"""Seconds of load before the fault, and after it (after a server that hangs)."""
SETTINGS: dict[str, object] = {
    "num_init_children": 32, "health_check_period": 2, "health_check_timeout": 4, "health_check_max_retries": 1,
    "health_check_retry_delay": 1, "failover_on_backend_error": "on", "search_primary_node_timeout": 60,
}  # fmt: skip
TARGETS: dict[str, tuple[str, dict[str, object]]] = {
    "pgpool2": ("debian", {}),
    "ours": ("ours", {"failover_on_backend_error": "check"}),
    "ours, wait": ("ours", {"failover_on_backend_error": "check", "failover_client_policy": "wait"}),
}


@dataclass(slots=True)
class Load:
    """What the clients saw. Threads only append."""

    pgpool: Pgpool
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    lost_writers: set[int] = field(default_factory=set)
    """Numbers of the first sessions that were lost; later ones of the same thread do not count."""
    idle: list[psycopg.Connection] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        for _ in range(IDLERS):
            conn = self.pgpool.connect()
            conn.execute("SELECT 1")
            self.idle.append(conn)
        self.threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def _write(self, number: int) -> None:
        conn, value = None, number * 10_000_000
        while not self.stop.is_set():
            value += 1
            try:
                if conn is None:
                    conn = self.pgpool.connect(connect_timeout=3)
                conn.execute("INSERT INTO ledger VALUES (%s)", (value,))
                self.acknowledged.append((time.monotonic(), value))
            except psycopg.Error:
                self.lost_writers.add(number)
                if conn is not None:
                    with contextlib.suppress(psycopg.Error):
                        conn.close()
                conn = None
                time.sleep(0.02)
            time.sleep(0.003)
        if conn is not None:
            conn.close()

    def end(self) -> int:
        """Stop; how many idle sessions were lost."""
        lost = 0
        for conn in self.idle:
            try:
                conn.execute("SELECT 1")
            except psycopg.Error:
                lost += 1
            with contextlib.suppress(psycopg.Error):
                conn.close()
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        return lost

    def longest_pause(self, since: float, until: float) -> float:
        times = [since, *sorted(at for at, _ in self.acknowledged if since <= at <= until), until]
        return max(b - a for a, b in itertools.pairwise(times))


@dataclass(frozen=True, slots=True)
class Row:
    fault: str
    target: str
    stopped: float = 0.0
    """Seconds without an acknowledged write; as long as was watched: for ever."""
    lost_writing: int = 0
    lost_idle: int = 0
    missing: int = 0
    """Acknowledged writes that the primary of the end does not have."""
    nodes: str = ""
    """SHOW pool_nodes at the end: status and role of each."""
    error: str = ""


def kill_primary(cluster: Cluster, pgpool: Pgpool) -> None:
    cluster.primary.kill()


def stop_primary(cluster: Cluster, pgpool: Pgpool) -> None:
    cluster.primary.stop("fast")


def hang_primary(cluster: Cluster, pgpool: Pgpool) -> None:
    cluster.primary.freeze()


def kill_standby(cluster: Cluster, pgpool: Pgpool) -> None:
    cluster.nodes[-1].kill()


def terminate_selves(cluster: Cluster, pgpool: Pgpool) -> None:
    for _ in range(5):
        with contextlib.suppress(psycopg.Error), pgpool.connect() as conn:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


FAULTS: dict[str, tuple[Callable[[Cluster, Pgpool], None], int, bool]] = {
    "kill -9 of the primary": (kill_primary, 1, True),
    "clean stop of the primary": (stop_primary, 1, True),
    "the primary hangs": (hang_primary, 1, True),
    "kill -9 of one of two standbys": (kill_standby, 2, False),
    "5 sessions terminate themselves": (terminate_selves, 1, False),
}
"""Fault -> what is done, number of standbys, does the standby take over."""


@contextlib.contextmanager
def pair(standbys: int) -> Iterator[Cluster]:
    """A primary and standbys; the first one is synchronous and takes over."""
    cluster = Cluster(standbys)
    try:
        cluster.create()
        cluster.primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)")
        cluster.make_synchronous("server1")
        cluster.nodes[1].configure(synchronous_standby_names="")
        yield cluster
    finally:
        cluster.remove()


def promoter(place: Path, cluster: Cluster) -> str:
    """A failover_command that promotes node 1 when node 0 is gone."""
    script = place / "failover.sh"
    new = cluster.nodes[1]
    script.write_text(
        f"#!/bin/sh\n[ $1 = 0 ] || exit 0\n{pg_bin()}/psql -h {new.host} -p {new.port} -U postgres -d postgres "
        "-Atqc 'SELECT pg_promote(true, 30)'\n"
    )
    script.chmod(0o755)
    give(place)
    return f"{script} %d"


def run(fault: str, name: str) -> Row:
    """One fault through one target, on servers of its own."""
    act, standbys, moves = FAULTS[fault]
    binary, more = TARGETS[name]
    place = short_dir("flt")
    with pair(standbys) as cluster:
        settings = {**SETTINGS, **more, "failover_command": promoter(place, cluster)}
        pgpool = Pgpool(cluster.nodes, settings, binary=binary)
        try:
            pgpool.start()
            load = Load(pgpool)
            load.begin()
            time.sleep(WARM)
            began = time.monotonic()
            act(cluster, pgpool)
            watch = HANG if act is hang_primary else WATCH
            time.sleep(max(0.0, began + watch - time.monotonic()))
            lost_idle = load.end()
            seen = "; ".join(f"{row['status']} {row['role']}" for row in shown(pgpool))
            primary = cluster.nodes[1] if moves and not cluster.nodes[1].in_recovery() else cluster.primary
            kept = {row[0] for row in primary.execute("SELECT id FROM ledger")} if primary.process else set()
            missing = sum(value not in kept for _, value in load.acknowledged)
            pause = load.longest_pause(began, began + watch)
            return Row(fault, name, round(pause, 2), len(load.lost_writers), lost_idle, missing, seen)
        finally:
            if act is hang_primary:
                cluster.primary.thaw()
            pgpool.remove(check=False)


def shown(pgpool: Pgpool) -> list[dict[str, str]]:
    try:
        return pgpool.show("pool_nodes")
    except psycopg.Error:
        return []


def markdown(rows: list[Row]) -> str:
    lines = [
        "| fault | target | writes stop | sessions lost (writing + idle) | acknowledged and missing | nodes at the end |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.error:
            lines.append(f"| {row.fault} | {row.target} | {row.error} | | | |")
            continue
        lines.append(
            f"| {row.fault} | {row.target} | {row.stopped:.2f} s | {row.lost_writing} + {row.lost_idle} "
            f"| {row.missing} | {row.nodes} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(("pgpool2", "ours", "wait")), help="some of pgpool2,ours,wait")
    parser.add_argument("--faults", default="all", help="words of the faults to make, separated by commas")
    json_option(parser)
    opts = parser.parse_args(argv)
    orderly()
    names = ["ours, wait" if n == "wait" else n for n in chosen(opts.targets, ("pgpool2", "ours", "wait"), "target")]
    rows = []
    for fault in FAULTS:
        if opts.faults != "all" and not any(word in fault for word in opts.faults.split(",")):
            continue
        for name in names:
            try:
                row = run(fault, name)
            except Exception as error:
                row = Row(fault, name, error=f"{type(error).__name__}: {error}")
            rows.append(row)
            say(markdown([row]).splitlines()[-1])
    print(markdown(rows))
    keep({**machine.facts(), "kind": "faults", "rows": [dataclasses.asdict(row) for row in rows]}, opts.json)
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
