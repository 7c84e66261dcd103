"""Clients that come again: what was decided about one is kept for the next who sends the same start-up packet.

With a connection per transaction the start of a session is what costs most. A session that began without a question to the
client and ended well leaves a Guest (``_fastpath``): the links of its pool entry, the greeting, the node draws. The door
serves such a client without Python; when something comes up that needs it, ``resume`` makes the Session of the one at hand.
Who takes his time, or encrypts before anybody is known who does, comes to Python first, and is handed back to the door with
what he said (``Door.again``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgpool._fastpath import Guest, Newcomer, known_epoch
from pgpool.auth.admission import Admission
from pgpool.backend.pool import Entry
from pgpool.policy.balance import draw_ring
from pgpool.session import steering, tell
from pgpool.session.journal import Mark
from pgpool.session.state import Session
from pgpool.system import sockets
from pgpool.system.logs import Level, level_named, log
from pgpool.system.sockets import Peer
from pgpool.wire import messages

if TYPE_CHECKING:
    from pgpool.session.worker import Worker

LIFE = 10.0
"""Seconds a decision is kept: pool_hba.conf may name hosts and groups, which change without a word to us."""
RING = 64
"""Nodes drawn beforehand, one for each session of a guest."""
ADDRESSES = 64
"""So many clients' addresses are kept with one guest."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What a session of the guest is made of."""

    entry: Entry
    admission: Admission


def remember(session: Session) -> None:
    """The session has ended well, and its links were kept: is its client one to be served as a guest?"""
    entry = session.entry
    guest = entry.guest
    came = session.newcomer
    if came is None or not worth(session, came):
        return
    if guest is None or (guest.epoch, guest.rules, guest.tls) != (known_epoch(session.relay), came.rules, came.tls):
        guest = entry.guest = make(session)
        door = session.worker.door
        door.guests = [known for known in door.guests if known.good and known.owner.entry is not entry] + [guest]
    guest.admit(came.address, session.peer.host, LIFE)
    if guest.places > ADDRESSES:
        entry.forget_guest()


def worth(session: Session, came: Newcomer) -> bool:
    """Nobody was asked anything, the session was an ordinary one, and nothing that is set wants to see each of them."""
    s = session.settings
    return (
        came.rules == session.worker.door.rules
        and s is session.worker.settings
        and session.startup == session.entry.startup
        and not session.own_settings
        and known_epoch(session.relay) == session.worker.shared.epoch
        and not (s.log_connections or s.log_disconnections or s.log_hostname)
        and not (s.reserved_connections or s.child_max_connections or s.connection_life_time or s.client_idle_limit)
        and not (s.statement_level_load_balance or s.eager_backend_connections)
        and not log.enabled(Level.DEBUG1)
        and level_named(s.client_min_messages) > Level.DEBUG1
    )


def make(session: Session) -> Guest:
    worker, entry, startup = session.worker, session.entry, session.startup
    login = entry.links[session.primary_id].login
    status = login.parameter_status
    queries = [sql for sql, aborts in worker.reset_queries() if not aborts]
    return Guest(
        session.relay,
        Owner(entry, session.admission),
        [pooled.link for pooled in entry.links.values()],
        entry.links[session.primary_id].link,
        draw(session),
        startup.sent,
        session.greeting,
        b"".join(messages.query(sql) for sql in queries),
        len(queries),
        worker.cell.words,
        entry.slot.words,
        entry.slot.pool,
        messages.raw(f"pgpool: {startup.user} {startup.database} "),
        session.first_context,
        known_epoch(session.relay),
        session.newcomer.rules,
        session.newcomer.tls,
        status.get("standard_conforming_strings") == "off",
        messages.raw(status.get("client_encoding", "")),
    )


def draw(session: Session) -> bytes:
    """The nodes of coming sessions' reads."""
    worker, startup = session.worker, session.startup
    if not session.settings.load_balance_mode or not session.settings.mode.has_primary:
        return bytes([session.primary_id]) * RING
    nodes = worker.nodes()
    drawn = draw_ring(
        nodes, RING, worker.dice, session.routing, startup.application_name, startup.database, startup.user
    ) or [session.primary_id] * RING
    return bytes(steering.instead(session, drawn, nodes))


def resume(worker: Worker, guest: Guest, fd: int) -> Session:
    """The Session of a guest, as it would stand had Python begun it."""
    owner = guest.owner
    entry = owner.entry
    peer = sockets.LOCAL_PEER if guest.host == sockets.LOCAL_PEER.host else Peer(guest.host, guest.port)
    session = Session(worker, entry.startup, peer, owner.admission, entry, 0.0)
    session.client_fd = fd
    entry.idle_since = 0.0
    session.primary_id = next(n for n, pooled in entry.links.items() if pooled.link is guest.primary)
    for node_id in {session.primary_id, guest.node}:
        if node_id in entry.links:
            session.marks[node_id] = Mark()
    session.home_id = session.balance_id = guest.node
    session.balance_ready = guest.node in session.marks
    session.told = tell.told
    session.began = time.monotonic() - max(0.0, time.time() - guest.began)
    session.apply_settings()
    return session
