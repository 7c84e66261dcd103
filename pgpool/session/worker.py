"""What one child owns from its birth to its end, whichever client it serves."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pgpool._fastpath import Door, Relay
from pgpool.auth.hba import Hba
from pgpool.auth.passwd import PasswordFile
from pgpool.backend.catalog import Catalog
from pgpool.backend.pool import Pool
from pgpool.backend.probe import Prober
from pgpool.backend.relcache import Relcache
from pgpool.config.settings import Settings
from pgpool.model import ClusterMode, NodeState, NodeView
from pgpool.policy.route import RoutingSettings
from pgpool.shared import Child, RequestFlag, RequestKind, Shared
from pgpool.system import process, signals
from pgpool.wire import messages

_WORDS = struct.Struct("64Q")
DOUBT_PAUSE = 0.25
"""Seconds between two looks at the roles of the servers that one child asks for."""


def throws() -> Iterator[float]:
    """A dice: numbers from 0.0 up to, not including, 1.0. Each process begins its own: the state of the random module
    would be the parent's, and so the same in all children (process.fork)."""
    while True:
        for word in _WORDS.unpack(os.urandom(_WORDS.size)):
            yield (word >> 11) * 2.0**-53


@dataclass(slots=True)
class Worker:
    """``woken``: called when a signal came; applies what can be applied at once, raises ProcessExit to end this process.

    Made by the parent; what has no default and is not given then belongs to one process, and is there once that is born.
    """

    settings: Settings
    shared: Shared
    relcache: Relcache
    routing: RoutingSettings
    woken: Callable[[], None]
    hba: Hba | None = None
    passwords: PasswordFile = field(default_factory=PasswordFile)
    title: Callable[[str], None] = lambda text: None
    dice: Callable[[], float] = field(default_factory=lambda: throws().__next__)
    index: int = field(init=False)
    cell: Child = field(init=False)
    pool: Pool = field(init=False)
    relay: Relay = field(init=False)
    door: Door = field(init=False)
    wakeup_fd: int = field(init=False)
    finishing: bool = False
    """Exit when the session is over."""
    _hashed: RoutingSettings | None = None
    _routing_hash: int = 0
    _reset_of: Settings | None = None
    _reset: tuple[tuple[bytes, bool], ...] = ()
    _nodes: tuple[NodeView, ...] = field(default=())
    _nodes_epoch: int = 0
    _nodes_time: float = 0.0
    _doubt_again: float = 0.0

    def routing_hash(self) -> int:
        """hash(routing), worked out once for each reload."""
        if self._hashed is not self.routing:
            self._hashed, self._routing_hash = self.routing, hash(self.routing)
        return self._routing_hash

    def reset_queries(self) -> tuple[tuple[bytes, bool], ...]:
        """reset_query_list as (SQL, is it needed only where a transaction is open)."""
        if self._reset_of is not self.settings:
            self._reset_of = self.settings
            self._reset = tuple(
                (messages.raw(sql), sql.strip().upper() in ("ABORT", "ROLLBACK"))
                for sql in self.settings.reset_query_list
            )
        return self._reset

    def nodes(self) -> tuple[NodeView, ...]:
        """A snapshot of the nodes; taken again when the epoch has moved, and every second while delays count."""
        epoch = self.shared.epoch
        watch_delay = self.routing.delay_limit or self.routing.everywhere
        if epoch != self._nodes_epoch or (watch_delay and time.monotonic() - self._nodes_time > 1):
            self._nodes = self.shared.node_views(self.settings)
            self._nodes_epoch = epoch
            self._nodes_time = time.monotonic()
        return self._nodes

    def forget_nodes(self) -> None:
        """The settings are new: the parent may have moved the epoch before this process had them."""
        self._nodes_epoch = 0

    def catalog(self, node_id: int) -> Catalog | None:
        """Whom to ask about a client's secret and roles; None where auth_query_user is not set."""
        if not self.settings.auth_query_user:
            return None
        backend = next(b for b in self.settings.backends if b.id == node_id)
        return Catalog(backend, self.prober(self.settings))

    def prober(self, settings: Settings) -> Prober:
        """For questions to backends on our own behalf."""
        return Prober(settings, self.passwords, self.wakeup_fd, self.woken)

    def node(self, node_id: int) -> NodeView | None:
        return next((n for n in self.nodes() if n.id == node_id), None)

    def connected(self, node_id: int, status: Mapping[str, str]) -> None:
        """The first successful connect makes a waiting node an up one (behaviour.md 3). ``status``: what the server has told
        of its parameters."""
        if self.shared.nodes[node_id].state is NodeState.WAITING:
            self.ask_parent(RequestKind.CONNECTED, [node_id])
        role = status.get("in_hot_standby")
        if role and (role == "on") == (node_id == self.shared.primary_id):
            self.doubt_roles()

    def doubt_roles(self) -> None:
        """A server spoke as if the primary were another one: the streaming check looks at once."""
        now = time.monotonic()
        if self.settings.mode is not ClusterMode.STREAMING_REPLICATION or now < self._doubt_again:
            return
        self._doubt_again = now + DOUBT_PAUSE
        self.ask_parent(RequestKind.LOOK)

    def ask_parent(
        self, kind: RequestKind, node_ids: Sequence[int] = (), flags: RequestFlag = RequestFlag.NONE
    ) -> bool:
        """Queue a request and wake the parent; False when the queue is full."""
        queued = self.shared.queue.push(kind, node_ids, flags, os.getpid())
        if queued:
            process.kill(self.shared.parent_pid, signals.SIGUSR1)
        return queued

    def primary_id(self) -> int:
        """The node that writes go to: the primary, or the main node where there is none; -1 when nothing can be used."""
        if self.settings.mode is not ClusterMode.RAW:
            primary = self.shared.primary_id
            node = self.node(primary)
            if node is not None and node.usable:
                return primary
        return self.shared.main_id
