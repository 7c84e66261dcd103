"""`python -m bench.soak [--minutes 60]`: does anything leak, is anybody lost, while everything happens at once?

Clients come and go, others sit idle, the configuration is reloaded every second, the log is rotated, children are killed
at random. Then all is quiet again, and private memory (USS), descriptors and shared cells must be what they were.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

import psutil
import psycopg

from bench import machine
from tests.support.pgpool import Pgpool
from tests.support.places import wait_until
from tests.support.postgres import Cluster

CLIENTS, IDLERS = 4, 2
SETTINGS: dict[str, object] = {
    "num_init_children": 8, "max_pool": 2, "logging_collector": True, "log_directory": "logs",
    "log_filename": "soak-%M.log", "log_rotation_size": 64,
}  # fmt: skip
CHANGES = (
    "log_connections = on\nlog_disconnections = on\nconnection_life_time = 2\n",
    "log_connections = off\nlog_disconnections = off\nconnection_life_time = 0\n",  # then clients that come again are known
)
"""What the reloads change, in turns."""
NOTICED = 60.0
"""Seconds in which a client notices at the latest that its child was killed."""
USS_SPARE = 2 << 20
"""Bytes a process may grow by: arenas of the allocator, tables that fill up."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A session that ended with an error. ``port``: the client's own, None when it was never connected."""

    at: float
    text: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Kill:
    """A child that was killed, and the ports of the clients it had accepted: seen while it was stopped, so no other."""

    at: float
    ports: frozenset[int]


@dataclass(slots=True)
class Ledger:
    """What happened; times are monotonic seconds. Threads only append."""

    sessions: list[float] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    reloads: int = 0
    rotations: int = 0

    def unexplained(self) -> list[str]:
        """Losses of clients that no killed child had. One that was lost while it connected does not know its port: it
        is put down to a client of a killed child that nobody else was. Each killed client explains one loss."""
        killed = [(kill.at, port) for kill in sorted(self.kills, key=lambda kill: kill.at) for port in sorted(kill.ports)]
        left = []
        for loss in sorted(self.lost, key=lambda loss: (loss.port is None, loss.at)):
            for one in killed:
                if one[0] <= loss.at <= one[0] + NOTICED and loss.port in (None, one[1]):
                    killed.remove(one)
                    break
            else:
                left.append(loss.text)
        return left


@dataclass(frozen=True, slots=True)
class Measure:
    """Most descriptors and USS (bytes) of a process, by kind of process."""

    fds: dict[str, int]
    uss: dict[str, int]


def port_of(conn: psycopg.Connection) -> int:
    """The client's side of a connection over TCP."""
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        return sock.getsockname()[1]


def client(pgpool: Pgpool, over: threading.Event, ledger: Ledger, dice: random.Random) -> None:
    """Session after session, short ones and long ones, until it is over."""
    while not over.is_set():
        port = None
        try:
            with pgpool.connect(dice.choice(("app", "postgres")), connect_timeout=NOTICED) as conn:
                port = port_of(conn)
                for _ in range(dice.randrange(1, 30)):
                    if dice.random() < 0.3:
                        with conn.transaction():
                            conn.execute("SELECT %s::int", (1,))
                    else:
                        conn.execute("SELECT count(*) FROM pg_class")
                    over.wait(dice.random() * 0.02)
            ledger.sessions.append(time.monotonic())
        except psycopg.Error as error:
            ledger.lost.append(Loss(time.monotonic(), f"client: {error}", port))


def idler(pgpool: Pgpool, over: threading.Event, ledger: Ledger) -> None:
    """One session that says something now and then."""
    while not over.is_set():
        port = None
        try:
            with pgpool.connect(connect_timeout=NOTICED) as conn:
                port = port_of(conn)
                while not over.wait(0.5):
                    conn.execute("SELECT 1")
        except psycopg.Error as error:
            ledger.lost.append(Loss(time.monotonic(), f"idle client: {error}", port))


def children(pgpool: Pgpool) -> set[int]:
    """Pids of the children that serve clients."""
    return {int(row["pool_pid"]) for row in pgpool.show("pool_processes")}


def measure(pgpool: Pgpool) -> Measure:
    """All processes now."""
    assert pgpool.process is not None
    serving = children(pgpool)
    fds: dict[str, int] = {}
    uss: dict[str, int] = {}
    for process in [psutil.Process(pgpool.process.pid), *pgpool.family()]:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            title = "parent" if process.pid == pgpool.process.pid else " ".join(process.cmdline()).strip()
            kind = "child" if process.pid in serving else title
            fds[kind] = max(fds.get(kind, 0), process.num_fds())
            uss[kind] = max(uss.get(kind, 0), process.memory_full_info().uss)
    return Measure(fds, uss)


def kill(victim: psutil.Process, port: int) -> Kill:
    """Stop a child, see whom it serves, kill it. Raises psutil.NoSuchProcess when it has ended by itself."""
    victim.suspend()
    wait_until(lambda: victim.status() == psutil.STATUS_STOPPED, "the child to stand still", 10, 0.002)
    held = victim.net_connections("tcp")
    at = time.monotonic()
    victim.kill()
    return Kill(at, frozenset(c.raddr.port for c in held if c.raddr and c.laddr.port == port))


