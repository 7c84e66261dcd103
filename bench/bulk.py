"""`python -m bench.bulk`: 200 MB through direct, ours and pgpool2: COPY out, COPY in, one big result.

The client is a socket that reads and throws away, or writes what was prepared: it costs next to nothing, so the figure
belongs to PostgreSQL and the proxy. Also the proxy's CPU per MB, and by how much its largest process grew (VmHWM):
memory has to stay flat however big the result is.
"""

from __future__ import annotations

import argparse
import dataclasses
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import machine, procs, results, targets
from bench.run import chosen, json_option, keep, orderly, say, started
from tests.support import wire
from tests.support.postgres import Cluster

KINDS = ("copy-out", "copy-in", "result")
TARGETS = ("direct", "relay", "pgbouncer", "pgpool2", "ours")
PAD = "x" * 87
ROW = 101
"""Bytes of a row as CopyData (5 + id, tab, pad, newline), about; as DataRow it has 109. Rates count the real bytes."""
MESSAGE = 8192
"""Bytes of a CopyData which we send: what psql's \\copy sends."""


class Refused(Exception):
    """The server answered with an error."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One transfer. `mb_s`: 10^6 bytes of protocol per second; `grown_mb`: growth of the family's highest VmHWM."""

    round: int
    kind: str
    target: str
    mb_s: float
    cpu_us_per_mb: float | None
    grown_mb: float | None
    error: str = ""


def is_end(tail: bytes) -> bool:
    """The stream ends with ReadyForQuery. Text never holds a zero byte, so nothing else can look like it."""
    return len(tail) >= 6 and tail[-6:-1] == b"Z\0\0\0\5" and tail[-1:] in b"ITE"


def drain(sock: socket.socket) -> int:
    """Read to ReadyForQuery and count bytes. Raises Refused for an error, ConnectionError at the end of the stream."""
    buffer = bytearray(1 << 20)
    view, tail, total, head = memoryview(buffer), b"", 0, b""
    while not is_end(tail):
        got = sock.recv_into(buffer)
        if not got:
            raise ConnectionError(f"closed after {total} bytes")
        head = head or bytes(view[:300])
        tail = (tail + bytes(view[max(0, got - 6) : got]))[-6:]
        total += got
    if head[:1] == b"E":
        raise Refused(head.split(b"\0")[4:8])
    return total


