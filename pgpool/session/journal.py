"""What a session has set, so that a node which joins later can be brought to the same state (behaviour.md 5.1).

Only one backend answers a SET; the others are told by replay when a statement first goes there. Settings of an open
transaction are kept apart, with the savepoints between them: they are replayed behind the BEGIN, and count for the session
only when the transaction has committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ALL = "*"
"""Key of RESET ALL: it comes first and wipes what was set before."""
MAX_BYTES = 1 << 20
"""Past this many bytes of settings a session stays on the primary instead of being replayed."""


@dataclass(slots=True)
class Entry:
    """``savepoint``: a marker, not a setting. ``local``: ends with the transaction."""

    key: str
    sql: bytes = b""
    local: bool = False
    savepoint: bool = False


@dataclass(slots=True)
class Mark:
    """How much of the journal one link has seen."""

    settings: int = 0
    transaction: int = 0


@dataclass(slots=True)
class Journal:
    settings: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """key -> (version, sql), oldest first."""
    transaction: list[Entry] = field(default_factory=list)
    version: int = 0
    size: int = 0

    @property
    def too_big(self) -> bool:
        return self.size > MAX_BYTES

    def set(self, key: str, sql: bytes) -> None:
        """A setting that holds for the session. RESET ALL (key ALL) forgets the others."""
        if key == ALL:
            self.settings.clear()
            self.size = 0
        old = self.settings.pop(key, None)
        self.size += len(sql) - (len(old[1]) if old else 0)
        self.version += 1
        self.settings[key] = (self.version, sql)

    def set_in_transaction(self, key: str, sql: bytes, local: bool) -> None:
        self.size += len(sql)
        self.transaction.append(Entry(key, sql, local))

    def savepoint(self, name: str) -> None:
        self.transaction.append(Entry(name, savepoint=True))

    def release(self, name: str) -> None:
        """The savepoint and those after it are gone, what was set since stays."""
        at = self._find(name)
        if at >= 0:
            self.transaction[at:] = [e for e in self.transaction[at:] if not e.savepoint]

    def roll_back_to(self, name: str) -> int:
        """What was set since the savepoint is undone; how many settings of the transaction remain."""
        at = self._find(name)
        if at >= 0:
            del self.transaction[at + 1 :]
        return self.count()

    def count(self) -> int:
        """Settings made in the open transaction."""
        return sum(not e.savepoint for e in self.transaction)

    def end(self, committed: bool) -> bool:
        """The transaction is over; True when it leaves something set."""
        left = False
        if committed:
            for entry in self.transaction:
                if not entry.local and not entry.savepoint:
                    self.set(entry.key, entry.sql)
                    left = True
        self.transaction.clear()
        return left

    def forget(self) -> None:
        """DISCARD ALL."""
        self.settings.clear()
        self.transaction.clear()
        self.size = 0
        self.version += 1

    def missing(self, mark: Mark) -> list[bytes]:
        """Session settings that a link outside of a transaction has not seen."""
        return [sql for version, sql in self.settings.values() if version > mark.settings]

    def missing_in_transaction(self, mark: Mark) -> list[bytes]:
        """Settings of the open transaction that a link inside of it has not seen."""
        return [e.sql for e in self.transaction if not e.savepoint][mark.transaction :]

    def text_of(self, *keys: str) -> tuple[bytes, ...]:
        """The latest word on each of these keys, with that of ALL, as far as there is one."""
        found = [self.settings[k][1] for k in (ALL, *keys) if k in self.settings]
        found += [e.sql for e in self.transaction if e.key in keys or e.key == ALL]
        return tuple(found)

    def _find(self, name: str) -> int:
        for at in range(len(self.transaction) - 1, -1, -1):
            if self.transaction[at].savepoint and self.transaction[at].key == name:
                return at
        return -1
