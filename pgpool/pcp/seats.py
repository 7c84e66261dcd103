"""Who may stay when all places for PCP connections are taken and somebody knocks.

Each worker says in memory it shares with the server how far its client is; the server decides. Pgpool-II has no such rule:
there 20 connections that are logged in and say nothing keep everybody else out for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..system.memory import SharedMemory

STRANGER, BUSY = 0.0, -1.0
"""What a seat holds of a client that is not let in yet, and of one whose request is worked on; else since when it is idle
(time.monotonic)."""
IDLE_GRACE, STRANGER_GRACE = 5.0, 0.5
"""A client that is idle, or not let in yet, for less (seconds) keeps its place."""
TIME_TO_GO = 1.0
"""So long (seconds) a worker that was told to make room may take before another is told."""


class Seats:
    """``count`` seats, made before the first worker is forked. Its worker writes a seat, the server between two."""

    def __init__(self, count: int):
        self._memory = SharedMemory(8 * count)
        self._cells = self._memory.buf.cast("d")

    def __getitem__(self, seat: int) -> float:
        return self._cells[seat]

    def __setitem__(self, seat: int, value: float) -> None:
        self._cells[seat] = value


@dataclass(slots=True)
class Sitter:
    """A worker as the server knows it. ``came``, ``told``: when it began, when it was told to make room."""

    pid: int
    host: str
    seat: int
    came: float
    told: float = 0.0


def who_goes(sitters: Iterable[Sitter], seats: Seats, now: float) -> tuple[Sitter, bool] | None:
    """The worker that makes room, and whether its client is a stranger; None when nobody has to go now.

    Strangers go first, the oldest of the host that has most of them: a flood throws itself out. Else the client that is
    idle longest. ``sitters`` in the order in which they came.
    """
    sitters = tuple(sitters)
    if any(now - sitter.told < TIME_TO_GO for sitter in sitters):
        return None
    strangers = [sitter for sitter in sitters if seats[sitter.seat] == STRANGER]
    crowds = Counter(sitter.host for sitter in strangers)
    late = [sitter for sitter in strangers if now - sitter.came >= STRANGER_GRACE]
    if late:
        return max(late, key=lambda sitter: crowds[sitter.host]), True
    idle = [sitter for sitter in sitters if seats[sitter.seat] > 0 and now - seats[sitter.seat] >= IDLE_GRACE]
    if idle:
        return min(idle, key=lambda sitter: seats[sitter.seat]), False
    return None
