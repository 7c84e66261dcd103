"""Whom a session asks about the catalogs (relcache_query_target)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgpool.errors import PgpoolError, SessionFatal
from pgpool.model import Dest, Reason, Route, State
from pgpool.system.logs import LOG, log

if TYPE_CHECKING:
    from pgpool.backend.pool import PooledLink
    from pgpool.session.state import Session

_BALANCED = Route(Dest.BALANCE, Reason.BALANCED)


def context(session: Session) -> int:
    """The key under which names are remembered (Relcache.lookup): the relay salts its context for a session that may own
    temporary tables, and so is this."""
    return session.names() ^ session.relay.context ^ session.context()


def ask(session: Session, sql: str) -> list[tuple[str | None, ...]]:
    """Rows of a look-up, from the node that relcache_query_target names; from the primary when that one cannot answer or
    does not know what the session has made. Raises PgpoolError."""
    pooled = standby(session)
    if pooled is not None:
        try:
            rows = session.query(sql, pooled)
        except SessionFatal:
            raise
        except PgpoolError as failed:
            log.log(LOG, failed.message)
        else:
            if not pooled.link.dead:
                return rows
    return session.query(sql)


def standby(session: Session) -> PooledLink | None:
    """The load balance node, when it can be asked now: not in the middle of a batch, nor about what a transaction has made
    or set and other nodes have not seen, nor about temporary tables."""
    relay = session.relay
    if session.settings.relcache_query_target != "load_balance_node" or relay.primary_busy or relay.segment_link() >= 0:
        return None
    if relay.state & State.WROTE_IN_TRANSACTION or session.journal.transaction or relay.context != session.context():
        return None
    if not session.balance_ready:
        session.open_balance()
    node_id = session.node_for(_BALANCED)
    pooled = session.entry.links[node_id]
    if node_id == session.primary_id:
        return None
    if not pooled.link.ready and not relay.state & State.IN_TRANSACTION:
        session.catch_up(node_id)
    return pooled if node_id in session.marks and pooled.link.ready else None