def disturb(pgpool: Pgpool, ledger: Ledger, seconds: float, dice: random.Random) -> None:
    """Every second a reload with a change in it, a rotation, and, every other second, the death of a child."""
    until = time.monotonic() + seconds
    base = pgpool.conf.read_text().split("# soak\n")[0]
    texts = [f"{base}# soak\n{change}" for change in CHANGES]
    new = pgpool.conf.with_suffix(".new")
    while time.monotonic() < until:
        new.write_text(texts[ledger.reloads % 2])
        new.chmod(0o644)
        new.replace(pgpool.conf)
        pgpool.reload()
        ledger.reloads += 1
        for process in pgpool.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "PgpoolLogger" in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGUSR1)
                    ledger.rotations += 1
        if ledger.reloads % 2:
            alive = {process.pid for process in pgpool.family()}
            victims = sorted(children(pgpool) & alive)
            if victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    ledger.kills.append(kill(psutil.Process(dice.choice(victims)), pgpool.port))
        time.sleep(1)


def quiet(pgpool: Pgpool) -> bool:
    """Every place has a living child; nobody but us is served; no shared cell of a pool slot says otherwise."""
    rows = pgpool.show("pool_processes")
    waiting = sum(row["status"] == "Wait for connection" for row in rows)
    slots = sum(row["pool_connected"] == "1" for row in pgpool.show("pool_pools"))
    alive = {process.pid for process in pgpool.family()}
    expected = int(str(pgpool.settings["num_init_children"]))
    return len(rows) == expected and waiting == expected - 1 and slots <= 2 and children(pgpool) <= alive


def run_phase(pgpool: Pgpool, ledger: Ledger, seconds: float, seed: int) -> None:
    """Everything at once for so long; all clients have left at its end."""
    over = threading.Event()
    dice = [random.Random(seed + number) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client, args=(pgpool, over, ledger, die)) for die in dice]
    threads += [threading.Thread(target=idler, args=(pgpool, over, ledger)) for _ in range(IDLERS)]
    for thread in threads:
        thread.start()
    try:
        disturb(pgpool, ledger, seconds, random.Random(seed))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    wait_until(lambda: quiet(pgpool), "everything to be quiet again", NOTICED, 0.2)


def soak(pgpool: Pgpool, seconds: float, seed: int = 1) -> tuple[Ledger, Measure, Measure, list[str]]:
    """A warm-up of a fourth, then the rest; (what happened, before, after, what is wrong)."""
    ledger = Ledger()
    run_phase(pgpool, ledger, seconds / 4, seed)
    before = measure(pgpool)
    run_phase(pgpool, ledger, seconds * 3 / 4, seed + 100)
    after = measure(pgpool)
    faults = [f"lost without a cause: {text}" for text in ledger.unexplained()]
    if not ledger.sessions:
        faults.append("no client was served")
    # a child's descriptors and memory depend on how many backend connections it has pooled
    spare = int(str(pgpool.settings["max_pool"])) * len(pgpool.nodes)
    for kind, most in after.fds.items():
        allowed = before.fds.get(kind, most) + (spare if kind == "child" else 1)
        if most > allowed:
            faults.append(f"{kind}: {most} descriptors, {before.fds[kind]} before")
    for kind, most in after.uss.items():
        if most > before.uss.get(kind, most) * 1.2 + USS_SPARE:
            faults.append(f"{kind}: {most >> 10} kB USS, {before.uss[kind] >> 10} before")
    return ledger, before, after, faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write bench/results/soak-DATE.json")
    options = parser.parse_args()
    date, cluster = machine.today(), Cluster()
    try:
        cluster.create()
        pgpool = Pgpool(cluster.nodes, SETTINGS)
        try:
            ledger, before, after, faults = soak(pgpool.start(), options.minutes * 60, options.seed)
        finally:
            pgpool.remove()
    finally:
        cluster.remove()
    print(f"{len(ledger.sessions)} sessions, {len(ledger.kills)} children killed, {len(ledger.lost)} clients lost,")
    print(f"{ledger.reloads} reloads, {ledger.rotations} rotations of the log")
    for kind in sorted(after.fds):
        fds, uss = before.fds.get(kind, 0), before.uss.get(kind, 0) >> 10
        print(f"{kind:40} descriptors {fds:4} -> {after.fds[kind]:4}   USS {uss:7} -> {after.uss[kind] >> 10:7} kB")
    for fault in faults:
        print(f"FAULT: {fault}")
    if options.keep:
        told = {
            "date": date, "machine": machine.shape(), "versions": machine.versions(), "kind": "soak",
            "minutes": options.minutes, "seed": options.seed, "sessions": len(ledger.sessions), "kills": len(ledger.kills),
            "lost": len(ledger.lost), "reloads": ledger.reloads, "rotations": ledger.rotations,
            "before": asdict(before), "after": asdict(after), "faults": faults,
        }  # fmt: skip
        file = machine.TOP / "bench" / "results" / f"soak-{date.replace(':', '').removesuffix('Z')}.json"
        file.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
