"""`python -m bench`: interleaved rounds of pgbench through every target; tps, latency, proxy CPU per transaction."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import machine, memory, pgbench, procs, results, targets
from bench.results import Cell
from bench.workloads import BY_NAME, TARGETS, TLS_TARGETS, WORKLOADS, Workload
from tests.support.places import pg_bin, short_dir
from tests.support.postgres import Cluster

SETTLE = 0.15
"""Seconds after a run in which a proxy resets the connections it keeps: that work belongs to the run."""


def say(text: str) -> None:
    """Progress, on stderr: stdout holds the result and nothing else."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def started(
    names: list[str], cluster: Cluster, settings: dict[str, object] | None = None
) -> Iterator[tuple[list[targets.Target], dict[str, str]]]:
    """The targets which could be started, and why the others could not. All are stopped at the end."""
    running: list[targets.Target] = []
    failed: dict[str, str] = {}
    try:
        for name in names:
            target = None
            try:
                target = targets.make(name, cluster, settings)
                running.append(target)
                target.start()
            except Exception as error:
                say(f"{name} could not be started: {error}")
                failed[name] = str(error)
                if target is not None:
                    running.remove(target)
                    target.stop()
        yield running, failed
    finally:
        for target in running:
            target.stop()


def measure(target: targets.Target, workload: Workload, number: int, seconds: int) -> Cell:
    """One cell."""
    own_before = procs.family_cpu(os.getpid())
    machine_before = procs.machine()
    clock = time.monotonic()
    cpu_before = procs.family_cpu(target.pid) if target.pid else 0.0
    try:
        outcome = pgbench.run(
            pg_bin() / "pgbench", target.host, target.port, targets.DATABASE, clients=workload.clients,
            threads=workload.threads, options=workload.options, seconds=seconds,
        )  # fmt: skip
    except pgbench.PgbenchFailed as error:
        return Cell(number, workload.name, target.name, error=str(error))
    time.sleep(SETTLE)
    cpu = procs.family_cpu(target.pid) - cpu_before if target.pid else None
    took = time.monotonic() - clock
    after = procs.machine()
    foreign = after.busy - machine_before.busy - (procs.family_cpu(os.getpid()) - own_before)
    return Cell(
        round=number,
        workload=workload.name,
        target=target.name,
        tps=outcome.tps,
        latency_ms=outcome.latency_ms,
        transactions=outcome.transactions,
        cpu_us=None if cpu is None else cpu / outcome.transactions * 1e6,
        foreign=round(max(0.0, foreign / took), 3),
        steal=round((after.steal - machine_before.steal) / took, 3),
    )


def warm_up(target: targets.Target, workloads: list[Workload]) -> None:
    """Fill pools and caches: every child gets a client, and sees each kind of statement; failures show up later."""
    clients = targets.CHILDREN
    kinds = {w.options for w in workloads if "-C" not in w.options} or {("-S", "-M", "simple")}
    for options in sorted(kinds):
        with contextlib.suppress(pgbench.PgbenchFailed):
            pgbench.run(
                pg_bin() / "pgbench", target.host, target.port, targets.DATABASE, clients=clients, threads=2,
                options=options, transactions=20,
            )  # fmt: skip


def rounds(
    cluster: Cluster, running: list[targets.Target], workloads: list[Workload], count: int, seconds: int
) -> list[Cell]:
    """All cells, in the order in which they were run."""
    by_name = {target.name: target for target in running}
    cells: list[Cell] = []
    for number in range(count):
        for workload in workloads:
            names = [name for name in by_name if workload.relay or name != "relay"]
            for name in results.rotated(names, number):
                if workload.writes:
                    targets.tidy(cluster)
                cell = measure(by_name[name], workload, number, seconds)
                cells.append(cell)
                say(progress(cell, count))
    return cells


def progress(cell: Cell, count: int) -> str:
    head = f"round {cell.round + 1}/{count} {cell.workload:18}{cell.target:11}"
    if cell.error:
        return f"{head}FAILED: {cell.error}"
    cpu = "" if cell.cpu_us is None else f"{cell.cpu_us:8.1f} us/tx"
    return f"{head}{cell.tps:9.0f} tps{cell.latency_ms:9.3f} ms{cpu}"


def chosen(text: str, known: tuple[str, ...], what: str) -> list[str]:
    """A comma-separated option, in the order of the table; SystemExit naming what is unknown."""
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in wanted if word not in known]:
        raise SystemExit(f"unknown {what}: {', '.join(unknown)}; known: {', '.join(known)}")
    return [name for name in known if name in wanted]


