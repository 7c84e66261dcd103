"""Standbys that are too far behind get no reads (behaviour.md 5.5)."""

from __future__ import annotations

from random import Random

import pytest

from pgpool.config.settings import load
from pgpool.model import NodeState, NodeView, Role
from pgpool.policy.balance import in_time, steer
from pgpool.policy.route import RoutingSettings, delay_limit

DICE = Random(1).random


def node(node_id: int, delay: int = 0, *, weight: float = 0.5, known: bool = True, up: bool = True) -> NodeView:
    state = NodeState.UP if up else NodeState.DOWN
    role = Role.STANDBY if node_id else Role.PRIMARY
    return NodeView(node_id, "h", 5432, weight, state, False, role, delay, known)


def test_no_threshold_means_any_delay_will_do() -> None:
    assert steer(1, [node(0), node(1, 1 << 40, known=False)], RoutingSettings(), DICE) == 1


@pytest.mark.parametrize(
    ("delay", "known", "wanted"), [(0, True, 1), (100, True, 1), (101, True, 0), (0, False, 0), (1 << 60, True, 0)]
)
def test_over_the_threshold_or_unknown_the_primary_reads(delay: int, known: bool, wanted: int) -> None:
    assert steer(1, [node(0), node(1, delay, known=known), node(2)], RoutingSettings(delay_limit=100), DICE) == wanted


def test_the_primary_is_always_in_time() -> None:
    assert in_time(node(0, 500, known=False), RoutingSettings(delay_limit=1))


@pytest.mark.parametrize(
    ("others", "wanted"),
    [
        ([node(2, 50), node(3, 10)], 3),
        ([node(2, 50), node(3, 10, known=False)], 2),
        ([node(2, 50), node(3, 10, up=False)], 2),
        ([node(2, 50), node(3, 10, weight=0)], 2),
        ([node(2, 101), node(3, 5000)], 0),
        ([], 0),
    ],
)
def test_the_least_delayed_standby_is_preferred(others: list[NodeView], wanted: int) -> None:
    settings = RoutingSettings(delay_limit=100, prefer_lower_delay=True)
    assert steer(1, [node(0), node(1, 200), *others], settings, DICE) == wanted


def test_equal_delays_are_drawn_by_weight() -> None:
    settings = RoutingSettings(delay_limit=100, prefer_lower_delay=True)
    nodes = [node(0), node(1, 200), node(2, 5, weight=0.9), node(3, 5, weight=0.1)]
    drawn = [steer(1, nodes, settings, DICE) for _ in range(500)]
    assert 380 < drawn.count(2) < 490
    assert drawn.count(2) + drawn.count(3) == 500


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        ("", 0),
        ("delay_threshold = 1000", 1000),
        ("delay_threshold = 1000\ndelay_threshold_by_time = 7", 7000),
        ("delay_threshold = 1000\nsr_check_period = 0", 0),
        ("delay_threshold = 1000\nreplication_delay_source_cmd = 'x'", 0),
        ("delay_threshold_by_time = 3\nreplication_delay_source_cmd = 'x'", 3000),
        ("delay_threshold = 1000\nbackend_clustering_mode = 'logical_replication'", 0),
    ],
)
def test_which_threshold_counts(tmp_path, lines: str, limit: int) -> None:
    conf = tmp_path / "pgpool.conf"
    conf.write_text("backend_hostname0 = 'h'\n" + lines + "\n")
    assert delay_limit(load(conf).settings) == limit
