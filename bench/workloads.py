"""The workloads, as data: a row feeds the run, the report and the README table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """One pgbench command line, and what is asked of us on it.

    `tps_target`: at least so many times pgpool2's tps. `cpu_target`: at most so many times the byte relay's CPU per
    transaction; None where the relay is no measure.
    """

    name: str
    title: str
    clients: int
    options: tuple[str, ...]
    tps_target: float
    cpu_target: float | None = None
    writes: bool = False
    relay: bool = True
    """The relay runs it. It has no pool: with a connection per transaction it would measure PostgreSQL's fork."""

    @property
    def threads(self) -> int:
        return min(self.clients, 2)


WORKLOADS = (
    Workload("S-simple-1", "-S simple, 1 client", 1, ("-S", "-M", "simple"), 1.6, 1.15),
    Workload("S-simple-8", "-S simple, 8 clients", 8, ("-S", "-M", "simple"), 1.6, 1.15),
    Workload("S-extended-8", "-S extended, 8", 8, ("-S", "-M", "extended"), 2.8, 1.15),
    Workload("S-prepared-8", "-S prepared, 8", 8, ("-S", "-M", "prepared"), 2.6, 1.15),
    Workload("N-simple-8", "-N simple, 8", 8, ("-N", "-M", "simple"), 1.6, writes=True),
    Workload("tpcb-prepared-8", "TPC-B prepared, 8", 8, ("-M", "prepared"), 2.0, writes=True),
    Workload("S-connect-4", "-S -C (connect each), 4", 4, ("-S", "-M", "simple", "-C"), 1.5, relay=False),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}

TARGETS = ("direct", "relay", "pgbouncer", "pgpool2", "ours")
TLS_TARGETS = ("pgbouncer", "pgpool2", "ours")
"""Those who can encrypt (--tls)."""
