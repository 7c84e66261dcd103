"""What the catalogs said, for all children (enable_shared_relcache). Source: behaviour.md 8.

No lock: an entry is four words of which the last one checks the others, so that a reader who sees half of a change
has a miss. Keys are keyed hashes of 128 bits. An entry holds for one epoch: DDL, a reload and a change of nodes move
that on.
"""

from __future__ import annotations

import hashlib
import struct

from pgpool.shared.layout import FACT_ENTRY, Layout, Words

_TWO = struct.Struct("<QQ")
_DOUBLE, _U64 = struct.Struct("<d"), struct.Struct("<Q")
_WAYS = 4
_MASK32 = 0xFFFFFFFF


class SharedFacts:
    """Numbers from 1 to 2**32 - 1 under texts; times are those of time.monotonic(), the same clock in all processes."""

    def __init__(self, words: Words, layout: Layout, seeds: tuple[int, int]):
        self._words = words.of["Q"]
        self._first = layout.facts_at // 8
        self._buckets = layout.fact_entries // _WAYS
        self._key = _TWO.pack(*seeds)

    def get(self, key: tuple[str, ...], epoch: int, now: float) -> tuple[int, float] | None:
        """(value, until when it holds)."""
        a, b = self._hashes(key)
        words = self._words
        for at in self._places(a):
            if words[at] != a:
                continue
            value, until = words[at + 1], words[at + 2]
            if words[at + 3] ^ value ^ until != b or value >> 32 != epoch & _MASK32:
                continue
            end = _DOUBLE.unpack(_U64.pack(until))[0]
            return (value & _MASK32, end) if now < end else None
        return None

    def put(self, key: tuple[str, ...], epoch: int, value: int, until: float, now: float) -> None:
        """By any child. What is out of date makes place, else what the key picks."""
        a, b = self._hashes(key)
        words = self._words
        places = self._places(a)
        at = next((p for p in places if words[p] in (0, a)), -1)
        if at < 0:
            old = (p for p in places if words[p + 1] >> 32 != epoch & _MASK32 or self._until(p) <= now)
            at = next(old, places[b % _WAYS])
        whole, end = (epoch & _MASK32) << 32 | value, _U64.unpack(_DOUBLE.pack(until))[0]
        words[at] = a
        words[at + 1] = whole
        words[at + 2] = end
        words[at + 3] = b ^ whole ^ end

    def _until(self, at: int) -> float:
        return _DOUBLE.unpack(_U64.pack(self._words[at + 2]))[0]

    def _places(self, a: int) -> list[int]:
        start = self._first + a % self._buckets * _WAYS * (FACT_ENTRY // 8)
        return [start + way * (FACT_ENTRY // 8) for way in range(_WAYS)]

    def _hashes(self, key: tuple[str, ...]) -> tuple[int, int]:
        text = "\0".join(key).encode("utf-8", "surrogateescape")
        a, b = _TWO.unpack(hashlib.blake2b(text, digest_size=16, key=self._key).digest())
        return a or 1, b
