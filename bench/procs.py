"""CPU of a family of processes, from /proc: what it has used until now, ended children included.

A live process counts with its run time (/proc/PID/task/*/schedstat, ns), or where the kernel has none with utime+stime
(/proc/PID/stat, ticks of 10 ms). A process that ended counts through cutime+cstime of the parent that waited for it;
the kernel keeps that sum exact and only prints it in ticks. A process reaped by somebody outside the family
would be lost: none of the servers here has such.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class StatTimes:
    """CPU seconds of one process, and of its waited-for children."""

    own: float
    ended: float


def parse_stat(text: str, tick: int = TICK) -> StatTimes:
    """/proc/PID/stat; the name in parentheses may itself hold blanks and parentheses."""
    fields = text[text.rindex(")") + 2 :].split()
    user, system, ended_user, ended_system = (int(field) for field in fields[11:15])
    return StatTimes((user + system) / tick, (ended_user + ended_system) / tick)


def parse_schedstat(text: str) -> float:
    """Seconds on a CPU, from the first figure of a schedstat file."""
    return int(text.split()[0]) / 1e9


def process_cpu(pid: int) -> float:
    """CPU seconds of a process and of its ended children until now; 0.0 for one that is gone."""
    place = Path("/proc", str(pid))
    try:
        times = parse_stat((place / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    try:
        own = sum(parse_schedstat(path.read_text()) for path in place.glob("task/*/schedstat"))
    except (FileNotFoundError, ProcessLookupError):
        own = 0.0
    return (own or times.own) + times.ended


def family(pid: int) -> list[psutil.Process]:
    """The process and everything below it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def family_cpu(pid: int) -> float:
    """CPU seconds of the whole family until now."""
    return sum(process_cpu(process.pid) for process in family(pid))


@dataclass(frozen=True, slots=True)
class MachineTimes:
    """CPU seconds of the machine since boot: worked, and taken by the hypervisor for others (steal)."""

    busy: float
    steal: float


def parse_machine(text: str, tick: int = TICK) -> MachineTimes:
    """The first line of /proc/stat: user nice system idle iowait irq softirq steal ..."""
    fields = [int(field) for field in text.splitlines()[0].split()[1:9]]
    return MachineTimes((sum(fields[:3]) + sum(fields[5:7])) / tick, fields[7] / tick)


def machine() -> MachineTimes:
    return parse_machine(Path("/proc/stat").read_text())
