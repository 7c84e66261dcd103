"""What a session does when a node it uses is detached, or the primary moves (behaviour.md 10.3; failover_client_policy)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgpool._fastpath import look_at_nodes, refused, repeat, repeatable
from pgpool.backend import connect
from pgpool.errors import AuthenticationFailed, BackendFailed, BackendRefused, ClientGone, SessionFatal
from pgpool.model import ClusterMode, Counter, Dest, Effect, Reason, Route, State
from pgpool.shared import RequestFlag, RequestKind
from pgpool.system import sockets
from pgpool.system.channel import ChannelError
from pgpool.system.logs import LOG, log
from pgpool.wire import messages

if TYPE_CHECKING:
    from pgpool.session.state import Session

CLOSE_IDLE_WAIT = 5.0
"""Seconds that DROP DATABASE waits for the children to close their idle connections."""
LOOK = 0.05
"""Seconds between two looks at who is the primary."""
TRY_OLD = 0.5
"""Seconds between two tries to reach a primary that hung up and was not detached."""


def give_up_lost(session: Session) -> None:
    """End when this session waits for a node that was detached: no answer will come."""
    for node_id in session.marks:
        link = session.entry.links[node_id].link
        if not usable(session, node_id) and (link.waiting or link.txn != "I"):
            link.dead = True
            if node_id == session.relay.current_node() and repeatable(session.relay):
                again(session)
                return
            raise SessionFatal(
                f"terminating connection: node {node_id}, which worked for it, was detached", sqlstate="57P01"
            )


def again(session: Session) -> None:
    """A standby refused or lost a read of which the client has seen nothing: it goes to the primary, and a refused one does
    so from now on."""
    relay = session.relay
    node_id, sqlstate = relay.current_node(), refused(relay)
    lost = session.entry.links[node_id].link.dead
    effect = Effect.WRITE if sqlstate == "25006" else Effect.NONE
    code = Route(Dest.PRIMARY, Reason.STANDBY_LOST if lost else Reason.REFUSED, effect, Counter.SELECT).code
    repeat(relay, code, learn=not lost)
    what = f"refused a read (SQLSTATE {sqlstate})" if sqlstate else "closed the connection"
    log.log(LOG, f"backend {node_id} {what}, it is repeated on the primary")
    if not lost:
        return
    session.lose(node_id)
    if sqlstate != "40001" and usable(session, node_id):
        suspect(session, node_id, RequestFlag.BACKEND_ERROR)


def suspect(session: Session, node_id: int, flag: RequestFlag) -> None:
    """The parent decides what that means: failover_on_backend_error, failover_on_backend_shutdown."""
    session.worker.ask_parent(RequestKind.DOWN, [node_id], flag)


def stop_running(session: Session, node_id: int) -> None:
    """Nobody waits for what this node does any more: cancel it."""
    pooled = session.entry.links.get(node_id)
    if pooled is None:
        return
    conf = session.settings.backends[node_id]
    try:
        connect.cancel(node_id, conf, session.settings, pooled.login.pid, pooled.login.key)
    except BackendFailed as failed:
        log.log(LOG, failed.message, detail=failed.detail)


def close_idle_everywhere(session: Session) -> None:
    """Before DROP DATABASE: all children close their idle connections, for which we wait (behaviour.md 3)."""
    shared, worker = session.worker.shared, session.worker
    worker.pool.close_idle()
    worker.ask_parent(RequestKind.CLOSE_IDLE)
    end = time.monotonic() + CLOSE_IDLE_WAIT
    while time.monotonic() < end:
        if not any(s.filled and not s.connected for child in shared.children for s in child.slots):
            return
        if sockets.wait([worker.wakeup_fd], 0.01):
            worker.woken()


def usable(session: Session, node_id: int) -> bool:
    node = session.worker.node(node_id)
    return node is not None and node.usable


def patient(session: Session) -> bool:
    """Does this session go on with another primary?"""
    return session.settings.failover_client_policy == "wait"


def must_move(session: Session) -> bool:
    """The primary is another one now, or cannot be used any more. That other nodes come and go is no reason."""
    if not patient(session) or session.away.node >= 0:  # the latter: when it comes back
        return False
    return session.primary_id != present_primary(session) or session.primary.link.dead


def new_primary(session: Session) -> int:
    """Who the primary is, -1 while that is not settled."""
    return -1 if session.worker.shared.switching else present_primary(session)


def present_primary(session: Session) -> int:
    """Who the primary is as yet, -1 when there is none."""
    shared = session.worker.shared
    if session.settings.mode is ClusterMode.STREAMING_REPLICATION:
        return shared.primary_id if usable(session, shared.primary_id) else -1
    return session.worker.primary_id()


def why_not(session: Session) -> str:
    """What this session would lose with its primary; '' when nothing."""
    link = session.primary.link
    if link.pending or link.waiting or link.txn != "I" or link.copying or session.relay.segment_link() >= 0:
        return "it had work in flight on the lost primary"
    if session.locks or session.relay.state & State.PINNED_SESSION or session.relay.made_temp():
        return "it holds state that only the lost primary knew (temporary tables, LISTEN, cursors, advisory locks)"
    if any(not prepared.message for prepared in session.prepared.values()):
        return "a prepared statement was too long to be kept"
    return ""


def move(session: Session, balance: Callable[[Session], None]) -> None:
    """Replace the links, settings and all; statements that come meanwhile wait. Raises what ends the session."""
    reason = why_not(session)
    if reason:
        raise SessionFatal("terminating connection because the primary has changed", detail=reason, sqlstate="57P01")
    old = session.primary_id
    target = wait_for_primary(session)
    relay = session.relay
    relay.set_ring(b"")
    relay.set_balance(None)
    relay.set_primary(None)
    for node_id in list(session.entry.links):
        if node_id in session.marks:
            relay.detach(session.entry.links[node_id].link)
        session.entry.drop(node_id)
    session.marks.clear()
    session.forget_portals()
    session.unusable.clear()
    for prepared in (*session.prepared.values(), *([session.unnamed] if session.unnamed else ())):
        prepared.nodes.clear()
    session.primary_id = target
    pooled = session.open(target)
    session.catch_up(target)
    if target not in session.marks:
        raise SessionFatal("the new primary does not take the session's settings", sqlstate="57P01")
    relay.set_primary(pooled.link)
    look_at_nodes(relay)
    balance(session)
    session.rebase()
    log.log(LOG, f"the session goes on with node {target} as its primary, it was node {old}")


def wait_for_primary(session: Session) -> int:
    """The new primary's id. A client that says nothing may wait for ever, a statement failover_wait_timeout."""
    worker, relay = session.worker, session.relay
    old, limit = session.primary_id, session.settings.failover_wait_timeout
    hung_up, told_to_end = session.primary.link.dead, relay.take_held_fatal()
    asked = 0.0
    try_old = time.monotonic() + LOOK
    if hung_up:
        suspect(session, old, RequestFlag.SHUTDOWN if told_to_end else RequestFlag.BACKEND_ERROR)
    while True:
        target = new_primary(session)
        now = time.monotonic()
        if target >= 0 and (target != old or not hung_up):
            return target
        if target == old and now >= try_old:
            try_old = now + TRY_OLD
            if reachable(session, old):
                if told_to_end:
                    raise SessionFatal("terminating connection due to administrator command", sqlstate="57P01")
                return old
        if asked and now - asked > limit:
            raise SessionFatal(
                f"there is no primary since {limit} s (failover_wait_timeout)", sqlstate="57P01",
                hint="look into the log of pgpool",
            )
        fds = [worker.wakeup_fd] if asked else [worker.wakeup_fd, session.client_fd]
        ready = sockets.wait(fds, LOOK)
        if worker.wakeup_fd in ready:
            worker.woken()
        if not asked and session.client_fd in ready:
            asked = now
        if sockets.hung_up(session.client_fd):
            raise ClientGone("the client has gone")


def reachable(session: Session, node_id: int) -> bool:
    """Does the old primary let us in? Then it was only our backend that ended."""
    worker = session.worker
    conf = next(b for b in session.settings.backends if b.id == node_id)
    try:
        login = connect.login(
            node_id, conf, session.entry.startup, session.admission, None, session.settings,
            wakeup_fd=worker.wakeup_fd, on_wake=worker.woken,
        )  # fmt: skip
    except (BackendFailed, BackendRefused, AuthenticationFailed):
        return False
    try:
        login.channel.send(messages.terminate())
    except ChannelError:
        return False
    finally:
        login.channel.close()
    return True
