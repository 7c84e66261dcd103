"""How many spare children shall wait for clients (process_management_mode = dynamic, behaviour.md 2).

Pure: the caller tells who is there and what time it is, and carries out the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PERIOD = 2.0
"""Seconds from one round to the next."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a strategy ends spare children: ``patience`` rounds with too many of them come first, then at most ``most``
    are ended every ``every`` rounds."""

    patience: int
    every: int
    most: int


PACES = {"aggressive": Pace(25, 2, 8), "gentle": Pace(60, 5, 3), "lazy": Pace(150, 10, 3)}
"""process_management_strategy -> its pace."""


@dataclass(frozen=True, slots=True)
class Kid:
    """One living child. ``idle``: it waits for a client. ``pooled``: backend connections it keeps."""

    index: int
    idle: bool
    pooled: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings say: ``least`` and ``most`` spare children, ``all`` children at most."""

    least: int
    most: int
    all: int
    strategy: str


@dataclass(frozen=True, slots=True)
class Plan:
    """``fork``: so many new children. ``end``: these shall exit if they are still idle when they are told."""

    fork: int = 0
    end: tuple[int, ...] = ()


NOTHING = Plan()


def at_start(limits: Limits) -> int:
    """How many children are forked at start."""
    return min(limits.most if limits.strategy == "aggressive" else limits.least, limits.all)


class Spare:
    """The rounds. ``due``: when the next one is, on the clock that ``decide`` is given."""

    def __init__(self, now: float):
        self.due = now + PERIOD
        self.rounds = 0
        """Rounds in a row with more spare children than wanted."""

    def decide(self, now: float, limits: Limits, kids: Sequence[Kid]) -> Plan:
        """What to do in the round that is due; nothing before. A clock that stood still makes one round, not many."""
        if now < self.due:
            return NOTHING
        self.due = now + PERIOD
        idle = sum(kid.idle for kid in kids)
        if idle <= limits.most:
            self.rounds = 0
            if idle >= limits.least:
                return NOTHING
            return Plan(fork=max(0, min(limits.least - idle + limits.most // 4, limits.all - len(kids))))
        pace = PACES[limits.strategy]
        self.rounds += 1
        beyond = self.rounds - pace.patience
        if beyond < 0 or beyond % pace.every:
            return NOTHING
        return Plan(end=victims(kids, min(idle - limits.most, pace.most)))


def victims(kids: Sequence[Kid], count: int) -> tuple[int, ...]:
    """The idle children that keep the fewest backend connections; among equals the youngest places."""
    idle = sorted((kid for kid in kids if kid.idle), key=lambda kid: (kid.pooled, -kid.index))
    return tuple(kid.index for kid in idle[:count])
