"""Which node answers balanced reads: redirect lists first, then the weights. Source: behaviour.md 5.3.

Pure; the dice is an argument: a function that gives numbers from 0.0 up to, not including, 1.0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgpool.model import NodeView, Role
from pgpool.policy.route import RoutingSettings
from pgpool.sql.names import Preference, first_preference

Dice = Callable[[], float]


def choose_node(
    nodes: Sequence[NodeView],
    settings: RoutingSettings | None,
    application: str,
    database: str,
    user: str,
    dice: Dice,
) -> tuple[int, str]:
    """(node id, why) for a session, or for one statement with statement_level_load_balance; -1 when no node has weight.

    ``application`` is the application_name of the startup packet.
    """
    usable = [n for n in nodes if n.usable]
    if settings is not None:
        for value, preferences, name in (
            (application, settings.app_name_preferences, "app_name_redirect_preference_list"),
            (database, settings.database_preferences, "database_redirect_preference_list"),
            (user, settings.user_preferences, "user_redirect_preference_list"),
        ):
            preference = first_preference(preferences, value)
            node = _redirected(usable, preference, dice) if preference else None
            if node is not None:
                return node.id, name
    node = by_weight([n for n in usable if n.weight > 0], dice)
    return (node.id, "weights") if node else (-1, "no usable node has weight")


def draw_ring(
    nodes: Sequence[NodeView],
    count: int,
    dice: Dice,
    settings: RoutingSettings | None = None,
    application: str = "",
    database: str = "",
    user: str = "",
) -> list[int]:
    """Node ids for the next ``count`` statements, each drawn anew; empty when no node can be drawn."""
    drawn = [choose_node(nodes, settings, application, database, user, dice)[0] for _ in range(count)]
    return [] if -1 in drawn else drawn


def in_time(node: NodeView, settings: RoutingSettings) -> bool:
    """May this node answer reads as far as its delay goes? One whose delay nobody knows may not."""
    if not settings.delay_limit or node.role is Role.PRIMARY:
        return True
    return node.delay_known and node.delay <= settings.delay_limit


def steer(home: int, nodes: Sequence[NodeView], settings: RoutingSettings, dice: Dice) -> int:
    """The node to read from in the place of ``home``, which was drawn: itself when it is not too far behind, else the
    least delayed standby (prefer_lower_delay_standby), else the primary; -1 when there is none (behaviour.md 5.5)."""
    usable = [n for n in nodes if n.usable]
    if any(n.id == home and in_time(n, settings) for n in usable):
        return home
    primary = next((n.id for n in usable if n.role is Role.PRIMARY), -1)
    if not settings.prefer_lower_delay:
        return primary
    fit = [n for n in usable if n.role is not Role.PRIMARY and n.weight > 0 and in_time(n, settings)]
    least = min((n.delay for n in fit), default=0)
    node = by_weight([n for n in fit if n.delay == least], dice)
    return node.id if node is not None else primary


def by_weight(nodes: Sequence[NodeView], dice: Dice) -> NodeView | None:
    """One of ``nodes``, as often as its share of the weights says; all alike when none has any."""
    if not nodes:
        return None
    total = sum(n.weight for n in nodes)
    if total <= 0:
        return nodes[min(int(dice() * len(nodes)), len(nodes) - 1)]
    draw = dice() * total
    for node in nodes:
        draw -= node.weight
        if draw < 0:
            return node
    return [n for n in nodes if n.weight > 0][-1]


def _redirected(usable: Sequence[NodeView], preference: Preference, dice: Dice) -> NodeView | None:
    """The node a redirect entry leads to; None when its target is down, so that the weights decide."""
    targets = [n for n in usable if _is_target(n, preference.node)]
    if not targets:
        return None
    if dice() < preference.ratio:
        return by_weight(targets, dice)
    if preference.node == "standby":
        others = [n for n in usable if n.role is Role.PRIMARY]
    else:
        others = [n for n in usable if n not in targets and n.weight > 0]
    return by_weight(others, dice) or by_weight(targets, dice)


def _is_target(node: NodeView, wanted: str) -> bool:
    if wanted in ("primary", "standby"):
        return (node.role is Role.PRIMARY) == (wanted == "primary")
    return node.id == int(wanted)
