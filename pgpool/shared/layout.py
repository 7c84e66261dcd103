"""Bytes in shared memory: which cells exist, what is in them, where they lie, and who may write them.

One anonymous mapping holds everything. It is cut into cells; every cell begins at a multiple of 64 bytes (a cache line)
and has ONE writing process:

    cell            how many             writer
    --------------  -------------------  ------------------------------------------------------------------------
    HEADER          1                    parent before the first fork; ``epoch`` any process holding Lock.EPOCH
    CLUSTER         1                    parent
    RECOVERY        1                    the PCP worker holding Lock.RECOVERY; parent when that worker died
    QUEUE, REQUEST  1, 10                any process holding Lock.QUEUE
    NODE_STATE      nodes                parent
    NODE_DELAY      nodes                sr check worker
    NODE_HEALTH     nodes                health check process of that node
    CHILD           children             that child; parent while no child lives in the place
    ORDERS          children             parent
    hot child cell  children             that child, mostly from C (offsets below); parent while no child lives there
    SLOT, BACKEND   children x pools     that child; parent while no child lives there
    verdict table   1                    every child, from C: entries are two u64 which check each other
    facts           1                    every child: entries are four u64, the last of which checks the others
    WRITTEN         1                    ``since``: parent; the rest, and its entries: any child holding Lock.WRITTEN

Readers take a snapshot: ``Record.read`` copies a cell between two looks at its sequence number, which is odd while the
writer is at work. Words (u32, u64, double) are written in one store: never with struct.pack_into, which zeroes them
first: a reader in another process could see the zero. (The order of stores is that of x86-64; a machine which reorders
them may show a torn row in a report, but never more: keys are compared whole, states are single words.)
"""

from __future__ import annotations

import os
import struct
import time
from collections import namedtuple
from enum import IntEnum

MAGIC = 0x6C6F6F7067702D79
"""First word of the header."""

ALIGN = 64
MAX_NODES = 128
"""behaviour.md 2: at most 128 backends."""
SPARE_NODES = 8
"""Backends which a reload may add above the highest id configured at start."""
QUEUE_ENTRIES = 10
"""behaviour.md 2: the failover request queue has 10 entries."""
VERDICT_BITS = 15
VERDICT_ENTRY = 16
WRITTEN_ENTRIES = 2048
WRITTEN_ENTRY = 32
FACT_ENTRY = 32

NAME_BYTES = 63
"""Database and user names: NAMEDATALEN - 1; longer ones are cut between two characters."""
HOST_BYTES = 127
PORT_BYTES = 31
REASON_BYTES = 127
WORD_BYTES = 31
KEY_BYTES = 256
"""Cancel keys of protocol 3.2 are at most 256 bytes long."""

HOT_STATUS, HOT_STATEMENT_LEN, HOT_LAST_ACTIVITY = 0, 4, 8
HOT_QUERIES, HOT_VERDICT_HITS, HOT_VERDICT_MISSES = 16, 24, 32
HOT_CLIENTS = 40
"""Clients this place has served since start, whichever child lived in it."""
HOT_GUESTS = 48
"""Those of them whose session began without Python (session/returning.py)."""
HOT_STATEMENT, HOT_STATEMENT_SIZE = 64, 1024
HOT_REASONS, HOT_REASON_COUNT = 1088, 64
HOT_WAIT = 1600
"""Histogram of how long clients waited for this child."""
HOT_COUNTERS, HOT_NODE_SIZE = 2048, 512
HOT_LATENCY = 72
"""In the block of a node: histograms of its answers as primary, then as load balance node."""
HISTOGRAM_WORDS, BUCKETS, FIRST_BITS = 22, 21, 6
"""A histogram: the sum in microseconds, then the counts of what took less than 64 us, 128 us ... 33.5 s, or longer.

The hot child cell; C code writes it through a pointer, so these offsets are also in _fastpath."""


class Lock(IntEnum):
    """Byte-range locks, freed by the kernel when the holder dies."""

    EPOCH = 0
    QUEUE = 1
    RECOVERY = 2
    ACCEPT = 3
    FOLLOW_PRIMARY = 4
    QUERY_CACHE = 5
    WRITTEN = 6


