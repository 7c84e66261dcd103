"""Statements that pgpool refuses itself: an ERROR, and the transaction fails as if a backend had refused them."""

from __future__ import annotations

from pgpool.errors import SessionFatal, StatementError
from pgpool.model import Kind, State, Statement
from pgpool.policy.aside import unfit
from pgpool.session import own
from pgpool.session.state import Session
from pgpool.wire import messages


def refuse(session: Session, error: StatementError) -> None:
    """Answer the message at hand with ``error``, and be done with it; after an extended one all up to Sync is skipped."""
    relay = session.relay
    session.until(relay.barrier)
    begun = session.link_of(relay.segment_link())
    if relay.kind == "Q":
        if begun is not None:
            raise SessionFatal("a simple query arrived before the end of an extended query message", sqlstate="08P01")
        fail_transaction(session)
        own.send(session, own.error_of(error) + messages.ready_for_query(own.state_of(session)))
        relay.skip()
        relay.rest()
        return
    if begun is None:
        fail_transaction(session)
    elif begun.link.skipping:
        relay.skip()
        return
    else:
        # the batch is one transaction with what it did before: the backend must know that it has failed
        relay.say(begun.link, messages.execute("pgpool_error_portal"), "E")
        session.answered(begun)
        begun.link.take_failure()
    session.own_skipping = relay.own_segment = True
    own.send(session, own.error_of(error))
    relay.skip()


def fail_transaction(session: Session) -> None:
    """The open transaction, if there is one, fails (behaviour.md 5.7)."""
    if session.primary.link.txn == "T":
        session.ask(session.primary, b"send invalid query from pgpool to abort transaction")
        session.relay.state |= State.FAILED


def refused(session: Session, statement: Statement) -> bool:
    """Refuse a statement that would do other than it says on the standby that leads. False: it may go on."""
    if session.away.node < 0 or session.relay.state & State.FAILED:
        return False
    prepared = session.prepared.get(statement.name) if statement.kind is Kind.EXECUTE else None
    why = unfit(statement) or (unfit(prepared.statement) if prepared else "")
    if why:
        error = StatementError(
            "this statement cannot run in a read-only transaction on a standby",
            detail=why[0].upper() + why[1:] + ".",
            hint="PGPOOL SET read_only_transactions_on_standby = off, before the transaction begins.",
            sqlstate="0A000",
        )
        refuse(session, error)
    return bool(why)