def options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=int, default=5, help="length of one cell (default 5)")
    parser.add_argument("--scale", type=int, default=10, help="pgbench scale (default 10)")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--workloads", default=",".join(BY_NAME), help=f"some of {','.join(BY_NAME)}")
    json_option(parser)
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.add_argument("--from", dest="source", metavar="FILE", type=Path, help="measure nothing: report a kept FILE")
    parser.add_argument("--tls", action="store_true", help="clients use TLS; without direct and relay, which have none")
    parser.add_argument("--memory", action="store_true", help="memory and time to the first query instead of speed")
    parser.add_argument("--children", type=int, default=targets.CHILDREN, help="with --memory: num_init_children")
    return parser.parse_args(argv)


def show(data: dict, as_markdown: bool) -> None:
    cells = [results.cell_of(cell) for cell in data["cells"]]
    if not as_markdown:
        print(results.report(cells), end="")
        return
    shape, version = data["machine"], data["versions"]
    print(results.markdown(cells))
    ran = data["options"]
    print(
        f"Measured {data['date'][:10]}: {shape['cores']} cores, {shape['memory_gb']:.0f} GB, kernel {shape['kernel']},"
        f" {version['postgresql']}, {version['pgpool2']}, {version['pgbouncer']}, ours {version['ours']}, Python"
        f" {version['python']}. {ran['rounds']} rounds of {ran['seconds']} s; {results.noise(cells)}."
    )


def compare(names: list[str], workloads: list[Workload], opts: argparse.Namespace) -> dict:
    """Start everything, measure, and return what a results file holds."""
    data = {**machine.facts(), "kind": "pgbench-tls" if opts.tls else "pgbench"}
    data["options"] = {"rounds": opts.rounds, "seconds": opts.seconds, "scale": opts.scale, "tls": opts.tls}
    say("starting a primary and a standby")
    cluster = targets.make_cluster(opts.scale)
    place = short_dir("pgb")
    try:
        settings = targets.tls_settings(place) if opts.tls else {}
        with started(names, cluster, settings) as (running, failed):
            for target in running if opts.tls else ():
                if not targets.encrypted(target):
                    raise RuntimeError(f"{target.name} does not use TLS")
            confs = [target.conf() for target in running if isinstance(target, targets.PgpoolTarget)]
            if len(set(confs)) > 1:
                raise RuntimeError("the two pgpools would not run with the same pgpool.conf")
            data["settings"] = {"postgresql": cluster.primary.settings, "pgpool.conf": confs[0] if confs else ""}
            for target in running:
                warm_up(target, workloads)
            cells = rounds(cluster, running, workloads, opts.rounds, opts.seconds)
            dead = {target.name: "ended during the run" for target in running if not target.alive()}
    finally:
        cluster.remove()
        shutil.rmtree(place, ignore_errors=True)
    data["not_run"] = {**failed, **dead}
    data["cells"] = [dataclasses.asdict(cell) for cell in cells]
    return data


def orderly() -> None:
    """SIGTERM ends the program through its `finally` clauses, so that no server and no directory stays behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def json_option(parser: argparse.ArgumentParser) -> None:
    where = "keep everything measured: in FILE, or in bench/results"
    parser.add_argument("--json", metavar="FILE", type=Path, nargs="?", const=Path(), help=where)


def keep(data: dict, path: Path | None) -> None:
    """Write a results file: to `path`, or for Path() to bench/results/KIND-DATE.json; for None nowhere."""
    if path is None:
        return
    if path == Path():
        day = data["date"].replace(":", "").rstrip("Z")
        path = Path(__file__).parent / "results" / f"{data['kind']}-{day}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    say(f"kept in {path}")


def main(argv: list[str] | None = None) -> int:
    """0; 1 when a target could not be started or a cell failed (what could be measured is reported all the same)."""
    opts = options(argv)
    if opts.source:
        show(json.loads(opts.source.read_text()), opts.markdown)
        return 0
    names = chosen(opts.targets, TARGETS, "target")
    if opts.tls:
        names = [name for name in names if name in TLS_TARGETS]
    orderly()
    if opts.memory:
        data = memory.run(names, opts.children, opts.seconds)
        keep(data, opts.json)
        return 1 if data["not_run"] else 0
    workloads = [w for w in WORKLOADS if w.name in chosen(opts.workloads, tuple(BY_NAME), "workload")]
    data = compare(names, workloads, opts)
    keep(data, opts.json)
    show(data, opts.markdown)
    for name, why in data["not_run"].items():
        say(f"NOT MEASURED: {name}: {why.splitlines()[0]}")
    return 1 if data["not_run"] or any(cell["error"] for cell in data["cells"]) else 0
