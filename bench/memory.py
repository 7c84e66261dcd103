"""`python -m bench --memory`: time to the first query, and private memory of ours and pgpool2 after 32 clients.

Each pgpool is started alone, on the pgpool.conf of the bench; the two see the same load. Private means USS: pages
nobody else maps. PSS also counts its share of the pages held in common (shared memory, code, what fork left shared).
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from statistics import median

import psutil
import psycopg

from bench import machine, pgbench, procs, targets
from tests.support.places import pg_bin
from tests.support.postgres import Cluster

CLIENTS = 32
LOAD = (
    ("-S", "-M", "simple"),
    ("-S", "-M", "extended"),
    ("-S", "-M", "prepared"),
    ("-N", "-M", "simple"),
    ("-M", "prepared"),
)


@dataclass(frozen=True, slots=True)
class Private:
    """Bytes. `child_uss`: median over the children that wait for clients; `family_*`: sums over the whole family.

    `parent_uss` is part of `family_uss`: shared memory which only the parent has touched (cleared) yet counts there.
    """

    processes: int
    children: int
    child_uss: int
    parent_uss: int
    family_uss: int
    family_pss: int


@dataclass(frozen=True, slots=True)
class Row:
    """`first_query_s`: from starting the program to the first query's answer; `ready_s`: until all children exist."""

    target: str
    num_init_children: int
    first_query_s: float
    ready_s: float
    fresh: Private
    loaded: Private | None
    error: str = ""


def is_child(title: str) -> bool:
    """A process title of a child without a client, as both pgpools write it."""
    return "wait for connection request" in title and "PCP" not in title


def private(pid: int) -> Private:
    """The family's memory now. Raises LookupError when no process has the title of a child."""
    total, shared, parent, children = 0, 0, 0, []
    members = procs.family(pid)
    for process in members:
        try:
            memory, title = process.memory_full_info(), " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        total += memory.uss
        shared += memory.pss
        if process.pid == pid:
            parent = memory.uss
        if is_child(title):
            children.append(memory.uss)
    if not children:
        raise LookupError("no process below has the title of a child that waits for clients")
    return Private(len(members), len(children), int(median(children)), parent, total, shared)


def children_ready(pid: int, wanted: int) -> bool:
    titles = 0
    for process in procs.family(pid):
        try:
            titles += is_child(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return titles >= wanted


def start(target: targets.PgpoolTarget, children: int, limit: float = 60) -> tuple[float, float]:
    """Start it; seconds to the first answer and to the last child. RuntimeError when it ends or takes too long."""
    began = time.monotonic()
    target.pgpool.start(wait=False)
    process = target.process = target.pgpool.process
    assert process is not None
    first = 0.0
    while not first:
        if process.poll() is not None or time.monotonic() - began > limit:
            raise RuntimeError(f"{target.name} answered no query; its log ends:\n{target.log_tail()}")
        try:
            with psycopg.connect(target.pgpool.dsn(targets.DATABASE)) as conn:
                conn.execute("SELECT 1")
            first = time.monotonic() - began
        except psycopg.Error:
            time.sleep(0.002)
    while not children_ready(process.pid, children):
        if time.monotonic() - began > limit:
            raise RuntimeError(f"{target.name} did not start {children} children; its log ends:\n{target.log_tail()}")
        time.sleep(0.02)
    return first, time.monotonic() - began


def load(target: targets.Target, cluster: Cluster, seconds: int) -> None:
    """32 clients, each kind of load for `seconds`."""
    for options in LOAD:
        if "-S" not in options:
            targets.tidy(cluster)
        pgbench.run(
            pg_bin() / "pgbench", target.host, target.port, targets.DATABASE, clients=CLIENTS, threads=2,
            options=options, seconds=seconds,
        )  # fmt: skip
    time.sleep(0.5)


def measure(name: str, cluster: Cluster, children: int, seconds: int) -> Row:
    target = targets.PgpoolTarget(cluster, "debian" if name == "pgpool2" else "ours", {"num_init_children": children})
    try:
        first, ready = start(target, children)
        assert target.pid is not None
        fresh = private(target.pid)
        error, loaded = "", None
        try:
            load(target, cluster, seconds)
            loaded = private(target.pid)
        except (pgbench.PgbenchFailed, LookupError) as problem:
            error = f"{problem}; its log ends:\n{target.log_tail()}"
        return Row(name, children, round(first, 3), round(ready, 3), fresh, loaded, error)
    finally:
        target.stop()


def table(rows: list[Row]) -> str:
    """Markdown: a row per pgpool, MB are 10^6 bytes."""
    head = [
        "", "children", "first query, s", "all children, s", "child USS fresh, MB", "child USS after load, MB",
        "parent USS, MB", "family USS, MB", "family PSS, MB",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        after = row.loaded
        figures = ["-"] * 4
        if after is not None:
            values = (after.child_uss, after.parent_uss, after.family_uss, after.family_pss)
            figures = [f"{value / 1e6:.1f}" for value in values]
        start_up = [f"{row.first_query_s:.2f}", f"{row.ready_s:.2f}", f"{row.fresh.child_uss / 1e6:.1f}"]
        lines.append("| " + " | ".join([row.target, str(row.num_init_children), *start_up, *figures]) + " |")
    return "\n".join(lines) + "\n"


def run(names: list[str], children: int, seconds: int) -> dict:
    """Measure those of pgpool2 and ours which are in `names`, print, and return what a results file holds."""
    rows, failed = [], {}
    cluster = targets.make_cluster(scale=10)
    try:
        for name in names:
            if name not in ("pgpool2", "ours"):
                continue
            try:
                rows.append(measure(name, cluster, children, seconds))
            except (RuntimeError, LookupError, TimeoutError) as error:
                failed[name] = str(error)
    finally:
        cluster.remove()
    print(table(rows), end="")
    failed |= {row.target: row.error for row in rows if row.error}
    for name, why in failed.items():
        print(f"FAILED {name}: {why}")
    data = {**machine.facts(), "kind": "memory", "options": {"clients": CLIENTS, "seconds": seconds}}
    data |= {"rows": [dataclasses.asdict(row) for row in rows], "not_run": failed}
    return data
