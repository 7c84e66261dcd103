"""Tables that were written lately, by whichever session (dml_adaptive_global). Source: behaviour.md 5.6.

A small open-addressed table: a key has its place among WINDOW neighbours. Writers hold Lock.WRITTEN; readers hold
nothing, and need nothing: a writer notes a write before it is sent, so whoever knows that it is done finds it here.
When there is no place left, what is pushed out counts as a write to every table: more reads than needed go to the
primary, none too few.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from pgpool.shared.layout import WRITTEN, WRITTEN_ENTRY, Layout, Record, Words

WINDOW = 16
_MIX, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


class WrittenTables:
    """Times are those of time.monotonic(), the same clock in all processes; spans are seconds."""

    def __init__(self, words: Words, layout: Layout, lock: Callable[[], AbstractContextManager]):
        self._head = Record(words, layout.written_at, WRITTEN)
        self._keys, self._times = words.of["Q"], words.of["d"]
        self._first = (layout.written_at + WRITTEN.size) // 8
        self._entries = layout.written_entries
        self._lock = lock

    @property
    def since(self) -> float:
        """From when on writes were noted."""
        return self._head.get("since")

    def begin(self, now: float) -> None:
        """By the parent, at start and when a reload switches to dml_adaptive_global."""
        self._head.set("since", now)

    def note(self, keys: Collection[int], now: float, ttl: float, most: float) -> None:
        """These tables are written now. ``ttl``: how long after its last write a table counts as written; ``most``: how long
        after the first one of a row of such writes."""
        with self._lock():
            for key in keys:
                self._note(key, now, ttl, most)

    def lately(self, keys: Collection[int], now: float, ttl: float, most: float) -> bool:
        """Was one of these tables, or a table nobody knows, written so lately that standbys may not have it?"""
        if _counts(self._head.get("any_first"), self._head.get("any_last"), now, ttl, most):
            return True
        return any(self._lately(key, now, ttl, most) for key in keys)

    def _window(self, key: int) -> list[int]:
        """Where a key may stand, as indexes of words."""
        start = (key * _MIX & _MASK) >> 32
        return [self._first + (start + i) % self._entries * (WRITTEN_ENTRY // 8) for i in range(WINDOW)]

    def _lately(self, key: int, now: float, ttl: float, most: float) -> bool:
        for at in self._window(key):
            if self._keys[at] == key:
                return _counts(self._times[at + 1], self._times[at + 2], now, ttl, most)
        return False

    def _note(self, key: int, now: float, ttl: float, most: float) -> None:
        window = self._window(key)
        at = next((at for at in window if self._keys[at] == key), -1)
        if at >= 0:
            if not _counts(self._times[at + 1], self._times[at + 2], now, ttl, most):
                self._times[at + 1] = now
            self._times[at + 2] = now
            return
        at = min(window, key=lambda at: self._times[at + 2])  # a free one has 0
        if self._keys[at] and _counts(self._times[at + 1], self._times[at + 2], now, ttl, most):
            if not _counts(self._head.get("any_first"), self._head.get("any_last"), now, ttl, most):
                self._head.set("any_first", now)
            self._head.set("any_last", max(self._times[at + 2], self._head.get("any_last")))
        self._keys[at] = 0
        self._times[at + 1] = self._times[at + 2] = now
        self._keys[at] = key


def _counts(first: float, last: float, now: float, ttl: float, most: float) -> bool:
    return last > 0 and now - last < ttl and now - first < most
