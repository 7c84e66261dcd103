"""The request queue: what processes ask the parent to do about nodes. They push, then wake the parent with SIGUSR1."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from pgpool.shared.layout import MAX_NODES, QUEUE, QUEUE_ENTRIES, REQUEST, Layout, Record, Words


class RequestKind(IntEnum):
    DOWN = 1
    """Detach nodes (degenerate)."""
    UP = 2
    """Attach a node (failback)."""
    PROMOTE = 3
    """Make a node the primary in our eyes (pcp_promote_node); with SWITCHOVER, have it promoted."""
    QUARANTINE = 4
    CONNECTED = 5
    """A session connected to a node that was waiting: it is up."""
    CLOSE_IDLE = 6
    """All children shall close their idle connections (before DROP DATABASE)."""
    FIND_PRIMARY = 7
    """Another node was seen to be the primary: the parent asks all of them again."""
    ROTATE_LOG = 8
    """The logger shall begin a new file (pcp_log_rotate)."""
    LOOK = 9
    """A server spoke as if the primary were another one: the streaming check shall look at once."""


class RequestFlag(IntFlag):
    NONE = 0
    SWITCHOVER = 1
    """Asked for by a person: not stopped by DISALLOW_TO_FAILOVER's automatic part nor by consensus."""
    CONFIRMED = 2
    """The watchdog need not be asked."""
    PROMOTE = 4
    """With DOWN: the current primary makes room for the node in the last place of ``node_ids``."""
    TIMEOUT = 8
    """The health check ran into its time limit: all children restart (behaviour.md 10.3)."""
    SHUTDOWN = 16
    """The backend said that it was shut down."""
    BACKEND_ERROR = 32
    """A session could not talk to the node."""
    UPDATE = 64
    """With UP: back from quarantine."""
    WATCHDOG = 128
    """Came from another pgpool."""
    GRACEFUL = 256
    """With DOWN, from a person: not before the clients have gone (pcp_detach_node -g)."""


@dataclass(frozen=True, slots=True)
class Request:
    kind: RequestKind
    node_ids: tuple[int, ...]
    flags: RequestFlag
    from_pid: int


class Queue:
    """Ten entries in a ring; many writers, one reader (the parent)."""

    def __init__(self, words: Words, layout: Layout, lock: Callable[[], AbstractContextManager]):
        """``lock`` gives the kernel-freed lock of the queue as a context manager."""
        self._queue = Record(words, layout.queue_at, QUEUE)
        self._entries = [Record(words, layout.request(i), REQUEST) for i in range(QUEUE_ENTRIES)]
        self._lock = lock

    def __len__(self) -> int:
        return self._queue.get("tail") - self._queue.get("head")

    def push(
        self, kind: RequestKind, node_ids: Iterable[int], flags: RequestFlag = RequestFlag.NONE, from_pid: int = 0
    ) -> bool:
        """Append a request; False when the queue is full. A CONNECTED or LOOK request which already waits is not doubled.

        The entry counts once ``tail`` has moved: a process killed before that leaves nothing behind.
        """
        ids = bytes(node_ids)
        if len(ids) > MAX_NODES:
            raise ValueError("too many nodes in one request")
        with self._lock():
            head, tail = self._queue.get("head"), self._queue.get("tail")
            if kind in (RequestKind.CONNECTED, RequestKind.LOOK) and self._waiting(kind, ids):
                return True
            if tail - head >= QUEUE_ENTRIES:
                return False
            entry = self._entries[tail % QUEUE_ENTRIES]
            entry.set("kind", int(kind))
            entry.set("flags", int(flags))
            entry.set("from_pid", from_pid)
            entry.set("count", len(ids))
            entry.set("ids", ids)
            self._queue.set("tail", tail + 1)
        return True

    def pop(self) -> Request | None:
        """Take the oldest request; None when there is none. Only for the parent."""
        with self._lock():
            head = self._queue.get("head")
            if head == self._queue.get("tail"):
                return None
            request = self._request(head)
            self._queue.set("head", head + 1)
        return request

    def _request(self, at: int) -> Request:
        entry = self._entries[at % QUEUE_ENTRIES]
        ids = entry.get("ids")[: entry.get("count")]
        return Request(
            RequestKind(entry.get("kind")), tuple(ids), RequestFlag(entry.get("flags")), entry.get("from_pid")
        )

    def _waiting(self, kind: RequestKind, ids: bytes) -> bool:
        head = self._queue.get("head")
        for at in range(head, head + len(self)):
            request = self._request(at)
            if request.kind is kind and bytes(request.node_ids) == ids:
                return True
        return False
