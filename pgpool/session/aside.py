"""READ ONLY transactions on the load balance node (read_only_transactions_on_standby, ours): policy/aside.py decides.

The standby takes the primary's place in the session, ``session.primary_id`` and the relay's primary, from BEGIN to
the end of the transaction; ``session.away.node`` is the primary's node id meanwhile. It must not be missed there:
BEGIN, COMMIT and ROLLBACK are never settled by the verdict table then, and nothing behind the end of the transaction
is looked at before that is answered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgpool.errors import PgpoolError, SessionFatal
from pgpool.model import Dest, Effect, Kind, Reason, Route, State, Statement
from pgpool.policy.aside import ENDS, makes_read_only, may_begin
from pgpool.policy.route import awaits_replay, bound_to_primary
from pgpool.session import follow, position, steering
from pgpool.session.journal import ALL
from pgpool.system.logs import LOG, log

if TYPE_CHECKING:
    from pgpool.session.state import Session

_BALANCED = Route(Dest.BALANCE, Reason.BALANCED)
_DEFAULT = "default_transaction_read_only"
_SETS_DEFAULT = frozenset((_DEFAULT, "session characteristics", ALL))
"""Keys of the journal under which that may have been changed."""
_HOLDS = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"
    " OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"
    " OR (pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) '0' AND EXISTS (SELECT FROM pg_catalog.pg_class"
    " WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()))"
)
"""What a session has on one node only: the primary must be there to be asked for it, and to send notifications."""


# ---------------------------------------------------------------- away, and back


def heed(session: Session, statement: Statement, decided: Route) -> Route:
    """``statement`` is about to be sent, and no batch is open: let a standby lead if that is what it asks for."""
    if not session.routing.read_only_aside:
        return decided
    if statement.kind is Kind.BEGIN:
        node_id = node_to_begin(session, statement)
    elif makes_read_only(statement):
        node_id = node_to_go_on(session)
    else:
        return decided
    if node_id < 0:
        return decided
    lead(session, node_id)
    return replace(decided, reason=Reason.ON_STANDBY)


def node_to_begin(session: Session, statement: Statement) -> int:
    """The node that can run the transaction which this BEGIN opens; -1: it begins on the primary."""
    if not session.routing.read_only_aside or session.away.node >= 0 or session.relay.state & State.IN_TRANSACTION:
        return -1
    asked = may_begin(statement, False) or (may_begin(statement, True) and read_only_by_default(session))
    return fit_node(session) if asked else -1


def node_to_go_on(session: Session) -> int:
    """The same for SET TRANSACTION READ ONLY behind a plain BEGIN: the standby has begun then, the primary no more."""
    relay = session.relay
    session.until(relay.barrier)
    if session.away.node >= 0 or relay.state & ~(State.WROTE_IN_SESSION | State.AWAITS_REPLAY) != State.IN_TRANSACTION:
        return -1
    if session.away.opened != requests(session) or not relay.begin_text or session.primary.link.txn != "T":
        return -1
    node_id = fit_node(session)
    pooled = session.link_of(node_id)
    if pooled is None or (pooled.link.txn == "I" and not session.ask(pooled, relay.begin_text)):
        return -1
    if not session.ask(session.primary, b"ROLLBACK"):
        raise SessionFatal("the primary does not end an empty transaction")
    return node_id


def requests(session: Session) -> int:
    """Requests that this child was given so far: tells whether anything came since BEGIN."""
    return session.worker.cell.relay_counts().queries


def fit_node(session: Session) -> int:
    """The load balance node, when it may and can lead a READ ONLY transaction now; else -1."""
    relay = session.relay
    session.until(relay.barrier)
    state = State(relay.state) | State.IN_TRANSACTION
    if relay.primary_busy or relay.segment_link() >= 0 or session.locks or session.routing.everywhere:
        return -1  # the last: nobody knows yet which tables it will read
    if bound_to_primary(state, session.routing, session.worker.nodes()) is not None:
        return -1
    if any(not prepared.message for prepared in session.prepared.values()):
        return -1
    if awaits_replay(state, session.routing) and not position.reached(session):
        return -1
    if not session.balance_ready:
        session.open_balance()
    node_id = session.node_for(_BALANCED)
    pooled = session.entry.links[node_id]
    if node_id == session.primary_id or pooled.link.txn != "I" or holds(session):
        return -1
    if not pooled.link.ready:
        session.catch_up(node_id)
    return node_id if node_id in session.marks and pooled.link.ready else -1


def holds(session: Session) -> bool:
    """Has the session anything on the primary that a transaction elsewhere would miss? Asked again only when the primary was
    given a statement meanwhile."""
    if not session.primary.link.touched:
        return False
    given = session.worker.cell.counters(session.primary_id)[:6]
    if session.away.held is None or session.away.held[0] != given:
        try:
            [[said]] = session.query(_HOLDS)
        except SessionFatal:
            raise
        except PgpoolError as failed:
            log.log(LOG, failed.message)
            return True
        session.away.held = given, said != "f"
    return session.away.held[1]


def read_only_by_default(session: Session) -> bool:
    """default_transaction_read_only, as the session has it now."""
    journal = session.journal
    version, value = session.away.default
    if version != journal.version:
        told = session.primary.login.parameter_status.get(_DEFAULT, "")  # PostgreSQL 14 and later say it at login
        if not told or any(key.lower() in _SETS_DEFAULT for key in journal.settings):
            [[told]] = session.query(f"SELECT pg_catalog.current_setting('{_DEFAULT}')")
        value = told == "on"
        session.away.default = journal.version, value
    return value


def lead(session: Session, node_id: int) -> None:
    """From now on this node stands in the primary's place."""
    relay = session.relay
    if session.primary.link.ready:
        session.marks[session.primary_id].settings = session.journal.version
    session.away.node, session.away.back, session.primary_id = session.primary_id, back, node_id
    relay.set_ring(b"")
    relay.set_primary(session.primary.link)
    relay.state |= State.ON_STANDBY
    relay.watch_transaction()


def back(session: Session) -> None:
    """The transaction is over. Raises SessionFatal when the primary is not there any more."""
    mark = session.marks[session.primary_id]
    mark.settings, mark.transaction = session.journal.version, 0
    session.primary_id, session.away.node, session.away.back = session.away.node, -1, None
    session.relay.state &= ~State.ON_STANDBY
    pooled = session.primary
    if pooled.link.dead and follow.patient(session):
        follow.move(session, steering.balance)
        return
    if pooled.link.dead:
        raise SessionFatal("terminating connection: the primary has hung up meanwhile", sqlstate="57P01")
    session.relay.set_primary(pooled.link)
    if not pooled.link.ready:
        session.catch_up(session.primary_id)
        if session.primary_id not in session.marks:
            raise SessionFatal("the primary does not take the session's settings")
    if session.settings.statement_level_load_balance:
        session.draw_later()


# ---------------------------------------------------------------- meanwhile


def sent(session: Session, statement: Statement) -> None:
    """A simple query was sent: wait for the end of the transaction before what follows is looked at."""
    if statement.kind is Kind.BEGIN:
        session.away.opened = requests(session)
    elif session.away.node >= 0 and statement.kind in ENDS:
        session.until(session.relay.barrier)


def bound(session: Session, statement: Statement) -> None:
    """A Bind was sent: the rest of a batch that ends the transaction comes to Python (own.sync waits for its end)."""
    if statement.kind is Kind.BEGIN:
        session.away.opened = requests(session)
    elif session.away.node >= 0 and statement.kind in ENDS and not statement.effect & Effect.JOURNAL:
        session.relay.own_segment = True