def copy_messages(size: int) -> bytes:
    """CopyData messages with `size` bytes of rows for bulk_in, and CopyDone."""
    row = b"1234567\t" + PAD.encode() + b"\n"
    whole = MESSAGE // len(row)
    return wire.copy_data(row * whole) * (size // (len(row) * whole)) + wire.COPY_DONE


def prepare(cluster: Cluster, megabytes: int) -> None:
    """bulk: rows of about 100 bytes, frozen, on both nodes and in memory; bulk_in: an empty unlogged table."""
    rows = megabytes * 1_000_000 // ROW
    cluster.primary.execute("CREATE TABLE bulk (id int, pad text)")
    cluster.primary.execute(f"INSERT INTO bulk SELECT g, '{PAD}' FROM generate_series(1, {rows}) g")
    cluster.primary.execute("CREATE UNLOGGED TABLE bulk_in (id int, pad text)")
    cluster.primary.execute("VACUUM (FREEZE, ANALYZE) bulk")
    cluster.primary.execute("CHECKPOINT")
    cluster.wait_for_catchup()
    for node in cluster.nodes:
        node.execute("SELECT count(pad) FROM bulk")


def transfer(client: wire.RawClient, kind: str, data: bytes) -> int:
    """One transfer; the bytes that went through."""
    sock = client.sock
    if kind == "copy-in":
        client.send(wire.query("COPY bulk_in FROM STDIN"))
        client.read_until("GE")
        sock.settimeout(120)
        sock.sendall(data)
        drain(sock)
        return len(data)
    sql = "COPY bulk TO STDOUT" if kind == "copy-out" else "SELECT id, pad FROM bulk"
    client.send(wire.query(sql))
    sock.settimeout(120)
    return drain(sock)


def high_water(pid: int) -> int:
    """The highest VmHWM of the family, bytes."""
    highest = 0
    for process in procs.family(pid):
        try:
            text = Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                highest = max(highest, int(line.split()[1]) * 1024)
    return highest


def measure(target: targets.Target, cluster: Cluster, kind: str, number: int, data: bytes) -> Piece:
    if kind == "copy-in":
        cluster.primary.execute("TRUNCATE bulk_in")
        cluster.wait_for_catchup()
    try:
        with wire.RawClient.login(target, targets.DATABASE, timeout=30) as client:
            client.value("SELECT 1 FROM bulk LIMIT 1")
            cpu = procs.family_cpu(target.pid) if target.pid else 0.0
            water = high_water(target.pid) if target.pid else 0
            began = time.monotonic()
            size = transfer(client, kind, data) / 1e6
            took = time.monotonic() - began
            client.send(wire.TERMINATE)
    except (Refused, OSError, wire.Closed, RuntimeError) as error:
        return Piece(number, kind, target.name, 0.0, None, None, f"{type(error).__name__}: {error}")
    if target.pid is None:
        return Piece(number, kind, target.name, size / took, None, None)
    time.sleep(0.1)
    used = (procs.family_cpu(target.pid) - cpu) / size * 1e6
    return Piece(number, kind, target.name, size / took, used, (high_water(target.pid) - water) / 1e6)


Figures = tuple[float, float | None, float | None, float | None]
"""MB/s, share of direct's MB/s, CPU us per MB, MB grown (the most of any round)."""


def medians(pieces: list[Piece], kind: str, target: str) -> Figures | None:
    """Of one kind of transfer through one target; None when no round succeeded."""
    rows = [p for p in pieces if (p.kind, p.target, p.error) == (kind, target, "")]
    if not rows:
        return None
    direct = {p.round: p.mb_s for p in pieces if (p.kind, p.target, p.error) == (kind, "direct", "")}
    shares = [p.mb_s / direct[p.round] for p in rows if p.round in direct]
    cpu = [p.cpu_us_per_mb for p in rows if p.cpu_us_per_mb is not None]
    grown = [p.grown_mb for p in rows if p.grown_mb is not None]
    return (
        median(p.mb_s for p in rows),
        median(shares) if shares else None,
        median(cpu) if cpu else None,
        max(grown) if grown else None,
    )


def table(pieces: list[Piece]) -> str:
    """Markdown: a row per kind and target."""
    head = ["", "through", "MB/s", "of direct", "proxy CPU, us/MB", "largest process grew, MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for kind in KINDS:
        for target in TARGETS:
            found = medians(pieces, kind, target)
            if found is None:
                continue
            forms = (".0f", ".2f", ".0f", ".1f")
            cells = ["-" if value is None else format(value, form) for value, form in zip(found, forms, strict=True)]
            lines.append("| " + " | ".join([kind, target, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--targets", default="direct,pgpool2,ours", help=f"some of {','.join(TARGETS)}")
    json_option(parser)
    opts = parser.parse_args(argv)
    names = chosen(opts.targets, TARGETS, "target")
    orderly()
    data = copy_messages(opts.megabytes * 1_000_000)
    pieces: list[Piece] = []
    cluster = targets.make_cluster(scale=1)
    try:
        prepare(cluster, opts.megabytes)
        with started(names, cluster) as (running, failed):
            by_name = {target.name: target for target in running}
            for kind in KINDS:  # not kept: files grow and caches fill at the first time
                measure(targets.Direct(cluster), cluster, kind, -1, data)
            for number in range(opts.rounds):
                for kind in KINDS:
                    for name in results.rotated(list(by_name), number):
                        piece = measure(by_name[name], cluster, kind, number, data)
                        pieces.append(piece)
                        say(f"round {number + 1}/{opts.rounds} {kind:10}{name:10}{piece.mb_s:8.0f} MB/s {piece.error}")
    finally:
        cluster.remove()
    print(table(pieces), end="")
    kept = {**machine.facts(), "kind": "bulk", "options": {"rounds": opts.rounds, "megabytes": opts.megabytes}}
    keep({**kept, "not_run": failed, "pieces": [dataclasses.asdict(piece) for piece in pieces]}, opts.json)
    return 1 if failed or any(piece.error for piece in pieces) else 0


if __name__ == "__main__":
    sys.exit(main())
