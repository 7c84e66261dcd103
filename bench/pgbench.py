"""pgbench: its command line, and what it prints."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


class PgbenchFailed(Exception):
    """pgbench ended with an error, or did no transaction; the text says what it printed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """tps as pgbench says it (without the time of the first connections), mean latency in ms, transactions done."""

    tps: float
    latency_ms: float
    transactions: int
    failed: int


def parse(text: str) -> Outcome:
    """The report of pgbench 12 to 18. Raises PgbenchFailed when a figure is missing or nothing was done."""

    def figure(pattern: str) -> str:
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise PgbenchFailed(f"no /{pattern}/ in what pgbench printed:\n{text[-2000:]}")
        return match.group(1)

    # With -T: "processed: 123"; with -t: "processed: 123/123". Before version 14 there are two tps lines, the second
    # one "(excluding connections establishing)"; later one, "(without initial connection time)".
    done = int(figure(r"^number of transactions actually processed: (\d+)"))
    failed = re.search(r"^number of failed transactions: (\d+)", text, re.MULTILINE)
    if done == 0:
        raise PgbenchFailed(f"pgbench did no transaction:\n{text[-2000:]}")
    tps = re.findall(r"^tps = ([\d.]+)", text, re.MULTILINE)
    if not tps:
        figure(r"^tps = ([\d.]+)")
    return Outcome(
        tps=float(tps[-1]),
        latency_ms=float(figure(r"^latency average = ([\d.]+) ms")),
        transactions=done,
        failed=int(failed.group(1)) if failed else 0,
    )


def clean_env() -> dict[str, str]:
    """The environment without PG* variables: libpq's defaults, as a driver has them."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def run(
    program: Path, host: str, port: int, database: str, *, clients: int, threads: int, options: tuple[str, ...],
    seconds: int = 0, transactions: int = 0, timeout: float = 0,
) -> Outcome:  # fmt: skip
    """One pgbench run, by time or by transactions per client. Raises PgbenchFailed, also when it does not end."""
    length = ["-T", str(seconds)] if seconds else ["-t", str(transactions)]
    argv = [str(program), "-n", "-h", host, "-p", str(port), "-U", "postgres", "-c", str(clients), "-j", str(threads)]
    argv += [*length, *options, database]
    limit = timeout or seconds + 60
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit, env=clean_env(), cwd="/")
    except subprocess.TimeoutExpired as error:
        raise PgbenchFailed(f"pgbench did not end within {limit:.0f} s: {' '.join(argv)}") from error
    if done.returncode != 0:
        raise PgbenchFailed(f"pgbench exited with {done.returncode}: {' '.join(argv)}\n{done.stderr[-2000:]}")
    return parse(done.stdout)
