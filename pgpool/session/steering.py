"""Which node answers reads: drawn for a session or a statement, left while it is too far behind (behaviour.md 5.3, 5.5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pgpool.errors import BackendFailed, PgpoolError
from pgpool.policy import balance as policy
from pgpool.system.logs import LOG, log

if TYPE_CHECKING:
    from pgpool.model import NodeView
    from pgpool.session.state import Session


def balance(session: Session) -> None:
    """Draw the node that answers this session's reads."""
    worker = session.worker
    startup = session.startup
    if not session.settings.load_balance_mode or not session.settings.mode.has_primary:
        session.balance_on(session.primary_id)
        return
    node_id, why = policy.choose_node(
        worker.nodes(), session.routing, startup.application_name, startup.database, startup.user, worker.dice
    )
    log.debug1(f"load balance node is {node_id}: {why}")
    session.home_id = node_id if node_id >= 0 else session.primary_id
    session.balance_on(session.home_id)
    steer(session)
    if session.settings.statement_level_load_balance:
        session.draw_later()


def steer(session: Session) -> None:
    """Read from the node that was drawn, or while it is too far behind from a better one. The streaming check moves the
    epoch when a node crosses the threshold, which brings every session here."""
    if not session.routing.delay_limit:
        return
    if session.settings.statement_level_load_balance:
        session.draw_later()
        return
    nodes = [n for n in session.worker.nodes() if n.id not in session.unusable]
    wanted = policy.steer(session.home_id, nodes, session.routing, session.worker.dice)
    if wanted >= 0 and wanted != session.balance_id and session.settings.load_balance_mode:
        session.balance_on(wanted)


def in_time(session: Session, drawn: list[int], nodes: tuple[NodeView, ...]) -> list[int]:
    """The node ids drawn for a ring, with better ones in the place of those too far behind."""
    return [i if i in session.marks else session.primary_id for i in instead(session, drawn, nodes)]


def instead(session: Session, drawn: list[int], nodes: tuple[NodeView, ...]) -> list[int]:
    """The same; the nodes need not be connected."""
    if not session.routing.delay_limit:
        return drawn
    better = {i: policy.steer(i, nodes, session.routing, session.worker.dice) for i in set(drawn)}
    return [better[i] if better[i] >= 0 else session.primary_id for i in drawn]


def open_ring(session: Session) -> None:
    """statement_level_load_balance: connect every node that can be drawn, and draw."""
    for node in session.worker.nodes():
        if node.usable and node.weight > 0 and node.id not in session.unusable and node.id not in session.marks:
            try:
                session.open(node.id)
            except BackendFailed as failed:
                session.report(failed)
                session.unusable.add(node.id)
            except PgpoolError as refused:
                log.log(LOG, f"node {node.id} is not used in this session: {refused.message}")
                session.unusable.add(node.id)
    session.balance_on(session.primary_id)
    draw(session)


def drawable(session: Session) -> tuple[NodeView, ...]:
    """The connected nodes among which statements are shared out."""
    return tuple(n for n in session.worker.nodes() if n.id in session.marks and n.weight > 0)


def draw(session: Session, among: Collection[int] | None = None) -> None:
    """Draw the nodes of the next 256 statements; ``among``: only from these, for the time being."""
    usable = tuple(n for n in drawable(session) if among is None or n.id in among)
    session.ring_cut = among is not None
    if not usable:
        return
    startup = session.startup
    who = (startup.application_name, startup.database, startup.user)
    drawn = in_time(session, policy.draw_ring(usable, 256, session.worker.dice, session.routing, *who), usable)
    session.relay.set_ring(bytes(session.relay.index_of(session.entry.links[i].link) for i in drawn))
