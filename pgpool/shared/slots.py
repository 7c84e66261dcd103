"""The pool slots of a child: which backend connections it keeps, for whom, and the keys that cancel their queries."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from pgpool.shared.layout import BACKEND, KEY_BYTES, NAME_BYTES, SLOT, Layout, Record, Words, to_bytes, to_text


@dataclass(frozen=True, slots=True)
class BackendView:
    node_id: int
    pid: int
    created: float


@dataclass(frozen=True, slots=True)
class SlotView:
    """``backends`` holds only the nodes which are connected. Times in seconds since 1970, 0.0 for never."""

    child: int
    pool: int
    filled: bool
    connected: bool
    database: str
    username: str
    major: int
    minor: int
    counter: int
    created: float
    client_connected: float
    client_disconnected: float
    backends: tuple[BackendView, ...]

    def backend(self, node_id: int) -> BackendView | None:
        return next((b for b in self.backends if b.node_id == node_id), None)


class Slot:
    """One place in a child's pool: a (user, database, protocol) key and one connection per node."""

    def __init__(self, words: Words, layout: Layout, child: int, pool: int):
        self.child = child
        self.pool = pool
        self._slot = Record(words, layout.slot(child, pool), SLOT)
        self.words = self._slot.bytes
        """The slot's cell itself, for C."""
        self._backends = [Record(words, layout.backend(child, pool, n), BACKEND) for n in range(layout.nodes)]

    def fill(self, user: str | bytes, database: str | bytes, major: int, minor: int, now: float) -> None:
        """A new pool entry begins, in a slot that was free or has been cleared. Names are cut at 63 bytes."""
        self.clear()
        self._slot.write(
            filled=1,
            major=major,
            minor=minor,
            created=now,
            database=to_bytes(database, NAME_BYTES),
            username=to_bytes(user, NAME_BYTES),
        )

    def set_backend(self, node_id: int, pid: int, key: bytes, now: float) -> None:
        """The connection to ``node_id`` stands; ``key`` as in its BackendKeyData. ValueError when over 256 bytes."""
        if len(key) > KEY_BYTES:
            raise ValueError(f"cancel key of {len(key)} bytes")
        self._backends[node_id].write(pid=pid, created=now, key_len=len(key), key=key)

    def clear_backend(self, node_id: int) -> None:
        """The connection to ``node_id`` is closed; the entry stays."""
        self._backends[node_id].clear()

    def attach(self, now: float) -> None:
        """A client begins to use the entry."""
        self._slot.write(
            connected=1, counter=self._slot.get("counter") + 1, client_connected=now, client_disconnected=0.0
        )

    def release(self, now: float) -> None:
        """The client has left, the entry stays for the next one."""
        if self._slot.get("connected"):
            self._slot.write(connected=0, client_disconnected=now)

    def clear(self) -> None:
        """Free the slot: every connection is closed, keys are wiped."""
        for record in self._backends:
            record.clear()
        self._slot.clear()

    @property
    def links(self) -> int:
        """How many backends are connected."""
        return sum(bool(record.get("pid")) for record in self._backends) if self.filled else 0

    @property
    def filled(self) -> bool:
        return bool(self._slot.get("filled"))

    @property
    def connected(self) -> bool:
        return bool(self._slot.get("connected"))

    def view(self) -> SlotView:
        cell = self._slot.read()
        backends = []
        for node_id, record in enumerate(self._backends):
            if record.get("pid"):
                backend = record.read()
                backends.append(BackendView(node_id, backend.pid, backend.created))
        return SlotView(
            child=self.child,
            pool=self.pool,
            filled=bool(cell.filled),
            connected=bool(cell.connected),
            database=to_text(cell.database),
            username=to_text(cell.username),
            major=cell.major,
            minor=cell.minor,
            counter=cell.counter,
            created=cell.created,
            client_connected=cell.client_connected,
            client_disconnected=cell.client_disconnected,
            backends=tuple(backends),
        )

    def backend_keys(self) -> list[tuple[int, int, bytes]]:
        """(node id, backend pid, key) of every connected backend."""
        out = []
        for node_id, record in enumerate(self._backends):
            if record.get("pid"):
                cell = record.read()
                if cell.pid:
                    out.append((node_id, cell.pid, cell.key[: cell.key_len]))
        return out

    def owns_key(self, pid: int, key: bytes) -> bool:
        """Is (pid, key) that of one of the slot's backends? The comparison takes the same time wherever keys differ."""
        found = False
        for _, backend_pid, backend_key in self.backend_keys():
            if backend_pid == pid and hmac.compare_digest(backend_key, key):
                found = True
        return found
