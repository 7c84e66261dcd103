"""process_management_mode = dynamic: carries out policy/spare in the parent (behaviour.md 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..policy.spare import Kid, Limits, Spare, at_start
from ..system import process, signals
from ..system.logs import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .nursery import Place
    from .parent import Parent


class Sparing:
    """Which places for children are to be filled. In static mode: all, and there is nothing to do."""

    def __init__(self, parent: Parent):
        self.parent = parent
        self.spare = Spare(parent.clock())
        self.dynamic = False
        self._told: list[int] = []
        """Places whose children were told to exit in the last round."""

    def limits(self) -> Limits:
        s = self.parent.settings
        return Limits(s.min_spare_children, s.max_spare_children, s.num_init_children, s.process_management_strategy)

    def begin(self) -> None:
        """Before the first fork."""
        self.dynamic = self.parent.settings.process_management_mode == "dynamic"
        count = at_start(self.limits()) if self.dynamic else len(self.parent.nursery.places)
        for place in self._places():
            place.wanted = place.index < count

    def reloaded(self) -> None:
        """Static again: every place is filled. Dynamic from now on: the rounds begin, whoever is there."""
        dynamic = self.parent.settings.process_management_mode == "dynamic"
        if dynamic == self.dynamic:
            return
        self.dynamic = dynamic
        self.spare = Spare(self.parent.clock())
        self._withdraw()
        if not dynamic:
            for place in self._places():
                place.wanted = True

    def next_due(self) -> float | None:
        return self.spare.due if self.dynamic else None

    def work(self) -> None:
        """The round that is due, if one is."""
        now = self.parent.clock()
        if not self.dynamic or now < self.spare.due:
            return
        self._withdraw()
        plan = self.spare.decide(now, self.limits(), self._kids())
        free = [place for place in self._places() if not place.wanted and not place.pid]
        for place in free[: plan.fork]:
            place.wanted = True
        for index in plan.end:
            self._tell(index)

    def _places(self) -> Iterator[Place]:
        return (place for place in self.parent.nursery.places if place.is_child)

    def _kids(self) -> list[Kid]:
        """Children, and those which will be forked as soon as the guard lets; their links are counted when it matters."""
        cells = self.parent.shared.children
        there = [(p, not (p.pid and cells[p.index].connected)) for p in self._places() if p.wanted or p.pid]
        crowded = sum(idle for _, idle in there) > self.parent.settings.max_spare_children
        return [Kid(p.index, idle, cells[p.index].links if crowded and idle else 0) for p, idle in there]

    def _tell(self, index: int) -> None:
        place = next(p for p in self._places() if p.index == index)
        if not place.pid:
            place.wanted = False
            return
        log.debug1(f"child process with pid: {place.pid} is one too many, it exits if it is idle")
        self.parent.shared.children[index].order_leave(True)
        self._told.append(index)
        process.kill(place.pid, signals.SIGUSR2)

    def _withdraw(self) -> None:
        """Who got a client meanwhile stays."""
        for index in self._told:
            self.parent.shared.children[index].order_leave(False)
        self._told.clear()
