"""`python -m bench.curves`: does a query cost more when there is more of something?

CPU of the proxy per query, by one client, while one thing grows: sessions that are connected and idle, backends, different
statements, bytes of a statement. Ours beside Pgpool-II, point by point in one run; the least of the rounds counts, for what
neighbours add. A table, and with --svg a picture.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import machine, pgbench, procs, targets
from bench.memory import children_ready
from bench.run import chosen, json_option, keep, orderly, say
from tests.support.places import pg_bin, short_dir, wait_until
from tests.support.postgres import Cluster

TARGETS = ("ours", "pgpool2")
CHILDREN = 210
SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = 1;\n"


@dataclass(frozen=True, slots=True)
class Curve:
    """``what`` grows through ``values``: ``idle(n)`` sessions that stay connected, ``backends(n)``, pgbench's ``script(n)``;
    ``first(n)``: transactions before it is measured."""

    what: str
    values: tuple[int, ...]
    script: Callable[[int], str] = lambda n: SELECT
    idle: Callable[[int], int] = lambda n: 0
    backends: Callable[[int], int] = lambda n: 2
    first: Callable[[int], int] = lambda n: 200


CURVES = {
    "sessions": Curve("connected sessions, one of them busy", (1, 8, 32, 200), idle=lambda n: n - 1),
    "backends": Curve("backends", (2, 4, 8), backends=lambda n: n),
    "shapes": Curve(
        "different statements, drawn at random", (10, 100, 1000, 10000),
        script=lambda n: f"\\set n random(1, {n})\nSELECT abalance AS a:n FROM pgbench_accounts WHERE aid = 1;\n",
        first=lambda n: max(200, 5 * n),
    ),
    "bytes": Curve(
        "bytes of a statement", (100, 1000, 10000, 100000), script=lambda n: f"SELECT length('{'x' * (n - 19)}');\n"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """``cpu_us``: microseconds of the proxy's CPU per query, the least of the rounds; ``rounds``: all of them."""

    curve: str
    value: int
    target: str
    cpu_us: float
    rounds: tuple[float, ...]


@contextlib.contextmanager
def running(name: str, cluster: Cluster, backends: int) -> Iterator[targets.Target]:
    """The target with the primary and so many less one standbys: they are all the same server."""
    nodes = [cluster.primary, *[cluster.standby] * (backends - 1)]
    kept, cluster.nodes = cluster.nodes, nodes
    try:
        target = targets.make(name, cluster, {"num_init_children": CHILDREN, "child_life_time": 0, "max_pool": 1})
    finally:
        cluster.nodes = kept
    try:
        target.start()
        assert target.pid is not None
        wait_until(lambda: children_ready(target.pid, CHILDREN), "all children", 120)
        yield target
    finally:
        target.stop()


def sessions(target: targets.Target, count: int) -> list[psycopg.Connection]:
    """So many sessions that have asked something once, and do nothing now."""
    found = []
    for _ in range(count):
        conn = psycopg.connect(
            host=target.host, port=target.port, user="postgres", dbname=targets.DATABASE, autocommit=True
        )
        conn.execute("SELECT 1")
        found.append(conn)
    return found


def run(target: targets.Target, script: Path, **length: int) -> pgbench.Outcome:
    return pgbench.run(
        pg_bin() / "pgbench", target.host, target.port, targets.DATABASE, clients=1, threads=1, options=("-f", str(script)),
        timeout=120, **length,
    )  # fmt: skip


def once(target: targets.Target, script: Path, seconds: int) -> float:
    """Microseconds of CPU per query."""
    assert target.pid is not None
    time.sleep(0.2)
    before = procs.family_cpu(target.pid)
    done = run(target, script, seconds=seconds)
    time.sleep(0.15)
    return (procs.family_cpu(target.pid) - before) / done.transactions * 1e6


