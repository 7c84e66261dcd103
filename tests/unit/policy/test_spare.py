"""Spare children, through simulated hours (behaviour.md 2)."""

import pytest

from pgpool.policy.spare import PERIOD, Kid, Limits, Plan, Spare, at_start, victims


class World:
    """Children that do what the plan says, and a clock."""

    def __init__(self, strategy="gentle", least=5, most=10, limit=100):
        self.now = 1000.0
        self.limits = Limits(least, most, limit, strategy)
        self.spare = Spare(self.now)
        self.idle = set(range(at_start(self.limits)))
        self.busy: set[int] = set()
        self.log: list[tuple[float, Plan]] = []

    def kids(self):
        return [Kid(i, True) for i in self.idle] + [Kid(i, False) for i in self.busy]

    def step(self, seconds=PERIOD):
        self.now += seconds
        plan = self.spare.decide(self.now, self.limits, self.kids())
        free = (i for i in range(self.limits.all) if i not in self.idle | self.busy)
        self.idle |= {next(free) for _ in range(plan.fork)}
        assert set(plan.end) <= self.idle
        self.idle -= set(plan.end)
        if plan != Plan():
            self.log.append((self.now, plan))
        return plan

    def clients(self, wanted):
        """So many are connected now, as far as there are children."""
        while len(self.busy) > wanted:
            self.idle.add(self.busy.pop())
        while self.idle and len(self.busy) < wanted:
            self.busy.add(self.idle.pop())


@pytest.mark.parametrize(("strategy", "count"), [("aggressive", 10), ("gentle", 5), ("lazy", 5)])
def test_at_start(strategy, count):
    assert at_start(Limits(5, 10, 100, strategy)) == count
    assert at_start(Limits(5, 10, 3, strategy)) == 3


def test_nothing_before_two_seconds():
    world = World()
    world.clients(5)
    assert world.step(1.9) == Plan()
    assert world.step(0.2).fork == 7
    assert world.step(1.0) == Plan()


@pytest.mark.parametrize(("idle", "fork"), [(5, 0), (4, 3), (1, 6), (0, 7)])
def test_too_few(idle, fork):
    """What is missing, and a quarter of max_spare_children more."""
    world = World()
    world.clients(5 - idle)
    assert world.step().fork == fork


def test_never_above_num_init_children():
    world = World(limit=8)
    for _ in range(100):
        world.clients(1000)
        world.step()
    assert len(world.busy) == 8


@pytest.mark.parametrize(
    ("strategy", "first", "then", "most"), [("aggressive", 50, 4, 8), ("gentle", 120, 10, 3), ("lazy", 300, 20, 3)]
)
def test_too_many(strategy, first, then, most):
    world = World(strategy)
    world.idle = set(range(50))
    began = world.now
    for _ in range(2000):
        world.step()
    times = [at - began for at, _ in world.log]
    assert times[:3] == [first, first + then, first + 2 * then]
    assert all(len(plan.end) == most for _, plan in world.log[:-1])
    assert len(world.idle) == 10


def test_a_moment_of_use_starts_the_patience_anew():
    world = World()
    world.idle = set(range(20))
    for _ in range(50):
        world.step()
    world.clients(12)
    world.step()
    world.clients(0)
    for _ in range(59):
        assert world.step() == Plan()
    assert len(world.step().end) == 3


def test_a_day_of_waves():
    """Clients come and go for 24 hours: there is always room for the next ones, and at night few wait."""
    world = World("gentle", 5, 10, 200)
    for round_ in range(24 * 1800):
        hour = round_ / 1800
        world.clients(100 if 8 <= hour < 18 else 3)
        world.step()
        total = len(world.idle) + len(world.busy)
        assert total <= 200
        assert len(world.idle) >= 5 or total == 200
    assert len(world.idle) <= 10 and len(world.busy) == 3


def test_victims_keep_the_fewest_connections():
    kids = [Kid(0, True, 4), Kid(1, False, 0), Kid(2, True, 1), Kid(3, True, 0), Kid(4, True, 2)]
    assert victims(kids, 2) == (3, 2)
    assert victims(kids, 9) == (3, 2, 4, 0)
