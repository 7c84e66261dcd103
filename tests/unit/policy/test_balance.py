"""Choice of the load balance node: redirect lists and weights."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from pgpool.model import NodeState, NodeView, Role
from pgpool.policy.balance import by_weight, choose_node, draw_ring
from pgpool.policy.route import RoutingSettings
from pgpool.sql.names import parse_preferences


def node(node_id: int, weight: float, role: Role = Role.STANDBY, state: NodeState = NodeState.UP) -> NodeView:
    return NodeView(node_id, "h", 5432, weight, state, False, role)


THREE = (node(0, 0.5, Role.PRIMARY), node(1, 0.3), node(2, 0.2))
PLAIN = RoutingSettings()


def preferring(**lists: str) -> RoutingSettings:
    return RoutingSettings(**{name: parse_preferences(name, text) for name, text in lists.items()})


def draws(nodes, settings=PLAIN, count: int = 4_000, app="psql", database="db", user="me") -> dict[int, float]:
    dice = Random(1).random
    found = Counter(choose_node(nodes, settings, app, database, user, dice)[0] for _ in range(count))
    return {node_id: n / count for node_id, n in found.items()}


def test_weights() -> None:
    share = draws(THREE)
    assert share[0] == pytest.approx(0.5, abs=0.04)
    assert share[1] == pytest.approx(0.3, abs=0.04)
    assert share[2] == pytest.approx(0.2, abs=0.04)


def test_weight_zero_and_nodes_that_are_down_are_never_drawn() -> None:
    assert draws((node(0, 0, Role.PRIMARY), node(1, 1), node(2, 1, state=NodeState.DOWN))) == {1: 1.0}
    assert choose_node((node(0, 0, Role.PRIMARY),), PLAIN, "", "", "", lambda: 0.0) == (-1, "no usable node has weight")
    assert choose_node((), PLAIN, "", "", "", lambda: 0.0)[0] == -1


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.9999999999999999])
def test_the_ends_of_the_dice(draw: float) -> None:
    assert by_weight(THREE, lambda: draw) in THREE
    assert by_weight([node(1, 0), node(2, 0)], lambda: draw) is not None
    assert by_weight([node(1, 1), node(2, 0)], lambda: draw).id == 1


def test_redirection() -> None:
    assert draws(THREE, preferring(database_preferences="other:0,d.*:primary")) == {0: 1.0}
    assert draws(THREE, preferring(database_preferences="db:2")) == {2: 1.0}
    standby = draws(THREE, preferring(app_name_preferences="PSQL:standby"))
    assert standby[1] == pytest.approx(0.6, abs=0.04)
    assert set(standby) == {1, 2}


def test_application_before_database_before_user() -> None:
    every = {"app_name_preferences": "psql:1", "database_preferences": "db:2", "user_preferences": "me:0"}
    assert draws(THREE, preferring(**every)) == {1: 1.0}
    assert draws(THREE, preferring(**every), app="x") == {2: 1.0}
    assert draws(THREE, preferring(**every), app="x", database="x") == {0: 1.0}


def test_the_first_match_in_a_list_wins() -> None:
    assert draws(THREE, preferring(database_preferences=".*:1,db:2")) == {1: 1.0}


def test_ratios() -> None:
    share = draws(THREE, preferring(database_preferences="db:2(0.3)"))
    assert share[2] == pytest.approx(0.3, abs=0.04)
    assert share[0] == pytest.approx(0.7 * 0.5 / 0.8, abs=0.04)
    share = draws(THREE, preferring(database_preferences="db:standby(0.4)"))
    assert share[0] == pytest.approx(0.6, abs=0.04)
    share = draws(THREE, preferring(database_preferences="db:primary(0)"))
    assert 0 not in share


def test_a_target_that_is_down_is_ignored() -> None:
    nodes = (node(0, 1, Role.PRIMARY), node(1, 1, state=NodeState.DOWN))
    assert draws(nodes, preferring(database_preferences="db:1")) == {0: 1.0}
    assert draws(nodes, preferring(database_preferences="db:standby")) == {0: 1.0}
    assert draws(nodes, preferring(database_preferences="db:7")) == {0: 1.0}


def test_a_redirect_reaches_a_node_without_weight() -> None:
    nodes = (node(0, 1, Role.PRIMARY), node(1, 0))
    assert draws(nodes, preferring(database_preferences="db:standby")) == {1: 1.0}


def test_ring() -> None:
    ring = draw_ring(THREE, 1_000, Random(2).random)
    assert len(ring) == 1_000
    assert Counter(ring)[0] / 1_000 == pytest.approx(0.5, abs=0.06)
    assert draw_ring((), 10, Random(2).random) == []
    assert set(draw_ring(THREE, 50, Random(2).random, preferring(user_preferences="u:2"), user="u")) == {2}
