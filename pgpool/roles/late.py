"""Backends that could not be reached when pgpool started: they begin as down, and are used as soon as they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..model import ClusterMode, NodeState
from ..policy.failover import DISALLOW_TO_FAILOVER, Health, may_return
from ..system.logs import LOG, log
from .failover import Failover
from .search import Boss, settle_without_asking

if TYPE_CHECKING:
    from ..config.settings import BackendConf

START_KNOCK = 3.0
"""Longest time to wait for a backend at start (seconds)."""
PERIOD, KNOCK = 5.0, 1.0
"""How often, and how long at most, a missing backend is looked at later (seconds)."""


class Patron(Boss, Protocol):
    """The parent, as far as it is needed here."""

    failover: Failover


class Latecomers:
    """The parent's list of nodes that were missing at start. They are not stored as down in pgpool_status."""

    def __init__(self, patron: Patron):
        self._patron = patron
        self.nodes: set[int] = set()
        self._due = 0.0

    def next_due(self) -> float | None:
        """When ``look`` has something to do, on the parent's clock; None when nobody is missing."""
        return self._due if self.nodes else None

    def find(self) -> None:
        """At start: serve with what is there."""
        patron = self._patron
        for node in patron.shared.node_views(patron.settings):
            backend = self._backend(node.id)
            if not node.usable or DISALLOW_TO_FAILOVER in backend.flags:
                continue
            seen, text = patron.prober.knock(backend, START_KNOCK)
            if seen is Health.SILENT:
                log.warning(
                    f"backend {node.id} cannot be reached, it is not used until it answers",
                    detail=f"{backend.hostname}:{backend.port}: {text}",
                )
                self.nodes.add(node.id)
                patron.shared.set_node_state(node.id, NodeState.DOWN, "unreachable at start")
            elif node.state is NodeState.WAITING:
                patron.shared.set_node_state(node.id, NodeState.UP, "answered at start")
        self._due = patron.clock() + PERIOD

    def look(self) -> None:
        """One turn of the parent's loop: who is missing is used as soon as he answers."""
        patron = self._patron
        if not self.nodes or patron.failover.busy or patron.clock() < self._due:
            return
        self._due = patron.clock() + PERIOD
        for node_id in sorted(self.nodes):
            if patron.shared.nodes[node_id].state is not NodeState.DOWN:
                self.nodes.discard(node_id)  # attached by somebody else meanwhile
                continue
            seen, _ = patron.prober.knock(self._backend(node_id), KNOCK)
            if seen is Health.ANSWERS:
                self._take(node_id)

    def _take(self, node_id: int) -> None:
        patron = self._patron
        mode, primary = patron.settings.mode, patron.shared.primary_id
        recovering = None
        if mode is ClusterMode.STREAMING_REPLICATION:
            recovering = patron.prober.ask_recovery(self._backend(node_id))[0]
        self.nodes.discard(node_id)
        if not may_return(recovering, primary, mode):
            log.warning(
                f"backend {node_id} answers now, but it is a primary as well as node {primary}: it stays down",
                hint="make it a standby of the present primary and attach it",
            )
            return
        log.log(LOG, f"backend {node_id} answers now and is used")
        patron.shared.set_node_state(node_id, NodeState.WAITING, "answers now")
        settle_without_asking(patron, patron.failover.rules())
        if mode is ClusterMode.STREAMING_REPLICATION and patron.shared.primary_id < 0:
            patron.failover.start_search()
            patron.failover.work()

    def _backend(self, node_id: int) -> BackendConf:
        return self._patron.settings.backends[node_id]
