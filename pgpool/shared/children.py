"""What is known of each child process: who it serves, what it does now, what it has counted."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address, ip_network

from pgpool.model import Counter
from pgpool.shared.layout import (
    CHILD,
    HISTOGRAM_WORDS,
    HOST_BYTES,
    HOT_CLIENTS,
    HOT_COUNTERS,
    HOT_GUESTS,
    HOT_LAST_ACTIVITY,
    HOT_LATENCY,
    HOT_NODE_SIZE,
    HOT_QUERIES,
    HOT_REASON_COUNT,
    HOT_REASONS,
    HOT_STATEMENT,
    HOT_STATEMENT_LEN,
    HOT_STATEMENT_SIZE,
    HOT_STATUS,
    HOT_WAIT,
    ORDERS,
    PORT_BYTES,
    Layout,
    Record,
    Words,
    to_bytes,
    to_text,
)
from pgpool.shared.slots import Slot
from pgpool.system.hidden import without_passwords

_U32 = struct.Struct("@I")
_U64 = struct.Struct("@Q")
_THREE_U64 = struct.Struct("@3Q")
_COUNTERS = struct.Struct(f"@{len(Counter)}Q")
_REASONS = struct.Struct(f"@{HOT_REASON_COUNT}Q")
_HISTOGRAM = struct.Struct(f"@{HISTOGRAM_WORDS}Q")
Histogram = tuple[int, ...]
"""The sum in microseconds, then a count for each bucket (layout.HISTOGRAM_WORDS)."""


class ChildStatus(IntEnum):
    """Column status of SHOW pool_pools; the numbers are those of the hot child cell."""

    WAIT = 0
    CONNECTING = 1
    IDLE = 2
    IDLE_IN_TRANSACTION = 3
    EXECUTE = 4

    @property
    def text(self) -> str:
        return STATUS_TEXT[self]


STATUS_TEXT = ("Wait for connection", "Connecting", "Idle", "Idle in transaction", "Execute command")


@dataclass(frozen=True, slots=True)
class ChildView:
    """``pid`` 0: no child lives in this place. ``pool``: the slot in use or used last, -1 for none.
    ``balance_node``: of the session, -1 for none. Times in seconds since 1970, 0.0 for never."""

    index: int
    pid: int
    start_time: float
    served: int
    connected: bool
    pool: int
    balance_node: int
    session_start: float
    session_end: float
    client_host: str
    client_port: str
    status: ChildStatus
    last_activity: float
    statement: str


@dataclass(frozen=True, slots=True)
class RelayCounts:
    """Totals of the fast path since start."""

    queries: int
    verdict_hits: int
    verdict_misses: int


def source_of(host: str) -> str:
    """Who is meant by an address, for a limit: a v6 host can pick any address of its /64 network for itself."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return host if address.version == 4 else str(ip_network((int(address), 64), strict=False))


