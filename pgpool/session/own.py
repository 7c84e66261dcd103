"""Statements that pgpool answers itself (SHOW pool_*, PGPOOL ...), in the simple and in the extended protocol."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pgpool.errors import StatementError
from pgpool.model import Dest, Reason, Route, State, Statement
from pgpool.session import own_settings, position
from pgpool.session.explain import explain
from pgpool.session.show import Reply, ShowContext, answer
from pgpool.session.show_parse import Verb
from pgpool.session.show_parse import parse as parse_own
from pgpool.session.state import Session, SessionOver
from pgpool.wire import messages

TEXT_OID = 25
MAX_OWN = 100
"""Statements and portals of ours that a session may have at the same time; the answers of some are large."""


@dataclass(slots=True)
class OwnStatement:
    """A prepared statement or portal of ours; ``reply`` once it was run."""

    sql: str
    reply: Reply | None = None
    sent: int = 0


def run(session: Session, sql: str) -> Reply | None:
    """The answer to one of our statements; None when it is not ours after all. Raises StatementError."""
    if session.relay.state & State.FAILED:
        raise aborted(sql)
    parsed = parse_own(sql)
    if parsed is not None and parsed.verb is Verb.EXPLAIN:
        return explain(session, parsed.value or "")
    if parsed is not None and parsed.name in position.NAMES:
        return position.answer(session, parsed)
    worker = session.worker
    context = ShowContext(
        settings=session.settings,
        base_settings=worker.settings,
        shared=worker.shared,
        child_index=worker.index,
        pool_index=session.entry.slot.pool,
        load_balance_node=session.balance_id,
        now=time.time,
        probe=worker.prober(session.settings),
    )
    reply = answer(sql, context)
    if reply is not None and reply.settings is not None:
        if reply.name == "all":
            position.require(session, None)
        own_settings.changed(session, reply.settings, reply.name, reply.own)
    return reply


def must_run(session: Session, sql: str) -> Reply:
    reply = run(session, sql)
    if reply is None:
        raise StatementError("syntax error in a statement for pgpool", sqlstate="42601")
    return reply


def send(session: Session, data: bytes) -> None:
    if session.relay.reply(data):
        raise SessionOver("the client closed the connection")


def answer_simple(session: Session, statement: Statement, decided: Route) -> None:
    """Answer a Query message. ReadyForQuery tells the true transaction state (the original says idle always)."""
    relay = session.relay
    session.until(relay.barrier)
    text = messages.raw(statement.text)
    try:
        if decided.reason is Reason.FAILED_TRANSACTION:
            raise aborted(statement.text)
        reply = run(session, statement.text)
        if reply is None:
            # not ours after all: the primary words what is wrong with it
            session.take(session.primary, Route(Dest.PRIMARY, Reason.UNPARSABLE).code, text)
            return
        data = notices(reply) + rows(reply, 0) + messages.command_complete(reply.tag)
    except StatementError as error:
        data = error_of(error)
    relay.begun(text, decided.code)
    send(session, data + messages.ready_for_query(state_of(session)))
    relay.skip()
    relay.rest()


def aborted(text: str) -> StatementError:
    return StatementError(
        "current transaction is aborted, commands ignored until end of transaction block",
        detail=f"statement: {text}",
        sqlstate="25P02",
    )


def state_of(session: Session) -> bytes:
    return session.primary.link.txn.encode()


def error_of(error: StatementError) -> bytes:
    return messages.error_response("ERROR", error.sqlstate, error.message, error.detail, error.hint)


def notices(reply: Reply) -> bytes:
    return b"".join(messages.notice_response("NOTICE", "00000", text) for text in reply.notices)


def description(reply: Reply, type_oid: int) -> bytes:
    return messages.row_description(reply.columns, type_oid) if reply.columns else b""


def rows(reply: Reply, type_oid: int) -> bytes:
    return description(reply, type_oid) + b"".join(messages.data_row(row) for row in reply.rows)


# ---------------------------------------------------------------- extended protocol


def parse(session: Session, name: str, sql: str) -> None:
    """Parse of one of our statements: from here to Sync, messages come to Python."""
    session.relay.own_segment = True
    attempt(session, lambda: keep(session, "S" + name, sql) + messages.parse_complete())


def keep(session: Session, key: str, sql: str) -> bytes:
    """Raises StatementError when there are too many."""
    session.own.pop(key, None)
    if len(session.own) >= MAX_OWN:
        raise StatementError(
            "too many prepared statements and portals for pgpool itself",
            hint="Close those that are not needed any more.",
            sqlstate="53400",
        )
    session.own[key] = OwnStatement(sql)
    return b""


def reply(session: Session, data: bytes) -> None:
    """Answer the message at hand and be done with it."""
    session.until(session.relay.barrier)
    send(session, data)
    session.relay.skip()


def bind(session: Session, portal: str, name: str) -> None:
    statement = session.own["S" + name]
    assert isinstance(statement, OwnStatement)
    session.relay.own_segment = True
    attempt(session, lambda: keep(session, "P" + portal, statement.sql) + messages.bind_complete())


def describe(session: Session, which: str, name: str) -> None:
    statement = session.own[which + name]
    assert isinstance(statement, OwnStatement)

    def described() -> bytes:
        if statement.reply is None:
            statement.reply = must_run(session, statement.sql)
        shape = description(statement.reply, TEXT_OID) or messages.no_data()
        return messages.parameter_description([]) + shape if which == "S" else shape

    attempt(session, described)


def execute(session: Session, portal: str, limit: int) -> None:
    """Execute; ``limit`` rows at most, 0 for all."""
    own = session.own["P" + portal]
    assert isinstance(own, OwnStatement)

    def executed() -> bytes:
        if own.reply is None:
            own.reply = must_run(session, own.sql)
        end = len(own.reply.rows) if limit <= 0 else min(len(own.reply.rows), own.sent + limit)
        data = notices(own.reply) + b"".join(messages.data_row(row) for row in own.reply.rows[own.sent : end])
        own.sent = end
        if limit > 0 and end < len(own.reply.rows):
            return data + messages.portal_suspended()
        return data + messages.command_complete(own.reply.tag)

    session.relay.begun(messages.raw(own.sql), Route(Dest.OURSELVES, Reason.OWN_STATEMENT).code)
    attempt(session, executed)


def attempt(session: Session, make: Callable[[], bytes]) -> None:
    """Answer with what ``make`` returns, or with its error; after an error everything up to Sync is skipped."""
    try:
        data = make()
    except StatementError as error:
        session.own_skipping = True
        data = error_of(error)
    reply(session, data)


def sync(session: Session) -> None:
    """Sync of a segment that had statements of ours; a backend in it has its own to say."""
    relay = session.relay
    session.own_skipping = False
    relay.own_segment = False
    if not relay.state & State.IN_TRANSACTION:
        for key in [key for key in session.own if key.startswith("P")]:
            del session.own[key]
    if relay.segment_link() >= 0:
        session.take(session.primary, 0)
        if session.away.node >= 0:
            session.until(relay.barrier)  # the transaction may be over: the primary is another one then
        return
    reply(session, messages.ready_for_query(state_of(session)))
    relay.rest()


def close(session: Session, which: str, name: str) -> None:
    session.own.pop(which + name, None)
    reply(session, messages.close_complete())