def measure(name: str, cluster: Cluster, which: str, opts: argparse.Namespace) -> list[Point]:
    """All points of one curve for one target."""
    curve = CURVES[which]
    found = []
    place = short_dir("pgc")
    try:
        for backends in sorted({curve.backends(n) for n in curve.values}):
            with running(name, cluster, backends) as target:
                for value in curve.values:
                    if curve.backends(value) != backends:
                        continue
                    script = place / "script"
                    script.write_text(curve.script(value))
                    idle = sessions(target, curve.idle(value))
                    run(target, script, transactions=curve.first(value))
                    rounds = tuple(round(once(target, script, opts.seconds), 2) for _ in range(opts.rounds))
                    for conn in idle:
                        conn.close()
                    found.append(Point(which, value, name, min(rounds), rounds))
                    say(f"{which:10}{value:8}  {name:10}{min(rounds):8.1f} us  of {', '.join(map(str, rounds))}")
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    return found


def table(points: list[Point]) -> str:
    """Markdown: a row per point."""
    at = {(p.curve, p.value, p.target): p.cpu_us for p in points}
    names = [name for name in TARGETS if any(p.target == name for p in points)]
    lines = [f"| what grows | value | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for which, curve in CURVES.items():
        for value in curve.values:
            row = [at.get((which, value, name)) for name in names]
            if any(cpu is not None for cpu in row):
                cells = " | ".join("-" if cpu is None else f"{cpu:.1f} us" for cpu in row)
                lines.append(f"| {curve.what} | {value} | {cells} |")
    return "\n".join(lines)


# --- the picture ----------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP = 250, 150, 40, 28
COLOURS = {"ours": "#1f6feb", "pgpool2": "#d1242f"}


def picture(points: list[Point]) -> str:
    """SVG: a panel per curve; the values stand at equal distances, CPU begins at 0."""
    panels = [which for which in CURVES if any(p.curve == which for p in points)]
    width = len(panels) * (WIDTH + LEFT + 20)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + 60}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{width}" height="{TOP + HEIGHT + 60}" fill="white"/>',
    ]
    for number, which in enumerate(panels):
        out += panel(which, [p for p in points if p.curve == which], number * (WIDTH + LEFT + 20) + LEFT)
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 90
        out.append(f'<rect x="{x}" y="{TOP + HEIGHT + 38}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{x + 15}" y="{TOP + HEIGHT + 47}">{name}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def panel(which: str, points: list[Point], x: int) -> list[str]:
    curve = CURVES[which]
    top = max(p.cpu_us for p in points) * 1.1
    base = TOP + HEIGHT

    def across(value: int) -> float:
        return x + WIDTH * (curve.values.index(value) + 0.5) / len(curve.values)

    def up(cpu: float) -> float:
        return base - HEIGHT * cpu / top

    out = [
        f'<text x="{x}" y="{TOP - 12}">us of CPU per query; {curve.what}</text>',
        f'<path d="M{x} {TOP} V{base} H{x + WIDTH}" fill="none" stroke="#888"/>',
    ]
    for share in (0, 0.5, 1):
        cpu = top / 1.1 * share
        out.append(f'<text x="{x - 6}" y="{up(cpu) + 4:.0f}" text-anchor="end">{cpu:.0f}</text>')
    for value in curve.values:
        out.append(f'<text x="{across(value):.0f}" y="{base + 16}" text-anchor="middle">{value}</text>')
    for name, colour in COLOURS.items():
        row = sorted((p for p in points if p.target == name), key=lambda p: p.value)
        path = " ".join(f"{across(p.value):.0f},{up(p.cpu_us):.0f}" for p in row)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{across(p.value):.0f}" cy="{up(p.cpu_us):.0f}" r="3" fill="{colour}"/>' for p in row]
    return out


# --- the program ----------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--curves", default=",".join(CURVES), help=f"some of {','.join(CURVES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--svg", metavar="FILE", type=Path, help="write the picture there")
    json_option(parser)
    opts = parser.parse_args(argv)
    orderly()
    points: list[Point] = []
    cluster = targets.make_cluster(scale=1)
    try:
        for which in chosen(opts.curves, tuple(CURVES), "curve"):
            for name in chosen(opts.targets, TARGETS, "target"):
                points += measure(name, cluster, which, opts)
    finally:
        cluster.remove()
    print(table(points))
    if opts.svg is not None:
        opts.svg.write_text(picture(points))
    ran = {"rounds": opts.rounds, "seconds": opts.seconds}
    keep({**machine.facts(), "kind": "curves", "options": ran, "points": [dataclasses.asdict(p) for p in points]}, opts.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
