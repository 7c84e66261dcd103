"""`python -m bench.profile`: system calls and instructions per query, which repeat where times do not.

Both are differences: a session with N queries and one with 2N, on a proxy with one child; what login and end of the
session cost cancels out. One client, one statement shape, reads go to the standby (the session has both nodes).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import machine, pgbench, procs, targets
from bench.run import chosen, json_option, keep, orderly, say
from bench.workloads import TLS_TARGETS
from tests.support.pgpool import Pgpool
from tests.support.places import pg_bin, short_dir, wait_until
from tests.support.postgres import Cluster

TARGETS = ("relay", "pgbouncer", "pgpool2", "ours")
MODES = {
    "simple": ("-S", "-M", "simple"),
    "extended": ("-S", "-M", "extended"),
    "prepared": ("-S", "-M", "prepared"),
    "connect": ("-S", "-M", "simple", "-C"),
}
"""What one query is; `connect` is a connection with one query in it."""
SETTINGS = {"num_init_children": 1, "backend_weight0": 0, "child_life_time": 0}
_INSTRUCTIONS = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """Per query. `calls`: name -> number; `instructions`: user-space, by callgrind, None when not counted."""

    target: str
    mode: str
    calls: dict[str, float] | None = None
    instructions: float | None = None
    error: str = ""


def parse_strace(text: str) -> dict[str, int]:
    """The table of `strace -c`: system call -> number of calls (the line `total` left out)."""
    calls: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split()
        # % time, seconds, usecs/call, calls, [errors], name
        row = len(fields) in (5, 6) and re.fullmatch(r"[\d.]+", fields[0]) and fields[3].isdigit()
        if row and fields[-1] != "total":
            calls[fields[-1]] = calls.get(fields[-1], 0) + int(fields[3])
    return calls


def per_query(once: dict[str, int], twice: dict[str, int], queries: int) -> dict[str, float]:
    """What N more queries cost, per query, biggest first; what rounds to nothing is left out."""
    names = once.keys() | twice.keys()
    found = {name: round((twice.get(name, 0) - once.get(name, 0)) / queries, 2) for name in names}
    return dict(sorted(((n, v) for n, v in found.items() if abs(v) >= 0.01), key=lambda item: -item[1]))


def parse_callgrind(text: str) -> int:
    """Instructions in one callgrind.out file (its last summary or totals line). Raises ValueError without one."""
    found = _INSTRUCTIONS.findall(text)
    if not found:
        raise ValueError("no totals in the callgrind file")
    return int(found[-1])


def queries(target: targets.Target, mode: str, count: int) -> None:
    """One session with `count` point selects."""
    pgbench.run(
        pg_bin() / "pgbench", target.host, target.port, targets.DATABASE, clients=1, threads=1,
        options=MODES[mode], transactions=count, timeout=300,
    )  # fmt: skip
    time.sleep(0.3)


# --- system calls ---------------------------------------------------------------------------------------------------


def counted_calls(target: targets.Target, mode: str, count: int) -> dict[str, int]:
    """System calls of all processes of the target during one session. RuntimeError when strace may not attach."""
    place = short_dir("pgs")
    out = place / "calls"
    try:
        assert target.pid is not None
        attach = [word for process in procs.family(target.pid) for word in ("-p", str(process.pid))]
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-o", str(out), *attach], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_until(lambda: all_traced(target, tracer), "strace to attach", 10)
            queries(target, mode, count)
        finally:
            tracer.send_signal(signal.SIGINT)
            _, said = tracer.communicate(timeout=20)
        if not out.exists():
            raise RuntimeError(f"strace wrote nothing: {said[-500:]}")
        return parse_strace(out.read_text())
    finally:
        shutil.rmtree(place, ignore_errors=True)


def all_traced(target: targets.Target, tracer: subprocess.Popen) -> bool:
    if tracer.poll() is not None:
        raise RuntimeError(f"strace ended: {tracer.stderr.read()[-500:] if tracer.stderr else ''}")
    assert target.pid is not None
    for process in procs.family(target.pid):
        status = Path(f"/proc/{process.pid}/status")
        if status.exists() and not re.search(r"^TracerPid:\s+[1-9]", status.read_text(), re.MULTILINE):
            return False
    return True


def system_calls(target: targets.Target, mode: str, count: int) -> dict[str, float]:
    """System calls per query."""
    queries(target, mode, 50)
    return per_query(counted_calls(target, mode, count), counted_calls(target, mode, 2 * count), count)


# --- instructions ---------------------------------------------------------------------------------------------------


def valgrind(place: Path) -> list[str]:
    return ["valgrind", "--tool=callgrind", "--trace-children=no", f"--callgrind-out-file={place}/callgrind.out.%p"]


class Watched(Pgpool):
    """A pgpool under callgrind; files callgrind.out.PID appear in its directory when its processes end."""

    @property
    def command(self) -> list[str]:
        return [*valgrind(self.place), *super().command]

    def start(self, wait: bool = True, timeout: float = 400) -> Pgpool:
        return super().start(wait, timeout)


class WatchedRelay(targets.Relay):
    children = 1

    def command(self) -> list[str | Path]:
        return [*valgrind(self.place), *super().command()]


class WatchedBouncer(targets.PgBouncer):
    def command(self) -> list[str | Path]:
        return [*valgrind(self.place), *super().command()]


@contextlib.contextmanager
def watched(name: str, cluster: Cluster, tls: dict[str, object]) -> Iterator[tuple[targets.Target, Path]]:
    """A target under callgrind, running, and where its files will be; stopped and removed at the end."""
    target: targets.Target
    if name in ("pgpool2", "ours"):
        target = targets.PgpoolTarget(cluster, "debian" if name == "pgpool2" else "ours", {**SETTINGS, **tls}, Watched)
        place = target.pgpool.place
    else:
        target = WatchedRelay(cluster) if name == "relay" else WatchedBouncer(cluster, tls)
        place = target.place
    try:
        target.start()
        yield target, place
    finally:
        target.stop()


def rounded(mode: str, count: int) -> int:
    """How many queries of that mode stand for `count`: a connection costs as much as hundreds of queries."""
    return max(10, count // 20) if mode == "connect" else count


def life(
    name: str, cluster: Cluster, counts: dict[str, int], files: Path | None = None, tls: dict[str, object] | None = None
) -> int:
    """Start a proxy, run a session for each mode, stop it; instructions of the process that served, forebears included.

    A forked process starts with the count of its parent, so only the difference of two lives means something.
    `files`: a directory which gets the callgrind files. `tls`: settings under which clients encrypt.
    """
    with watched(name, cluster, tls or {}) as (target, place):
        for mode, count in counts.items():
            queries(target, mode, count)
        assert target.pid is not None
        members = procs.family(target.pid)
        members[0].send_signal(signal.SIGTERM if name == "relay" else signal.SIGINT)
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.wait(60)
        totals = {}
        for process in members:
            path = place / f"callgrind.out.{process.pid}"
            if path.exists() and path.stat().st_size:
                totals[process.pid] = parse_callgrind(path.read_text())
                if files is not None:
                    files.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, files / f"{name}.{process.pid}.callgrind")
    if len(totals) > 1:  # the parent serves nobody where there are children
        totals.pop(target.pid, None)
    if not totals:
        raise RuntimeError("callgrind wrote no file")
    return max(totals.values())


def instructions(
    name: str, cluster: Cluster, modes: list[str], count: int, files: Path | None, tls: dict[str, object]
) -> dict[str, float]:
    """User-space instructions per query of each mode: lives of the proxy which differ in `count` queries of it."""
    counts = {mode: rounded(mode, count) for mode in modes}
    floor = life(name, cluster, counts, files, tls)
    found = {}
    for mode, number in counts.items():
        found[mode] = round((life(name, cluster, {**counts, mode: 2 * number}, tls=tls) - floor) / number)
    return found


# --- the program ----------------------------------------------------------------------------------------------------


def measure(
    name: str, cluster: Cluster, modes: list[str], opts: argparse.Namespace, tls: dict[str, object]
) -> list[Row]:
    """A row per mode; a fault is a row with its reason."""
    rows = {mode: Row(name, mode) for mode in modes}
    try:
        mode = modes[0]
        if opts.strace:
            target = targets.make(name, cluster, {**SETTINGS, **tls})
            try:
                target.start()
                if tls and not targets.encrypted(target):
                    raise RuntimeError(f"{name} does not use TLS")
                for mode in modes:
                    calls = system_calls(target, mode, opts.queries)
                    rows[mode] = dataclasses.replace(rows[mode], calls=calls)
            finally:
                target.stop()
        if opts.callgrind:
            for mode, count in instructions(name, cluster, modes, opts.instructions, opts.files, tls).items():
                rows[mode] = dataclasses.replace(rows[mode], instructions=count)
    except Exception as error:
        rows[mode] = dataclasses.replace(rows[mode], error=f"{type(error).__name__}: {error}")
    for row in rows.values():
        say(line(row))
    return list(rows.values())


def line(row: Row) -> str:
    text = f"{row.target:10}{row.mode:10}"
    if row.instructions is not None:
        text += f"{row.instructions:9.0f} instructions  "
    if row.calls is not None:
        text += f"{sum(row.calls.values()):6.1f} calls: " + ", ".join(f"{n} {v:g}" for n, v in row.calls.items())
    return text + (f"  FAILED: {row.error}" if row.error else "")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--modes", default=",".join(MODES), help=f"some of {','.join(MODES)}")
    parser.add_argument("--queries", type=int, default=500, help="N of the system calls (default 500)")
    parser.add_argument("--instructions", type=int, default=2000, help="N of the instructions (default 2000)")
    parser.add_argument("--no-strace", dest="strace", action="store_false")
    parser.add_argument("--no-callgrind", dest="callgrind", action="store_false")
    parser.add_argument("--files", metavar="DIR", type=Path, help="keep callgrind files, for callgrind_annotate")
    parser.add_argument("--tls", action="store_true", help="clients use TLS; without the relay, which has none")
    json_option(parser)
    opts = parser.parse_args(argv)
    for tool, wanted in (("strace", opts.strace), ("valgrind", opts.callgrind)):
        if wanted and shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed")
    orderly()
    os.environ["PYTHONHASHSEED"] = "0"  # else starting Python costs another count each time
    rows: list[Row] = []
    names = [name for name in chosen(opts.targets, TARGETS, "target") if not opts.tls or name in TLS_TARGETS]
    place = short_dir("pgb")
    cluster = targets.make_cluster(scale=1)
    try:
        tls = targets.tls_settings(place) if opts.tls else {}
        for name in names:
            rows += measure(name, cluster, chosen(opts.modes, tuple(MODES), "mode"), opts, tls)
    finally:
        cluster.remove()
        shutil.rmtree(place, ignore_errors=True)
    print("\n".join(line(row) for row in rows))
    ran = {"queries": opts.queries, "instructions": opts.instructions, "tls": opts.tls}
    kept = {**machine.facts(), "kind": "profile-tls" if opts.tls else "profile", "options": ran}
    keep({**kept, "rows": [dataclasses.asdict(row) for row in rows]}, opts.json)
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
