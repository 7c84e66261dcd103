"""Read your own writes on standbys (ours): reads go only to a standby that has replayed what the session must see.

With ``disable_load_balance_on_write = lsn`` that is the session's last write; in every mode it is what ``PGPOOL SET
min_lsn`` asks for, with a token that ``PGPOOL SHOW write_lsn`` has given to another connection. A position nobody
knows does not count. Two bits of the session's state say what is open: WROTE_IN_SESSION that the primary must be
asked where the last write ended, AWAITS_REPLAY that a node must be asked how far it is. While one is set, reads come
to Python; else none does.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from pgpool.errors import PgpoolError, SessionFatal, StatementError
from pgpool.model import Dest, Reason, Route, State
from pgpool.session import steering
from pgpool.session.show import Reply
from pgpool.session.show_parse import OwnStatement, Verb
from pgpool.system.logs import LOG, log

if TYPE_CHECKING:
    from pgpool.backend.pool import PooledLink
    from pgpool.session.state import Session

LOOK = 0.01
"""Seconds between two looks at the position of a node that was not far enough: meanwhile reads go to the primary."""
_WRITTEN = "SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.current_setting('wal_block_size')"
"""Not the flushed position: with synchronous_commit = off the commit of the last write may not be in it."""
_REPLAYED = "SELECT pg_catalog.pg_last_wal_replay_lsn()"
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_PAGE_HEADERS = (24, 40)
"""Bytes of the short and of the long header of a WAL page (SizeOfXLogShortPHD, SizeOfXLogLongPHD)."""

NAMES = ("write_lsn", "min_lsn")


def number_of(text: str) -> int:
    """``0/3000148`` as a number. ValueError: it is none."""
    match = _LSN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a WAL position: {text!r}")
    return int(match[1], 16) << 32 | int(match[2], 16)


def text_of(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def end_of_record(lsn: int, block: int) -> int:
    """Where the last record ends, of an insert position: at the start of a page that one is behind the page's header, and a
    standby that has replayed everything is before it."""
    return lsn - lsn % block if lsn % block in _PAGE_HEADERS else lsn


def must_see(session: Session) -> int:
    """The position that a standby must have replayed to answer this session's reads; 0: any will do."""
    return max(session.min_lsn, session.wrote_lsn if by_position(session) else 0)


def by_position(session: Session) -> bool:
    return session.settings.disable_load_balance_on_write == "lsn"


def looked(session: Session, waits: Route) -> Route:
    """The route of a read for which a position had to be looked at: ``waits``, or to the load balance node."""
    if not reached(session):
        return waits
    cacheable = not session.relay.state & State.AWAITS_REPLAY
    return Route(Dest.BALANCE, Reason.BALANCED, waits.effect, waits.counter, cacheable)


def reached(session: Session) -> bool:
    """Has the node that would answer a read now replayed what the session must see?"""
    relay = session.relay
    if relay.primary_busy:
        return False  # it goes there anyway, and the write may not be over
    try:
        if by_position(session):
            note_write(session)
        if relay.segment_link() >= 0:
            return session.entry.links[relay.segment_link()].replayed >= must_see(session)
        if not session.balance_ready:
            session.open_balance()
        if relay.next_in_ring() >= 0:
            return ring_reached(session)
        home = session.balance_id
        if home != session.primary_id and not has_replayed(session, session.entry.links[home]):
            return False
    except SessionFatal:
        raise
    except PgpoolError as failed:
        log.log(LOG, failed.message, detail=failed.detail)
        return False
    relay.state &= ~State.AWAITS_REPLAY
    return True


def note_write(session: Session) -> None:
    """Ask the primary where the WAL ends, when the session has written since it was asked last (in other modes than lsn:
    when it has ever written, because they need the bit)."""
    relay = session.relay
    if not relay.state & State.WROTE_IN_SESSION:
        return
    [[lsn, block]] = session.query(_WRITTEN)
    session.wrote_lsn = max(session.wrote_lsn, end_of_record(number_of(lsn or ""), int(block or 0)))
    if by_position(session):
        relay.state = relay.state & ~State.WROTE_IN_SESSION | State.AWAITS_REPLAY


def ring_reached(session: Session) -> bool:
    """The same with statement_level_load_balance: nodes that are not far enough are left out until they are."""
    relay = session.relay
    fit = set()
    nodes = [node.id for node in steering.drawable(session)]
    for node_id in nodes:
        if node_id == session.primary_id or has_replayed(session, session.entry.links[node_id]):
            fit.add(node_id)
    if relay.next_in_ring() < 0 or not fit:
        return False
    if len(fit) == len(nodes):
        relay.state &= ~State.AWAITS_REPLAY
        if session.ring_cut:
            steering.draw(session)
    elif relay.node_at(relay.next_in_ring()) not in fit:
        steering.draw(session, fit)
    return relay.node_at(relay.next_in_ring()) in fit


def has_replayed(session: Session, pooled: PooledLink) -> bool:
    """Ask a node how far it is, unless that is known to be far enough, or was asked just now."""
    if pooled.replayed < must_see(session) and (now := time.monotonic()) - pooled.asked >= LOOK:
        pooled.asked = now
        for (lsn,) in session.query(_REPLAYED, pooled):
            pooled.replayed = max(pooled.replayed, number_of(lsn)) if lsn else 0
    return pooled.replayed >= must_see(session)


# ---------------------------------------------------------------- PGPOOL SHOW write_lsn, PGPOOL SHOW/SET/RESET min_lsn


def answer(session: Session, statement: OwnStatement) -> Reply:
    """One of the statements about NAMES. Raises StatementError."""
    if statement.name == "write_lsn":
        if statement.verb is not Verb.SHOW:
            raise StatementError('parameter "write_lsn" cannot be changed', sqlstate="55P02")
        return _shown("write_lsn", last_write(session))
    if statement.verb is Verb.SHOW:
        return _shown("min_lsn", session.min_lsn)
    require(session, statement.value if statement.verb is Verb.SET else None)
    return Reply((), [], "SET")


def _shown(name: str, lsn: int) -> Reply:
    return Reply((name,), [(text_of(lsn),)], "SELECT 1")


def last_write(session: Session) -> int:
    """A position that has all writes of the session before it; 0 when it has written nothing."""
    relay = session.relay
    if relay.state & State.WROTE_IN_TRANSACTION or relay.segment_link() >= 0:
        raise StatementError(
            "write_lsn is not known before the transaction has ended",
            hint="Ask for it after COMMIT (after Sync in a pipeline).",
            sqlstate="25001",
        )
    try:
        note_write(session)
    except SessionFatal:
        raise
    except PgpoolError as failed:
        raise StatementError("write_lsn is not known", detail=failed.message) from None
    return session.wrote_lsn


def require(session: Session, text: str | None) -> None:
    """PGPOOL SET min_lsn = text; None: nothing is required any more. Raises StatementError.

    A REPEATABLE READ transaction that has begun to read keeps its snapshot, as it does without pgpool."""
    try:
        lsn = number_of(text) if text is not None else 0
    except ValueError:
        raise StatementError(
            f'invalid value for parameter "min_lsn": "{text}"', hint="A token of PGPOOL SHOW write_lsn.", sqlstate="22023"
        ) from None
    session.min_lsn = lsn
    if lsn:
        session.relay.state |= State.AWAITS_REPLAY
