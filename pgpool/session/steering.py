"""Reads leave a standby that is too far behind, and come back to it (behaviour.md 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgpool.policy import balance

if TYPE_CHECKING:
    from pgpool.model import NodeView
    from pgpool.session.state import Session


def steer(session: Session) -> None:
    """Read from the node that was drawn, or while it is too far behind from a better one. The streaming check moves the
    epoch when a node crosses the threshold, which brings every session here."""
    if not session.routing.delay_limit:
        return
    if session.settings.statement_level_load_balance:
        session.draw_later()
        return
    nodes = [n for n in session.worker.nodes() if n.id not in session.unusable]
    wanted = balance.steer(session.home_id, nodes, session.routing, session.worker.dice)
    if wanted >= 0 and wanted != session.balance_id and session.settings.load_balance_mode:
        session.balance_on(wanted)


def in_time(session: Session, drawn: list[int], nodes: tuple[NodeView, ...]) -> list[int]:
    """The node ids drawn for a ring, with better ones in the place of those too far behind."""
    return [i if i in session.marks else session.primary_id for i in instead(session, drawn, nodes)]


def instead(session: Session, drawn: list[int], nodes: tuple[NodeView, ...]) -> list[int]:
    """The same; the nodes need not be connected."""
    if not session.routing.delay_limit:
        return drawn
    better = {i: balance.steer(i, nodes, session.routing, session.worker.dice) for i in set(drawn)}
    return [better[i] if better[i] >= 0 else session.primary_id for i in drawn]