class Child:
    """One place for a child. Writing is for the child in it; ``clear`` and ``order_restart`` are for the parent."""

    def __init__(self, words: Words, layout: Layout, index: int):
        self.index = index
        self.nodes = layout.nodes
        self.hot_offset = layout.hot(index)
        """Where the hot cell begins in the mapping: a multiple of 64."""
        self.hot = words.buf[self.hot_offset : self.hot_offset + layout.hot_size]
        """The hot cell itself, for C."""
        self.slots = [Slot(words, layout, index, p) for p in range(layout.pools)]
        self._words = words.of["I"]
        self._cell = Record(words, layout.child(index), CHILD)
        self.words = self._cell.bytes
        """The child cell itself, for C."""
        self._orders = Record(words, layout.orders(index), ORDERS)
        self.orders = [self._orders.word(field) for field in ORDERS.fields]
        """The words with which the parent orders something, for C."""

    # -- by the child -------------------------------------------------------------------------------------------

    def start(self, pid: int, now: float) -> None:
        """A new process begins to live here (called by it, or by the parent before it can run): the place is clear."""
        self._cell.write(pid=pid, start_time=now, pool=-1, balance_node=-1)

    def begin_session(self, host: str, port: str | int, now: float) -> None:
        """A client was accepted (the door has counted him). Host is an address, a name or ``[local]``, port a number."""
        self.set_status(ChildStatus.CONNECTING)
        self._cell.write(
            connected=1,
            served=self._cell.get("served") + 1,
            pool=-1,
            balance_node=-1,
            session_start=now,
            client_host=to_bytes(host, HOST_BYTES),
            client_port=to_bytes(str(port), PORT_BYTES),
        )

    def use_pool(self, pool: int, now: float) -> None:
        """The session uses this pool slot from now on; its cancel keys are good from now on."""
        self._cell.set("pool", pool)
        self.slots[pool].attach(now)

    def set_balance_node(self, node_id: int) -> None:
        """The session's load balance node; -1 for none."""
        self._cell.set("balance_node", node_id)

    def end_session(self, now: float) -> None:
        """The client is gone. The slot (if it still stands) is free for the next session."""
        pool = self._cell.get("pool")
        if pool >= 0:
            self.slots[pool].release(now)
        self._cell.write(connected=0, balance_node=-1, session_end=now, client_host=b"", client_port=b"")
        self._words[(self.hot_offset + HOT_STATEMENT_LEN) // 4] = 0
        self.set_status(ChildStatus.WAIT)

    def set_status(self, status: ChildStatus) -> None:
        """Outside of C's reach: waiting and connecting."""
        self._words[(self.hot_offset + HOT_STATUS) // 4] = int(status)

    # -- by the parent ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """From zeroed memory to a place in which nobody lives. (To write zeros would make the memory that of the parent.)"""
        self._cell.write(pool=-1, balance_node=-1)

    def clear(self) -> None:
        """The child is dead: nobody is connected, no key is valid. Counters stay: the next child counts on."""
        for slot in self.slots:
            slot.clear()
        self._cell.clear()
        self.begin()
        self._orders.set("restart", 0)
        self._orders.set("leave", 0)
        self.hot[:HOT_QUERIES] = bytes(HOT_QUERIES)
        self.hot[HOT_STATEMENT : HOT_STATEMENT + HOT_STATEMENT_SIZE] = bytes(HOT_STATEMENT_SIZE)

    def order_restart(self) -> None:
        """The child shall exit when its session has ended (behaviour.md 10.3)."""
        self._orders.set("restart", 1)

    def order_leave(self, leave: bool) -> None:
        """The child shall exit if it is idle (dynamic process management); False takes that back."""
        self._orders.set("leave", int(leave))

    # -- by anybody ---------------------------------------------------------------------------------------------

    @property
    def restart_ordered(self) -> bool:
        return bool(self._orders.get("restart"))

    @property
    def leave_ordered(self) -> bool:
        return bool(self._orders.get("leave"))

    @property
    def links(self) -> int:
        """How many backend connections this child keeps."""
        return sum(slot.links for slot in self.slots)

    def quiet_for(self) -> float:
        """Seconds since the session began or ended its last request; never below 0."""
        return max(0.0, time.monotonic() - _U64.unpack_from(self.hot, HOT_LAST_ACTIVITY)[0] / 1e6)

    @property
    def pid(self) -> int:
        return self._cell.get("pid")

    @property
    def connected(self) -> bool:
        return bool(self._cell.get("connected"))

    def logs_in(self, source: str) -> bool:
        """Is its client from ``source`` (as source_of has it), and not logged in yet?"""
        if not self.connected or self.status is not ChildStatus.CONNECTING:
            return False
        return source_of(to_text(self._cell.get("client_host"))) == source

    @property
    def balance_node(self) -> int:
        return self._cell.get("balance_node")

    @property
    def status(self) -> ChildStatus:
        return ChildStatus(_U32.unpack_from(self.hot, HOT_STATUS)[0])

    @property
    def pool_in_use(self) -> Slot | None:
        """The slot a client uses now."""
        pool = self._cell.get("pool")
        if self.connected and pool >= 0 and self.slots[pool].connected:
            return self.slots[pool]
        return None

    def view(self) -> ChildView:
        cell = self._cell.read()
        activity, statement = self._statement()
        return ChildView(
            index=self.index,
            pid=cell.pid,
            start_time=cell.start_time,
            served=cell.served,
            connected=bool(cell.connected),
            pool=cell.pool,
            balance_node=cell.balance_node,
            session_start=cell.session_start,
            session_end=cell.session_end,
            client_host=to_text(cell.client_host),
            client_port=to_text(cell.client_port),
            status=self.status,
            last_activity=time.time() - time.monotonic() + activity / 1e6 if activity else 0.0,
            statement=statement,
        )

    def _statement(self) -> tuple[int, str]:
        """(last activity in microseconds, statement text). C writes without a sequence number: look until the time of
        the last activity stands still."""
        activity, raw = 0, b""
        for _ in range(20):
            activity = _U64.unpack_from(self.hot, HOT_LAST_ACTIVITY)[0]
            size = min(_U32.unpack_from(self.hot, HOT_STATEMENT_LEN)[0], HOT_STATEMENT_SIZE)
            raw = bytes(self.hot[HOT_STATEMENT : HOT_STATEMENT + size])
            if _U64.unpack_from(self.hot, HOT_LAST_ACTIVITY)[0] == activity:
                break
        return activity, without_passwords(raw.decode("utf-8", "replace").rstrip("\ufffd"))

    def counters(self, node_id: int) -> tuple[int, ...]:
        """What this place has counted for one node, in the order of model.Counter."""
        return _COUNTERS.unpack_from(self.hot, HOT_COUNTERS + node_id * HOT_NODE_SIZE)

    def latency(self, node_id: int) -> tuple[Histogram, Histogram]:
        """How long one node took to answer, as the primary and as a load balance node."""
        at = HOT_COUNTERS + node_id * HOT_NODE_SIZE + HOT_LATENCY
        return _HISTOGRAM.unpack_from(self.hot, at), _HISTOGRAM.unpack_from(self.hot, at + _HISTOGRAM.size)

    @property
    def waits(self) -> Histogram:
        """How long the clients of this place waited for a child."""
        return _HISTOGRAM.unpack_from(self.hot, HOT_WAIT)

    @property
    def reasons(self) -> tuple[int, ...]:
        """Statements routed, by model.Reason."""
        return _REASONS.unpack_from(self.hot, HOT_REASONS)

    @property
    def clients(self) -> int:
        """Clients served in this place since start."""
        return _U64.unpack_from(self.hot, HOT_CLIENTS)[0]

    @property
    def guests(self) -> int:
        """Those of them who were known already."""
        return _U64.unpack_from(self.hot, HOT_GUESTS)[0]

    def relay_counts(self) -> RelayCounts:
        return RelayCounts(*_THREE_U64.unpack_from(self.hot, HOT_QUERIES))
