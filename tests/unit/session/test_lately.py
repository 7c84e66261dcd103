"""How long a written table stays on the primary (behaviour.md 5.6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgpool.config.settings import load
from pgpool.model import NodeState, NodeView, Role
from pgpool.session.lately import LONGEST, SHORTEST, life

PRIMARY = NodeView(0, "h", 1, 0.5, NodeState.UP, False, Role.PRIMARY)
STANDBY = NodeView(1, "h", 2, 0.5, NodeState.UP, False, Role.STANDBY, delay=400_000)
BY_TIME = load(None).settings.replace(delay_threshold_by_time=1000)


@pytest.mark.parametrize(
    ("node", "seconds"),
    [
        (STANDBY, 2.0),
        (replace(STANDBY, delay=0), SHORTEST),
        (replace(STANDBY, delay=10**12), LONGEST),
        (replace(STANDBY, delay_known=False), LONGEST),
        (replace(STANDBY, weight=0, delay=10**12), SHORTEST),  # it gets no reads
        (replace(STANDBY, state=NodeState.DOWN, delay_known=False), SHORTEST),
    ],
)
def test_life(node: NodeView, seconds: float) -> None:
    assert life((PRIMARY, node), BY_TIME, 5.0) == seconds


def test_the_worst_standby_counts() -> None:
    assert life((PRIMARY, STANDBY, replace(STANDBY, id=2, delay=900_000)), BY_TIME, 10.0) == 9.0


def test_a_delay_in_bytes_tells_no_time() -> None:
    assert life((PRIMARY, STANDBY), load(None).settings, 5.0) == LONGEST
