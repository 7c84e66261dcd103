"""From cells to medians, ratios and tables. Pure.

A ratio is taken inside each round, where the two runs stand next to each other in time, and then the median over the
rounds: a machine that slows down for a minute harms one round, not the ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.workloads import TARGETS, WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Cell:
    """One pgbench run. `cpu_us`: proxy CPU per transaction in microseconds, None for direct.

    `foreign`: CPUs kept busy by processes which are not ours, `steal`: CPUs taken by the hypervisor, both as a mean
    over the cell (0.5 = half a CPU). `error`: why there are no figures.
    """

    round: int
    workload: str
    target: str
    tps: float = 0.0
    latency_ms: float = 0.0
    transactions: int = 0
    cpu_us: float | None = None
    foreign: float = 0.0
    steal: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Medians over the rounds of one workload through one target. `spread`: (highest - lowest tps) / median."""

    rounds: int
    tps: float
    latency_ms: float
    cpu_us: float | None
    spread: float


def rotated(items: Sequence[str], by: int) -> list[str]:
    """The order of the targets in round `by`: nobody always runs first, nobody always after the same neighbour."""
    if not items:
        return []
    turn = by % len(items)
    order = [*items[turn:], *items[:turn]]
    # Every other full turn backwards: else each would follow the same one in all rounds.
    return order if by // len(items) % 2 == 0 else order[::-1]


def cell_of(data: dict) -> Cell:
    """A cell as a results file holds it."""
    return Cell(**data)


def good(cells: Iterable[Cell], workload: str, target: str) -> list[Cell]:
    return [c for c in cells if c.workload == workload and c.target == target and not c.error]


def summary(cells: Sequence[Cell], workload: str, target: str) -> Summary | None:
    """None when no round of it succeeded."""
    rows = good(cells, workload, target)
    if not rows:
        return None
    tps = [c.tps for c in rows]
    cpu = [c.cpu_us for c in rows if c.cpu_us is not None]
    middle = median(tps)
    return Summary(
        rounds=len(rows),
        tps=middle,
        latency_ms=median(c.latency_ms for c in rows),
        cpu_us=median(cpu) if cpu else None,
        spread=(max(tps) - min(tps)) / middle,
    )


def ratio(
    cells: Sequence[Cell], workload: str, over: str, under: str, figure: Callable[[Cell], float | None]
) -> float | None:
    """Median over the rounds of figure(over) / figure(under); None when no round has both."""
    below = {c.round: figure(c) for c in good(cells, workload, under)}
    found = []
    for cell in good(cells, workload, over):
        top, bottom = figure(cell), below.get(cell.round)
        if top is not None and bottom:
            found.append(top / bottom)
    return median(found) if found else None


def tps_ratio(cells: Sequence[Cell], workload: str, under: str = "pgpool2") -> float | None:
    """Our tps over that of `under`."""
    return ratio(cells, workload, "ours", under, lambda c: c.tps)


def cpu_ratio(cells: Sequence[Cell], workload: str, under: str = "relay") -> float | None:
    """Our CPU per transaction over that of `under`."""
    return ratio(cells, workload, "ours", under, lambda c: c.cpu_us)


def present(cells: Sequence[Cell]) -> list[Workload]:
    """The workloads which these cells hold, in the order of the table."""
    names = {c.workload for c in cells}
    return [workload for workload in WORKLOADS if workload.name in names]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _both(found: Summary | None) -> str:
    if found is None:
        return "-"
    tps = f"{found.tps:.0f} tps"
    return tps if found.cpu_us is None else f"{found.cpu_us:.0f} us, {tps}"


def markdown(cells: Sequence[Cell]) -> str:
    """The table of the README: a row per workload; medians, and medians of the ratios inside each round."""
    head = ["pgbench workload", "direct", "byte relay", "pgbouncer", "pgpool2", "ours"]
    head += ["ours / pgpool2, tps", "ours / relay, CPU"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for workload in present(cells):
        row = [workload.title, *(_both(summary(cells, workload.name, target)) for target in TARGETS)]
        row.append(_number(tps_ratio(cells, workload.name), ".2f"))
        row.append(_number(cpu_ratio(cells, workload.name), ".2f"))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def report(cells: Sequence[Cell]) -> str:
    """All medians as text: a line per workload and target, then the ratios beside what is asked of them."""
    lines = [f"{'workload':18}{'target':11}{'rounds':>6}{'tps':>10}{'spread':>8}{'latency ms':>12}{'CPU us/tx':>11}"]
    for workload in present(cells):
        for target in TARGETS:
            found = summary(cells, workload.name, target)
            if found is None:
                continue
            lines.append(
                f"{workload.name:18}{target:11}{found.rounds:6}{found.tps:10.0f}{found.spread:8.0%}"
                f"{found.latency_ms:12.3f}{_number(found.cpu_us, '.1f'):>11}"
            )
    lines += ["", *asked(cells), "", noise(cells)]
    lines += [f"FAILED round {c.round} {c.workload} {c.target}: {c.error}" for c in cells if c.error]
    return "\n".join(lines) + "\n"


def asked(cells: Sequence[Cell]) -> list[str]:
    """A line per target figure: the ratio, the bound, and whether it holds; none without both sides measured."""
    lines = []
    for workload in present(cells):
        tps = tps_ratio(cells, workload.name)
        if tps is not None:
            verdict = "ok" if tps >= workload.tps_target else "MISSED"
            bound = f"   at least {workload.tps_target:.2f}  {verdict}"
            lines.append(f"{workload.name:18}tps ours/pgpool2 {tps:6.2f}{bound}")
        if (pooler := tps_ratio(cells, workload.name, "pgbouncer")) is not None:
            lines.append(f"{workload.name:18}tps ours/pgbouncer {pooler:4.2f}")
        if (saved := cpu_ratio(cells, workload.name, "pgpool2")) is not None:
            lines.append(f"{workload.name:18}CPU ours/pgpool2 {saved:6.2f}")
        cpu = cpu_ratio(cells, workload.name)
        if cpu is not None and workload.cpu_target is None:
            lines.append(f"{workload.name:18}CPU ours/relay {cpu:8.2f}")
        elif cpu is not None:
            verdict = "ok" if cpu <= workload.cpu_target else "MISSED"
            lines.append(f"{workload.name:18}CPU ours/relay {cpu:8.2f}   at most  {workload.cpu_target:.2f}  {verdict}")
    return lines


def noise(cells: Sequence[Cell]) -> str:
    """How much of the machine others had: a run is only worth quoting when this is near zero."""
    done = [c for c in cells if not c.error]
    if not done:
        return "nothing was measured"
    foreign, steal = [c.foreign for c in done], [c.steal for c in done]
    return (
        f"others on this machine: median {median(foreign):.2f} CPUs, worst cell {max(foreign):.2f};"
        f" taken by the hypervisor: median {median(steal):.2f}, worst {max(steal):.2f}"
    )
