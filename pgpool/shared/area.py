"""The whole shared area: made once by the parent before the first fork, then used by every process."""

from __future__ import annotations

import os
import struct
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pgpool.model import ClusterMode, Counter, NodeState, NodeView, Role
from pgpool.shared.children import Child, RelayCounts, source_of
from pgpool.shared.facts import SharedFacts
from pgpool.shared.layout import (
    CLUSTER,
    HEADER,
    MAGIC,
    MAX_NODES,
    RECOVERY,
    SPARE_NODES,
    VERDICT_BITS,
    VERDICT_ENTRY,
    Layout,
    Lock,
    Record,
    Words,
)
from pgpool.shared.nodes import Node
from pgpool.shared.requests import Queue
from pgpool.shared.written import WrittenTables
from pgpool.system.memory import SharedMemory

if TYPE_CHECKING:
    from pgpool.config.settings import Settings


def fact_entries(relcache_size: int) -> int:
    """Entries of the shared relation cache: for several databases and roles of the size that one child keeps."""
    return min(max(relcache_size, 0) * 16, 1 << 16) // 4 * 4


class Shared:
    """All facts that processes share. Docstrings name the one process that may call a writing method."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.memory = SharedMemory(layout.size)
        self.buf: memoryview = self.memory.buf
        words = Words(self.buf)
        self._header = Record(words, layout.header_at, HEADER)
        self._cluster = Record(words, layout.cluster_at, CLUSTER)
        self._recovery = Record(words, layout.recovery_at, RECOVERY)
        self._write_header()
        self.nodes = [Node(words, layout, n) for n in range(layout.nodes)]
        self.children = [Child(words, layout, c) for c in range(layout.children)]
        for child in self.children:
            child.begin()
        self.queue = Queue(words, layout, lambda: self.lock(Lock.QUEUE))
        self.header = self.buf[layout.header_at : layout.header_at + 64]
        """For C."""
        self.verdicts = self.buf[layout.verdict_at : layout.verdict_at + layout.verdict_entries * VERDICT_ENTRY]
        """The verdict table, for C: all zero at first."""
        self.written = WrittenTables(words, layout, lambda: self.lock(Lock.WRITTEN))
        self.facts = SharedFacts(words, layout, self.seeds) if layout.fact_entries else None
        """None: every child keeps its own (enable_shared_relcache)."""

    @classmethod
    def create(cls, settings: Settings, *, verdict_bits: int = VERDICT_BITS) -> Shared:
        """Lay out the area for num_init_children, max_pool and the configured backends; every one is WAITING,
        gaps in the numbering are UNUSED.

        Room is left for backends which a reload adds: 8 ids above the highest, 128 in all.
        """
        used = [b.id for b in settings.backends if b.used]
        highest = max(used, default=-1)
        nodes = min(highest + 1 + SPARE_NODES, MAX_NODES)
        pools, written = max(1, settings.max_pool), settings.track_table_mutation_table_size
        facts = fact_entries(settings.relcache_size) if settings.enable_shared_relcache else 0
        shared = cls(Layout(nodes, settings.num_init_children, pools, 1 << verdict_bits, written, facts))
        shared.written.begin(time.monotonic())
        now = time.time()
        shared._cluster.write(parent_pid=os.getpid(), start_time=now)
        for node_id in used:
            shared.nodes[node_id].write_state(NodeState.WAITING, False, "configured", now)
        shared._header.set("main_id", min(used, default=-1))
        return shared

    def _write_header(self) -> None:
        layout = self.layout
        seeds = struct.unpack("@QQ", os.urandom(16))
        values = {
            "version": 1,
            "epoch": 1,
            "seed0": seeds[0],
            "seed1": seeds[1],
            "primary_id": -1,
            "main_id": -1,
            "nodes": layout.nodes,
            "children": layout.children,
            "pools": layout.pools,
            "verdict_entries": layout.verdict_entries,
            "verdict_offset": layout.verdict_at,
            "hot_offset": layout.hot_at,
            "hot_size": layout.hot_size,
            "magic": MAGIC,
        }
        for field, value in values.items():
            self._header.set(field, value)

    def lock(self, which: Lock) -> AbstractContextManager:
        """Hold one of the kernel-freed locks: ``with shared.lock(Lock.QUEUE): ...``."""
        return self.memory.lock(int(which))

    # -- epoch --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Moves whenever a stored verdict may have become wrong; never 0."""
        return self._header.get("epoch")

    def bump_epoch(self) -> int:
        """By any process. Returns the new epoch."""
        with self.lock(Lock.EPOCH):
            epoch = self.epoch + 1 & 0xFFFFFFFF or 1
            self._header.set("epoch", epoch)
        return epoch

    @property
    def seeds(self) -> tuple[int, int]:
        """Two random 64-bit numbers, the same in all processes, for keyed hashes."""
        return self._header.get("seed0"), self._header.get("seed1")

    # -- nodes --------------------------------------------------------------------------------------------------

    @property
    def primary_id(self) -> int:
        """The primary's node id, -1 when unknown."""
        return self._header.get("primary_id")

    @property
    def main_id(self) -> int:
        """The lowest node that can be used, -1 when there is none."""
        return self._header.get("main_id")

    def set_primary(self, node_id: int) -> None:
        """By the parent. -1 for none."""
        if node_id >= 0:
            before = self._cluster.get("last_primary")
            if before and before != node_id + 1:
                self._cluster.set("primary_changes", self.primary_changes + 1)
            self._cluster.set("last_primary", node_id + 1)
        if node_id != self.primary_id:
            self._header.set("primary_id", node_id)
            self.bump_epoch()

    def set_node_state(
        self, node_id: int, state: NodeState, reason: str, *, quarantined: bool = False, now: float | None = None
    ) -> None:
        """The one mover of node states, by the parent. Quarantine is DOWN plus the flag. Finds the main node anew and
        moves the epoch. The time of the last change moves even when the state stays."""
        self.nodes[node_id].write_state(state, quarantined, reason, time.time() if now is None else now)
        self._header.set("main_id", self._find_main())
        self.bump_epoch()

    def _find_main(self) -> int:
        for node in self.nodes:
            view = node.view()
            if view.state.usable and not view.quarantined:
                return node.id
        return -1

    def has_room(self, settings: Settings) -> bool:
        """Can all backends of ``settings`` be kept? A reload that adds ids above the spare ones needs a restart."""
        return all(b.id < self.layout.nodes for b in settings.backends)

    def role(self, mode: ClusterMode, node_id: int) -> Role:
        """behaviour.md: primary and standby where there is a primary, else main and replica."""
        if mode.has_primary:
            return Role.PRIMARY if node_id == self.primary_id else Role.STANDBY
        return Role.MAIN if node_id == self.main_id else Role.REPLICA

    def node_views(self, settings: Settings) -> tuple[NodeView, ...]:
        """One snapshot per backend in id order, gaps in the numbering included (UNUSED); backends for which there is no
        room are left out."""
        mode = settings.mode
        views = []
        for conf in settings.backends:
            if conf.id >= self.layout.nodes:
                continue
            node = self.nodes[conf.id]
            state = node.view()
            views.append(
                NodeView(
                    id=conf.id,
                    hostname=conf.hostname,
                    port=conf.port,
                    weight=conf.weight,
                    state=state.state,
                    quarantined=state.quarantined,
                    role=self.role(mode, conf.id),
                    delay=node.delay_value,
                    delay_known=node.delay_known,
                    last_change=state.changed,
                )
            )
        return tuple(views)

    def counters(self, node_id: int) -> tuple[int, ...]:
        """Statements and errors of one node, summed over all children, in the order of model.Counter."""
        totals = [0] * len(Counter)
        for child in self.children:
            for i, value in enumerate(child.counters(node_id)):
                totals[i] += value
        return tuple(totals)

    def relay_counts(self) -> RelayCounts:
        """Requests, verdict hits and misses, summed over all children."""
        rows = [child.relay_counts() for child in self.children]
        return RelayCounts(
            sum(r.queries for r in rows), sum(r.verdict_hits for r in rows), sum(r.verdict_misses for r in rows)
        )

    # -- children -----------------------------------------------------------------------------------------------

    def connected_clients(self) -> int:
        """How many children serve a client now (reserved_connections, smart shutdown)."""
        return sum(child.connected for child in self.children)

    def logins_from(self, host: str) -> int:
        """How many children are busy with a client from ``host`` that has not logged in yet (max_logins_per_host)."""
        source = source_of(host)
        return sum(child.logs_in(source) for child in self.children)

    def child_of(self, pid: int) -> Child | None:
        """The child with this pid."""
        return next((c for c in self.children if pid and c.pid == pid), None)

    def find_cancel_key(self, pid: int, key: bytes) -> list[tuple[int, int, int, int, bytes]]:
        """(child, pool, node, backend pid, backend key) of every backend of the session that owns (pid, key).

        Only sessions with a client now are looked at: a pooled connection's old key cancels nothing. Empty when nobody
        owns it.
        """
        for child in self.children:
            slot = child.pool_in_use
            if slot is not None and slot.owns_key(pid, key):
                return [(child.index, slot.pool, *backend) for backend in slot.backend_keys()]
        return []

    # -- the cluster's condition --------------------------------------------------------------------------------

    @property
    def parent_pid(self) -> int:
        return self._cluster.get("parent_pid")

    def set_parent_pid(self, pid: int) -> None:
        """By the parent, after it became a daemon."""
        self._cluster.set("parent_pid", pid)

    @property
    def start_time(self) -> float:
        return self._cluster.get("start_time")

    @property
    def in_the_way(self) -> list[memoryview]:
        """The words that say whether new sessions must wait, for C: ``switching``, ``recovery_stage``."""
        return [self._cluster.word("switching"), self._recovery.word("stage")]

    @property
    def stopping(self) -> bool:
        """A shutdown has begun."""
        return bool(self._cluster.get("stopping"))

    @property
    def switching(self) -> bool:
        """The parent works on a failover, failback or promotion: new sessions wait (behaviour.md 10.3)."""
        return bool(self._cluster.get("switching"))

    @property
    def following(self) -> bool:
        """follow_primary_command runs."""
        return bool(self._cluster.get("following"))

    @property
    def reload_count(self) -> int:
        """How often pgpool.conf was read again with success."""
        return self._cluster.get("reload_count")

    def set_condition(
        self, *, stopping: bool | None = None, switching: bool | None = None, following: bool | None = None
    ) -> None:
        """By the parent: the given ones change, the others stay."""
        given = {"stopping": stopping, "switching": switching, "following": following}
        self._cluster.write(**{name: int(value) for name, value in given.items() if value is not None})

    def count_reload(self) -> None:
        """By the parent, after a reload: also moves the epoch."""
        self._cluster.set("reload_count", self.reload_count + 1)
        self.bump_epoch()

    @property
    def primary_changes(self) -> int:
        """How often since start another node became the primary."""
        return self._cluster.get("primary_changes")

    @property
    def recovery(self) -> tuple[int, int, int]:
        """(pid of the process that does online recovery, node id, stage); pid 0 when there is none. In stage 2 new
        clients wait."""
        cell = self._recovery.read()
        return cell.pid, cell.node_id, cell.stage

    @property
    def recovery_stage(self) -> int:
        """0 while there is no online recovery."""
        return self._recovery.get("stage")

    def begin_recovery(self, pid: int, node_id: int, stage: int = 1) -> bool:
        """By a PCP worker. False when another one is at it."""
        with self.lock(Lock.RECOVERY):
            owner = self._recovery.get("pid")
            if owner not in (0, pid):
                return False
            self._recovery.write(pid=pid, node_id=node_id, stage=stage)
        return True

    def end_recovery(self, pid: int) -> None:
        """By the same PCP worker, or by the parent for a dead one. Nothing happens when ``pid`` does not own it."""
        with self.lock(Lock.RECOVERY):
            if self._recovery.get("pid") == pid:
                self._recovery.clear()
