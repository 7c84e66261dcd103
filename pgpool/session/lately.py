"""dml_adaptive_global: tables that any session has written stay on the primary for a while. Source: behaviour.md 5.6.

A write is noted in shared memory before it is sent (in a transaction: before its COMMIT), so that whoever knows that
it is done finds it there, and once more when it is done. Tables are known by their oids, with those of what they are
a part of: a write to a partition counts for reads of the whole, a view reads what its tables have.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pgpool.errors import PgpoolError, SessionFatal
from pgpool.model import Dest, Name, NodeView, Reason, Role, Route, State, Statement
from pgpool.policy.written import ANY, NO_TABLE
from pgpool.session import catalogs
from pgpool.system.logs import LOG, log

if TYPE_CHECKING:
    from pgpool.config.settings import Settings
    from pgpool.session.state import Session

SHORTEST, LONGEST = 0.1, 3600.0
"""Seconds a table counts as written after its last write, whatever the delay is."""


def note(session: Session, *, ends: bool) -> None:
    """What the session has written counts for all from now on, unless a transaction is open that does not end with it
    (``ends``)."""
    if not session.written or (session.relay.state & State.IN_TRANSACTION and not ends):
        return
    written = session.worker.shared.written
    names = tuple(session.written - {NO_TABLE})
    if names:
        written.note(keys(session, names), time.monotonic(), *spans(session))


def looked(session: Session, statement: Statement, found: Route) -> Route:
    """The route of a read that could go to a standby: ``found``, or to the primary when it reads what was written lately."""
    tables = statement.tables
    if not tables or not lately(session, tables):
        return found
    return replace(found, dest=Dest.PRIMARY, reason=Reason.WRITTEN_LATELY, cacheable=False)


def lately(session: Session, tables: tuple[Name, ...]) -> bool:
    written = session.worker.shared.written
    now = time.monotonic()
    if now - written.since < session.settings.track_table_mutation_cold_start_duration / 1000:
        return True
    return written.lately((*keys(session, tables), key_of(session, 0)), now, *spans(session))


def keys(session: Session, names: tuple[Name, ...]) -> set[int]:
    """The tables as the shared memory knows them; that of an unknown one stands for all tables of the database."""
    if ANY in names:
        return {key_of(session, 0)}
    worker = session.worker
    asks = session.relay.segment_link() != session.primary_id  # a question there would commit what its batch has done
    try:
        families = worker.relcache.families(
            session.query if asks else None, session.startup.database, catalogs.context(session), names, worker.shared.epoch
        )
    except SessionFatal:
        raise
    except PgpoolError as failed:
        log.log(LOG, failed.message)
        families = {}
    return {key_of(session, oid) for name in names for oid in families.get(name) or (0,)}


def key_of(session: Session, oid: int) -> int:
    """Never 0, which is a free place. Two databases with the same number would share tables: more reads on the primary."""
    return (zlib.crc32(session.startup.database.encode("utf-8", "surrogateescape")) | 1) << 32 | oid


def spans(session: Session) -> tuple[float, float]:
    """(seconds a table counts as written after its last write, and at most after the first of a row of writes)."""
    settings = session.settings
    factor = settings.track_table_mutation_ttl_factor
    return life(session.worker.nodes(), settings, factor), settings.track_table_mutation_max_staleness / 1000


def life(nodes: tuple[NodeView, ...], settings: Settings, factor: float) -> float:
    """The worst delay of a node that may answer reads, times the factor. Unknown, or not measured in time: the longest."""
    standbys = [n for n in nodes if n.usable and n.weight > 0 and n.role is not Role.PRIMARY]
    by_time = settings.delay_threshold_by_time > 0 or settings.replication_delay_source_cmd
    if not by_time or not all(n.delay_known for n in standbys):
        return LONGEST
    worst = max((n.delay for n in standbys), default=0) / 1e6
    return min(max(worst * factor, SHORTEST), LONGEST)