class Cell:
    """A record type: named fields with native alignment. Codes are those of ``struct``; ``64s`` is NUL padded text."""

    def __init__(self, name: str, writer: str, **fields: str):
        self.name = name
        self.writer = writer
        self.fields: dict[str, tuple[int, str, int]] = {}
        """name -> (offset in the cell, code, bytes)"""
        form = "@"
        for field, code in fields.items():
            offset = struct.calcsize(f"{form}0{code[-1]}")
            self.fields[field] = (offset, code[-1], struct.calcsize("@" + code))
            form += code
        self.whole = struct.Struct(form)
        self.size = -(-self.whole.size // ALIGN) * ALIGN
        self.row = namedtuple(name, fields)


HEADER = Cell(
    "Header",
    "parent",
    magic="Q",
    epoch="I",
    version="I",
    seed0="Q",
    seed1="Q",
    primary_id="i",
    main_id="i",
    nodes="I",
    children="I",
    pools="I",
    verdict_entries="I",
    verdict_offset="Q",
    hot_offset="Q",
    hot_size="Q",
)
"""Fixed offsets, read by C: 0 magic, 8 epoch, 16 and 24 seeds, 32 primary id, 36 main id (-1: none), 52 entries and 56
offset of the verdict table, 64 offset and 72 size of the hot child cells."""

CLUSTER = Cell(
    "Cluster",
    "parent",
    seq="I",
    parent_pid="i",
    start_time="d",
    stopping="I",
    switching="I",
    following="I",
    reload_count="I",
    primary_changes="I",
    last_primary="i",
)
RECOVERY = Cell("Recovery", "PCP worker", seq="I", pid="i", node_id="i", stage="I")
QUEUE = Cell("Queue", "lock holder", head="Q", tail="Q")
REQUEST = Cell("RequestCell", "lock holder", kind="I", flags="I", from_pid="i", count="I", ids=f"{MAX_NODES}s")
NODE_STATE = Cell(
    "NodeStateCell",
    "parent",
    seq="I",
    state="I",
    quarantined="I",
    downs="I",
    ups="I",
    changed="d",
    reason=f"{REASON_BYTES + 1}s",
)
NODE_DELAY = Cell(
    "NodeDelayCell",
    "sr check worker",
    seq="I",
    known="I",
    delay="Q",
    checked="d",
    state=f"{WORD_BYTES + 1}s",
    sync_state=f"{WORD_BYTES + 1}s",
)
NODE_HEALTH = Cell(
    "NodeHealthCell",
    "health check process",
    seq="I",
    total="Q",
    success="Q",
    fail="Q",
    skip="Q",
    retry="Q",
    max_retry="Q",
    max_ms="d",
    min_ms="d",
    sum_ms="d",
    last="d",
    last_success="d",
    last_skip="d",
    last_fail="d",
)
CHILD = Cell(
    "ChildCell",
    "child",
    seq="I",
    pid="i",
    start_time="d",
    served="Q",
    connected="I",
    pool="i",
    balance_node="i",
    session_start="d",
    session_end="d",
    client_host=f"{HOST_BYTES + 1}s",
    client_port=f"{PORT_BYTES + 1}s",
)
ORDERS = Cell("Orders", "parent", restart="I", leave="I")
SLOT = Cell(
    "SlotCell",
    "child",
    seq="I",
    filled="I",
    connected="I",
    major="I",
    minor="I",
    counter="I",
    created="d",
    client_connected="d",
    client_disconnected="d",
    database=f"{NAME_BYTES + 1}s",
    username=f"{NAME_BYTES + 1}s",
)
WRITTEN = Cell("Written", "lock holder", since="d", any_first="d", any_last="d")
"""Its entries follow: key, time of the first and of the last write, a spare word."""
BACKEND = Cell("BackendCell", "child", seq="I", pid="i", created="d", key_len="I", key=f"{KEY_BYTES}s")


def to_bytes(text: str | bytes, limit: int) -> bytes:
    """``text`` in UTF-8, at most ``limit`` bytes, cut between two characters; what follows a NUL is dropped."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    raw = raw.partition(b"\0")[0]
    if len(raw) > limit:
        end = limit
        while end > 0 and limit - end < 4 and raw[end] & 0xC0 == 0x80:
            end -= 1
        raw = raw[:end]
    return raw


def to_text(raw: bytes) -> str:
    """The text of a NUL padded field; bytes which are not UTF-8 become U+FFFD."""
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


class Words:
    """The mapping as bytes and as words of each code."""

    def __init__(self, buf: memoryview):
        """``buf``: a writable memoryview of bytes; its length a multiple of 8."""
        self.buf = buf
        self.of: dict[str, memoryview] = {code: buf.cast(code) for code in "IiQd"}


class Record:
    """One cell at one place. ``get``/``set`` for single words; ``write``/``read`` for groups that belong together."""

    __slots__ = ("buf", "cell", "offset", "words")

    STUCK = 0.25
    """Seconds after which a sequence number that stays odd is that of a dead writer: a write takes microseconds,
    a writer that lost its processor some milliseconds."""

    def __init__(self, words: Words, offset: int, cell: Cell):
        self.buf = words.buf
        self.words = words.of
        self.offset = offset
        self.cell = cell

    @property
    def bytes(self) -> memoryview:
        """The cell itself."""
        return self.buf[self.offset : self.offset + self.cell.size]

    def word(self, field: str) -> memoryview:
        """One u32 field in place, for C."""
        at = (self.offset + self.cell.fields[field][0]) // 4
        return self.words["I"][at : at + 1]

    def get(self, field: str):
        """A number, or the bytes of a text field with its padding."""
        at, code, size = self.cell.fields[field]
        at += self.offset
        return bytes(self.buf[at : at + size]) if code == "s" else self.words[code][at // size]

    def set(self, field: str, value) -> None:
        """Store a number, or bytes that fit into a text field. Raises ValueError for what does not fit."""
        at, code, size = self.cell.fields[field]
        at += self.offset
        if code == "s":
            self.buf[at : at + size] = value.ljust(size, b"\0")
        else:
            self.words[code][at // size] = value

    def write(self, **values) -> None:
        """Change fields so that no reader sees some of them changed and some not. Only for the cell's one writer.

        Also repairs the sequence number of a writer which was killed in the middle.
        """
        fields, start, buf, words = self.cell.fields, self.offset, self.buf, self.words
        seq = words["I"]
        seq_at = (start + fields["seq"][0]) // 4
        busy = seq[seq_at] | 1
        seq[seq_at] = busy
        for field, value in values.items():
            at, code, size = fields[field]
            at += start
            if code == "s":
                buf[at : at + size] = value.ljust(size, b"\0")
            else:
                words[code][at // size] = value
        seq[seq_at] = busy + 1 & 0xFFFFFFFF

    def clear(self) -> None:
        """All fields zero."""
        busy = self.get("seq") | 1
        self.set("seq", busy)
        start = self.offset + 4
        self.buf[start : self.offset + self.cell.size] = bytes(self.cell.size - 4)
        self.set("seq", busy + 1 & 0xFFFFFFFF)

    def read(self):
        """A snapshot as a named tuple. When the writer stands still in mid-write (killed) the last look counts."""
        whole, end = self.cell.whole, self.offset + self.cell.whole.size
        busy, since = -1, 0.0
        while True:
            before = self.get("seq")
            raw = bytes(self.buf[self.offset : end])
            if not before & 1 and self.get("seq") == before:
                break
            if before != busy:
                busy, since = before, time.monotonic()
            elif time.monotonic() - since > self.STUCK:
                break
            os.sched_yield()
        return self.cell.row._make(whole.unpack(raw))


class Layout:
    """Where each cell lies, for given numbers of nodes, children, pools and verdict entries (a power of two)."""

    def __init__(
        self,
        nodes: int,
        children: int,
        pools: int,
        verdict_entries: int = 1 << VERDICT_BITS,
        written_entries: int = WRITTEN_ENTRIES,
        fact_entries: int = 0,
    ):
        self.nodes, self.children, self.pools, self.verdict_entries = nodes, children, pools, verdict_entries
        self.written_entries, self.fact_entries = written_entries, fact_entries
        self.size = 0
        """Bytes of the whole mapping."""
        self.header_at = self._take(HEADER.size)
        self.cluster_at = self._take(CLUSTER.size)
        self.recovery_at = self._take(RECOVERY.size)
        self.queue_at = self._take(QUEUE.size + QUEUE_ENTRIES * REQUEST.size)
        self.node_at = self._take(nodes * self.node_size)
        self.hot_at = self._take(children * self.hot_size)
        self.child_at = self._take(children * self.child_size)
        self.slot_at = self._take(children * pools * self.slot_size)
        self.verdict_at = self._take(verdict_entries * VERDICT_ENTRY)
        self.written_at = self._take(WRITTEN.size + written_entries * WRITTEN_ENTRY)
        self.facts_at = self._take(fact_entries * FACT_ENTRY)

    def _take(self, size: int) -> int:
        at = self.size
        self.size += -(-size // ALIGN) * ALIGN
        return at

    @property
    def node_size(self) -> int:
        return NODE_STATE.size + NODE_DELAY.size + NODE_HEALTH.size

    @property
    def hot_size(self) -> int:
        return HOT_COUNTERS + self.nodes * HOT_NODE_SIZE

    @property
    def child_size(self) -> int:
        return CHILD.size + ORDERS.size

    @property
    def slot_size(self) -> int:
        return SLOT.size + self.nodes * BACKEND.size

    def cells(self) -> list[tuple[str, int, int]]:
        """(cell name with indexes, offset, size) of every cell: what the tests check for gaps and overlaps."""
        out = [("header", self.header_at, HEADER.size), ("cluster", self.cluster_at, CLUSTER.size)]
        out += [("recovery", self.recovery_at, RECOVERY.size), ("queue", self.queue_at, QUEUE.size)]
        out += [(f"request[{i}]", self.request(i), REQUEST.size) for i in range(QUEUE_ENTRIES)]
        for n in range(self.nodes):
            for cell, at in zip((NODE_STATE, NODE_DELAY, NODE_HEALTH), self.node(n), strict=True):
                out.append((f"{cell.name}[{n}]", at, cell.size))
        for c in range(self.children):
            out.append((f"hot[{c}]", self.hot(c), self.hot_size))
            out.append((f"child[{c}]", self.child(c), CHILD.size))
            out.append((f"orders[{c}]", self.orders(c), ORDERS.size))
            for p in range(self.pools):
                out.append((f"slot[{c},{p}]", self.slot(c, p), SLOT.size))
                out += [(f"backend[{c},{p},{n}]", self.backend(c, p, n), BACKEND.size) for n in range(self.nodes)]
        out.append(("verdicts", self.verdict_at, self.verdict_entries * VERDICT_ENTRY))
        out.append(("facts", self.facts_at, self.fact_entries * FACT_ENTRY))
        out.append(("written", self.written_at, WRITTEN.size + self.written_entries * WRITTEN_ENTRY))
        return out

    def request(self, i: int) -> int:
        return self.queue_at + QUEUE.size + i * REQUEST.size

    def node(self, n: int) -> tuple[int, int, int]:
        """Offsets of the state, delay and health cells of node ``n``."""
        state = self.node_at + n * self.node_size
        return state, state + NODE_STATE.size, state + NODE_STATE.size + NODE_DELAY.size

    def hot(self, child: int) -> int:
        return self.hot_at + child * self.hot_size

    def child(self, child: int) -> int:
        return self.child_at + child * self.child_size

    def orders(self, child: int) -> int:
        return self.child(child) + CHILD.size

    def slot(self, child: int, pool: int) -> int:
        return self.slot_at + (child * self.pools + pool) * self.slot_size

    def backend(self, child: int, pool: int, node: int) -> int:
        return self.slot(child, pool) + SLOT.size + node * BACKEND.size
