"""Births and deaths, on a clock of our own; the processes are real."""

import subprocess
import sys

import pytest

from pgpool.roles.nursery import FIRST_PAUSE, LONGEST_PAUSE, QUICK_DEATHS_ALLOWED, BootGuard, Nursery
from pgpool.system import process, signals
from tests.support.places import python_env, wait_until


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def world():
    clock = Clock()
    dead = []
    nursery = Nursery(clock, lambda place: False, lambda place, pid: dead.append((place.index, pid)))
    yield nursery, clock, dead
    for place in list(nursery.alive()):
        process.kill(place.pid, signals.SIGKILL)
    wait_until(lambda: nursery.bury(True) or not any(nursery.alive()), "all to end")


def sleeper() -> int:
    made = signals.install([signals.SIGUSR1])
    process.sleep(30)
    return len(made.drain())


def stubborn() -> int:
    """Ends for SIGKILL only."""
    signals.install([signals.SIGTERM, signals.SIGINT])
    process.sleep(30)
    return 0


def settle(nursery: Nursery, dead: list, count: int) -> int | None:
    """Bury until ``count`` processes were buried."""
    codes: list[int] = []

    def step() -> bool:
        code = nursery.bury(False)
        if code is not None:
            codes.append(code)
        return len(dead) >= count

    wait_until(step, f"{count} deaths")
    return codes[0] if codes else None


def test_all_places_are_filled_once(world):
    nursery, _, _ = world
    for index in range(3):
        nursery.add_child(index, sleeper)
    nursery.add_worker("worker", sleeper)
    nursery.fill()
    pids = [place.pid for place in nursery.alive()]
    assert len(set(pids)) == 4
    nursery.fill()
    assert [place.pid for place in nursery.alive()] == pids
    assert len(list(nursery.children())) == 3


def test_a_killed_child_is_replaced(world):
    nursery, clock, dead = world
    nursery.add_child(0, sleeper)
    nursery.fill()
    [place] = nursery.alive()
    first = place.pid
    clock.now += 60
    process.kill(first, signals.SIGKILL)
    settle(nursery, dead, 1)
    assert dead == [(0, first)]
    nursery.fill()
    assert place.pid not in (0, first)


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, True), (2, True), (7, True)])
def test_exit_codes(world, code, again):
    nursery, _, dead = world
    nursery.add_child(0, lambda: code)
    nursery.fill()
    settle(nursery, dead, 1)
    assert nursery.places[0].wanted is again


def test_exit_code_3_stops_everything(world):
    nursery, _, dead = world
    nursery.add_child(0, lambda: 3)
    nursery.fill()
    assert settle(nursery, dead, 1) == process.EXIT_FATAL


def test_one_told_to_end_for_a_failover_comes_back_though_it_exits_with_0(world):
    nursery, _, dead = world
    nursery.add_child(0, lambda: 0)
    nursery.fill()
    nursery.places[0].reborn = True
    settle(nursery, dead, 1)
    nursery.fill()
    assert nursery.places[0].pid
    assert not nursery.places[0].reborn
    settle(nursery, dead, 2)
    assert not nursery.places[0].wanted


def test_nobody_is_born_again_during_a_shutdown(world):
    nursery, _, dead = world
    nursery.add_child(0, lambda: 1)
    nursery.fill()
    wait_until(lambda: nursery.bury(True) or dead, "death")
    nursery.fill()
    assert not any(nursery.alive())


def test_who_does_not_end_when_told_is_killed(world):
    nursery, clock, dead = world
    nursery.add_child(0, stubborn)
    nursery.fill()
    [place] = nursery.alive()
    nursery.end(place, signals.SIGTERM, 5.0)
    assert nursery.next_due() == clock.now + 5.0
    clock.now += 4.9
    nursery.kill_late()
    process.sleep(0.1)
    nursery.bury(False)
    assert dead == []
    clock.now += 0.2
    nursery.kill_late()
    settle(nursery, dead, 1)


def test_a_boot_loop_is_slowed_down(world, capfd):
    nursery, clock, dead = world
    nursery.add_child(0, lambda: 1)
    for deaths in range(1, QUICK_DEATHS_ALLOWED + 2):
        nursery.fill()
        settle(nursery, dead, deaths)
    nursery.fill()
    assert not any(nursery.alive()), "births wait now"
    assert nursery.next_due() == clock.now + FIRST_PAUSE
    assert "keep ending right after their start" in capfd.readouterr().err
    clock.now += FIRST_PAUSE
    nursery.fill()
    assert any(nursery.alive())


def test_guard_doubles_its_pause_up_to_a_limit():
    guard = BootGuard()
    now = 0.0
    pauses = []
    for _ in range(QUICK_DEATHS_ALLOWED + 10):
        pause = guard.note(0.1, False, now)
        pauses.append(pause)
        now = max(now, guard.not_before)
    assert pauses[:QUICK_DEATHS_ALLOWED] == [0.0] * QUICK_DEATHS_ALLOWED
    assert pauses[QUICK_DEATHS_ALLOWED : QUICK_DEATHS_ALLOWED + 3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE


def test_guard_counts_a_whole_generation_as_one_step():
    """32 children that die together make one pause, not the longest one."""
    guard = BootGuard()
    pauses = [guard.note(0.1, False, 0.0) for _ in range(32)]
    assert sum(pauses) == FIRST_PAUSE
    assert guard.note(0.1, False, 1.0) == 2 * FIRST_PAUSE


@pytest.mark.parametrize(("lived", "useful"), [(1.0, False), (0.01, True)])
def test_guard_forgives_those_who_lived_or_served(lived, useful):
    guard = BootGuard()
    for _ in range(100):
        assert guard.note(lived, useful, 0.0) == 0.0


NO_MORE = """
import os, resource
from pgpool.roles.nursery import Nursery
nursery = Nursery(lambda: 100.0, lambda place: False, lambda place, pid: None)
nursery.add_child(0, lambda: 0)
nursery.add_child(1, lambda: 0)
if os.getuid() == 0:  # root has no limit
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
nursery.fill()
print(len(list(nursery.alive())), nursery.next_due())
"""


def test_a_system_that_has_no_process_left_is_asked_again_later():
    done = subprocess.run([sys.executable, "-c", NO_MORE], env=python_env(), capture_output=True, text=True, check=True)
    assert done.stdout == f"0 {100.0 + FIRST_PAUSE}\n"
    assert "could not fork 2 of 2 processes" in done.stderr
