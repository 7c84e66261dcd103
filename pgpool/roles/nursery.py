"""The processes of the parent: who lives in which place, who is born again, and who must wait for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..system import process, signals
from ..system.logs import LOG, log

QUICK_DEATH = 1.0
"""A process that lived shorter than this (seconds) and did nothing useful died of its start."""
QUICK_DEATHS_ALLOWED = 5
"""So many in a row are replaced at once; then replacements wait."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0

_DEATH_BY = {
    signals.SIGKILL: "sigkill",
    signals.SIGTERM: "sigterm",
    signals.SIGINT: "sigint",
    signals.SIGQUIT: "sigquit",
    11: "segmentation fault",
}


@dataclass(slots=True)
class BootGuard:
    """Slows down the forking of processes which die of their start, so that a broken set-up cannot eat the machine."""

    deaths: int = 0
    not_before: float = 0.0
    """On the clock that ``note`` is given; births wait until then."""

    def note(self, lived: float, useful: bool, now: float) -> float:
        """A process ended for another reason than being told to. Returns the pause that begins now, 0.0 for none."""
        if lived >= QUICK_DEATH or useful:
            self.deaths = 0
            self.not_before = 0.0
            return 0.0
        if now < self.not_before:
            return 0.0  # born together with the one that began this pause
        self.deaths += 1
        beyond = self.deaths - QUICK_DEATHS_ALLOWED
        if beyond <= 0:
            return 0.0
        pause = min(FIRST_PAUSE * 2 ** min(beyond - 1, 16), LONGEST_PAUSE)
        self.not_before = now + pause
        return pause


@dataclass(slots=True)
class Place:
    """One process the parent wants to run. ``what``: its kind in the log; ``index``: the number of a child, else -1."""

    what: str
    run: Callable[[], int | None]
    guard: BootGuard
    index: int = -1
    node_id: int = -1
    """The node a health check process looks after."""
    pid: int = 0
    born: float = 0.0
    wanted: bool = True
    """Fork it (again) when it is not there."""
    reborn: bool = False
    """It was told to end for a failover: born again whatever its exit code is."""
    kill_at: float = 0.0
    """It was told to end; from then on it is killed. 0.0: it may live."""

    @property
    def is_child(self) -> bool:
        return self.index >= 0


@dataclass(slots=True)
class Nursery:
    """All places. ``before_birth`` and ``after_death`` are told of each process (shared cells are cleaned there)."""

    clock: Callable[[], float]
    served: Callable[[Place], bool]
    """Did the process in this place do anything useful? Asked before its cells are cleaned."""
    after_death: Callable[[Place, int], None]
    stray: Callable[[int, int], None] = lambda pid, code: None
    """Told of (pid, code) of a process that ended and lives in no place: the logger, or an orphan left to us as pid 1."""
    places: list[Place] = field(default_factory=list)
    child_guard: BootGuard = field(default_factory=BootGuard)
    started: bool = False
    """From now on births are replacements, and logged."""
    commands: set[int] = field(default_factory=set)
    """Processes that run a command for us: not kept alive, not waited for at the end."""
    command_ended: bool = False

    def add_child(self, index: int, run: Callable[[], int | None]) -> None:
        self.places.append(Place("child process", run, self.child_guard, index))

    def add_worker(self, what: str, run: Callable[[], int | None], node_id: int = -1) -> None:
        self.places.append(Place(what, run, BootGuard(), node_id=node_id))

    def children(self) -> Iterator[Place]:
        """Places of children in which a process lives."""
        return (place for place in self.places if place.is_child and place.pid)

    def alive(self) -> Iterator[Place]:
        return (place for place in self.places if place.pid)

    def send(self, signum: int, *, children: bool | None = None) -> None:
        """Signal all processes; only the children (True), only the others (False)."""
        for place in list(self.alive()):
            if children is None or place.is_child == children:
                process.kill(place.pid, signum)

    def end(self, place: Place, signum: int, patience: float) -> None:
        """Tell one process to end; after ``patience`` seconds it is killed."""
        if place.pid:
            process.kill(place.pid, signum)
            place.kill_at = self.clock() + patience

    def kill_late(self) -> None:
        """SIGKILL for those which were told to end and did not."""
        now = self.clock()
        for place in list(self.alive()):
            if place.kill_at and now >= place.kill_at:
                log.warning(f"{place.what} with pid: {place.pid} did not end when told to, killing it")
                process.kill(place.pid, signals.SIGKILL)
                place.kill_at = now + 1.0

    def fill(self) -> None:
        """Fork what is wanted and not there, as far as the guards let."""
        now = self.clock()
        due = [p for p in self.places if p.wanted and not p.pid and now >= p.guard.not_before]
        if not due:
            return
        for place in due:
            place.born, place.kill_at, place.reborn = now, 0.0, False
        try:
            pids = process.fork_each([place.run for place in due])
        except OSError:
            pids = []
        if len(pids) < len(due):
            log.warning(f"could not fork {len(due) - len(pids)} of {len(due)} processes, trying again in {FIRST_PAUSE:g} s")
        for place in due[len(pids) :]:
            place.guard.not_before = now + FIRST_PAUSE
        for place, pid in zip(due, pids, strict=False):
            place.pid = pid
            if self.started:
                log.log(LOG, f"fork a new {place.what} with pid: {pid}")

    def next_due(self) -> float | None:
        """When ``fill`` or ``kill_late`` will have something to do, on ``clock``; None when that is not known."""
        due = [place.guard.not_before for place in self.places if place.wanted and not place.pid]
        due += [place.kill_at for place in self.places if place.pid and place.kill_at]
        return min(due, default=None)

    def bury(self, stopping: bool) -> int | None:
        """Take note of all processes that have ended. EXIT_FATAL when one asked to stop everything, else None."""
        fatal = None
        for pid, code in process.reap():
            place = next((p for p in self.places if p.pid == pid), None)
            if place is None:
                if pid in self.commands:
                    self.commands.discard(pid)
                    self.command_ended = True
                else:
                    self.stray(pid, code)
                continue
            if self._bury_one(place, code, stopping) == process.EXIT_FATAL:
                fatal = process.EXIT_FATAL
        return fatal

    def _bury_one(self, place: Place, code: int, stopping: bool) -> int:
        now = self.clock()
        pid, place.pid = place.pid, 0
        useful = self.served(place)
        self.after_death(place, pid)
        if stopping:
            place.wanted = False
            return code
        if code < 0:
            cause = _DEATH_BY.get(-code, f"signal {-code}")
            log.warning(f"{place.what} with pid: {pid} was terminated by {cause}")
        else:
            log.log(LOG, f"{place.what} with pid: {pid} exits with status {code}")
        if place.reborn:
            return code
        if code == process.EXIT_QUIT:
            place.wanted = False
            log.log(LOG, f"{place.what} with pid: {pid} exited with success and will not be restarted")
            return code
        pause = place.guard.note(now - place.born, useful, now)
        if pause:
            log.warning(
                f"{place.what}es keep ending right after their start: the next ones are forked in {pause:g} s",
                detail=f"the last {place.guard.deaths} of them lived less than {QUICK_DEATH:g} s and served nobody",
                hint="the messages above say why they end",
            )
        return code
