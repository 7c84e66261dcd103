"""Simple queries that need a decision: analyse, route, keep the journal, send on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pgpool._fastpath import was_refused
from pgpool.backend.pool import PooledLink, bridge
from pgpool.model import Dest, Effect, Kind, Reason, Route, State, Statement
from pgpool.policy.route import takes_lock
from pgpool.policy.written import written_by
from pgpool.session import aside, lately, own, refusal
from pgpool.session.follow import close_idle_everywhere
from pgpool.session.journal import ALL
from pgpool.session.prepared import Prepared, no_room
from pgpool.session.state import Session
from pgpool.sql.analyze import analyze
from pgpool.wire import messages

BY_NAME = (Kind.FETCH, Kind.CLOSE)
"""A portal of the extended protocol can be used by its name too, and may be on a standby."""
UNSETTLED = (*BY_NAME, Kind.DROP, Kind.POOL_SHOW, Kind.PGPOOL)
"""Looked at each time they come."""


def handle_query(session: Session) -> None:
    """The Query message at hand."""
    relay = session.relay
    text = relay.message()[5:-1]
    if not relay.whole:
        # longer than is ever read at once: the relay knows what to do, but for a batch that is still open
        decided = Route(Dest.PRIMARY, Reason.TOO_LONG, Effect.WRITE | Effect.PIN_SESSION)
        session.take(session.primary, decided.code, text)
        return
    relay.look_up(text)
    statement = analyze(messages.text(text), standard_conforming_strings=not relay.backslash)
    if refusal.refused(session, statement):
        return
    decided = decide(session, statement, text)
    if decided.dest is Dest.OURSELVES:
        own.answer_simple(session, statement, decided)
        return
    if relay.segment_link() < 0:
        decided = aside.heed(session, statement, decided)
    send(session, statement, decided, text)
    aside.sent(session, statement)


def send(session: Session, statement: Statement, decided: Route, text: bytes) -> None:
    """The Query at hand, to where it goes."""
    if statement.kind is Kind.PREPARE and (error := no_room(session, statement.name, text, text)):
        refusal.refuse(session, error)
        return
    if decided.effect & Effect.JOURNAL and statement.kind is not Kind.POOL_SHOW:
        journaled(session, statement, decided, text)
        return
    pooled = session.link_for(decided)
    if statement.kind in BY_NAME and session.portals:
        pooled = session.link_of(session.portals.get(cursor_of(statement.text), -1)) or pooled
    elif statement.kind is Kind.DROP and statement.name == "database":
        close_idle_everywhere(session)
    session.take(pooled, decided.code, text)


def cursor_of(text: str) -> str:
    """The name of the cursor in FETCH, MOVE and CLOSE: their last word."""
    name = text.rstrip("; \t\r\n").rpartition(" ")[2]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def decide(session: Session, statement: Statement, text: bytes) -> Route:
    """Route the statement last looked up, and let the verdict table remember it. EXECUTE does what its statement does."""
    prepared = executed(session, statement)
    decided = session.decide(statement, prepared.statement if prepared else None)
    if session.relay.unsure and decided.dest is Dest.BALANCE:
        decided = Route(Dest.PRIMARY, Reason.UNPARSABLE, decided.effect | Effect.WRITE, decided.counter)
    if decided.dest is Dest.BALANCE and (learnt := was_refused(session.relay)):
        decided = replace(decided, dest=Dest.PRIMARY, reason=Reason.REFUSED, effect=Route.from_code(learnt).effect)
    session.decided = text, decided.reason
    if decided.cacheable and not decided.effect & Effect.JOURNAL and statement.kind not in UNSETTLED:
        session.relay.settle(decided.code)
    note_written(session, statement, decided)
    if session.routing.notes_locks:
        note_locks(session, statement)
    return decided


def executed(session: Session, statement: Statement) -> Prepared | None:
    """What an EXECUTE runs, as far as it is known."""
    return session.prepared.get(statement.name) if statement.kind is Kind.EXECUTE else None


def note_locks(session: Session, statement: Statement) -> None:
    """failover_client_policy = wait: a session that holds advisory locks cannot go on without the server that knows them."""
    for part in statement.parts or (statement,):
        if takes_lock(part):
            session.locks = True
        elif any(function.name == "pg_advisory_unlock_all" for function in part.functions):
            session.locks = False


def note_written(session: Session, statement: Statement, decided: Route) -> None:
    """dml_adaptive: this statement is about to run. Verdicts depend on what the transaction has written."""
    if not session.routing.adaptive:
        return
    if prepared := executed(session, statement):
        statement = prepared.statement
    more = written_by(statement, decided, session.routing.relations)
    if more - session.written:
        session.written |= more
        session.relay.watch_transaction()
        session.rebase()
    if session.routing.everywhere and (more or statement.kind is Kind.COMMIT):
        lately.note(session, ends=statement.kind is Kind.COMMIT or bool(statement.parts))


def journaled(session: Session, statement: Statement, decided: Route, text: bytes) -> None:
    """A statement that Python keeps book of: what to do when it has succeeded is decided before it is sent."""
    after = consequence(session, statement, text)
    pooled = place(session, statement, decided)
    if after is None:
        session.take(pooled, decided.code, text)
        return
    session.callbacks.append(after)
    session.take(pooled, decided.code, text, notify=True)


def place(session: Session, statement: Statement, decided: Route) -> PooledLink:
    """The link for a journaled statement: EXECUTE and DEALLOCATE go where their statement is, or take it along."""
    prepared = session.prepared.get(statement.name) if statement.name else None
    if prepared is None or statement.kind not in (Kind.EXECUTE, Kind.DEALLOCATE):
        return session.link_for(decided)
    home = session.entry.links[min(prepared.nodes, default=session.primary_id)]
    if statement.kind is Kind.DEALLOCATE:
        return session.primary if session.primary_id in prepared.nodes else home
    pooled = session.link_for(decided)
    return home if pooled.link.node not in prepared.nodes and not carry(session, prepared, pooled) else pooled


def carry(session: Session, prepared: Prepared, pooled: PooledLink) -> bool:
    """Prepare a statement on one more node; False when that cannot be done."""
    if not prepared.message:
        return False
    relay = session.relay
    session.until(relay.barrier)
    if not pooled.link.ready:
        session.catch_up(pooled.link.node)
        if pooled.link.node not in session.marks:
            return False
    if prepared.sql:
        if not session.ask(pooled, prepared.message):
            return False
    else:
        relay.say(pooled.link, prepared.message, "P")
        relay.say(pooled.link, messages.sync(), "S")
        session.until(lambda: relay.finish(pooled.link))
        if pooled.link.take_failure():
            return False
    prepared.nodes.add(pooled.link.node)
    return True


def consequence(session: Session, statement: Statement, text: bytes) -> Callable[[bool], None] | None:
    """What a journaled statement means for the session once it has succeeded; None when nothing."""
    kind = statement.kind
    if (prepared := executed(session, statement)) and prepared.statement.effect & Effect.JOURNAL:
        return consequence(session, prepared.statement, prepared.text)
    if kind in (Kind.SET, Kind.RESET):
        return lambda ok: ok and setting_done(session, statement, text)
    if kind is Kind.SAVEPOINT:
        return lambda ok: ok and savepoint_done(session, statement.name)
    if kind is Kind.RELEASE:
        return lambda ok: ok and session.journal.release(statement.name)
    if kind is Kind.ROLLBACK_TO:
        return lambda ok: ok and rolled_back_to(session, statement.name)
    if kind is Kind.PREPARE:
        return lambda ok: ok and prepare_done(session, statement, text)
    if kind is Kind.DEALLOCATE:
        return lambda ok: ok and deallocate_done(session, statement.name)
    if kind is Kind.DISCARD:
        return lambda ok: ok and discard_done(session, statement.name)
    if kind is Kind.MULTI and not statement.effect & (Effect.PIN_TRANSACTION | Effect.PIN_SESSION):
        return lambda ok: ok and parts_done(session, statement)
    if kind in (Kind.COMMIT, Kind.ROLLBACK):
        return lambda ok: chained(session)
    if kind is Kind.MULTI:
        return lambda ok: several_done(session, statement, ok)
    return None


def several_done(session: Session, statement: Statement, ok: bool) -> None:
    """A string of several statements: its settings count as if they had come alone; transaction control in it leaves
    the primary in a transaction that the other nodes cannot be told of."""
    if statement.effect & Effect.PIN_TRANSACTION:
        chained(session)
        return
    for part in statement.parts if ok else ():
        if part.kind in (Kind.SET, Kind.RESET):
            setting_done(session, part, messages.raw(part.text))


def setting_done(session: Session, statement: Statement, text: bytes) -> None:
    key = statement.name or ALL
    if session.relay.state & State.IN_TRANSACTION or session.primary.link.pending:
        session.journal.set_in_transaction(key, text, statement.local)
    elif not statement.local:
        session.journal.set(key, text)
        if key == ALL:
            restore_startup(session)
    session.settings_changed()


def parts_done(session: Session, statement: Statement) -> None:
    """SET a = 1; SET b = 2: as if they had come one by one."""
    for part in statement.parts:
        if part.effect & Effect.JOURNAL and part.kind in (Kind.SET, Kind.RESET):
            setting_done(session, part, messages.raw(part.text))


def restore_startup(session: Session) -> None:
    """A reset brought back what the link was started with, which may have been another client's wishes: ours again."""
    sets = bridge(session.entry.startup, session.startup) or []
    for sql in sets:
        session.journal.set(sql.split()[1], sql.encode("utf-8", "surrogateescape"))
    session.ask(session.primary, *(s.encode("utf-8", "surrogateescape") for s in sets))
    session.marks[session.primary_id].settings = session.journal.version


def savepoint_done(session: Session, name: str) -> None:
    session.journal.savepoint(name)
    session.relay.watch_transaction()


def rolled_back_to(session: Session, name: str) -> None:
    remain = session.journal.roll_back_to(name)
    for node_id in session.standbys():
        pooled = session.entry.links[node_id]
        if pooled.link.txn == "E" or session.marks[node_id].transaction > remain:
            session.leave_transaction(node_id)
            if session.relay.begin_text.strip(b" ;\n").upper() != b"BEGIN":
                # a new snapshot would show another state than the transaction has seen: the primary goes on alone
                session.relay.state |= State.PINNED_TRANSACTION
    session.rebase()


def prepare_done(session: Session, statement: Statement, text: bytes) -> None:
    if statement.inner is None:
        return
    node_id = session.last_node()
    session.prepared[statement.name] = Prepared(statement.inner, text, text, True, {node_id})


def deallocate_done(session: Session, name: str) -> None:
    """The node that answered has forgotten the statement; the others are told now."""
    answered = session.last_node()
    for one in [name] if name else list(session.prepared):
        prepared = session.prepared.drop(one)
        if prepared is None:
            continue
        session.relay.forget(messages.raw(one))
        for node_id in prepared.nodes - {answered}:
            pooled = session.link_of(node_id)
            if pooled is not None and node_id in session.marks and pooled.link.txn == "I":
                session.ask(pooled, b'DEALLOCATE "' + messages.raw(one).replace(b'"', b'""') + b'"')
            elif pooled is not None and node_id in session.marks:
                session.lose(node_id)


def discard_done(session: Session, what: str) -> None:
    if what != "all":
        return
    session.journal.forget()
    session.locks = False
    session.prepared.clear()
    session.relay.forget()
    session.unnamed = None
    session.relay.state &= ~State.PINNED_SESSION
    for node_id in session.standbys():
        session.leave_transaction(node_id)
        if not session.ask(session.entry.links[node_id], b"DISCARD ALL"):
            session.lose(node_id)
    restore_startup(session)
    session.settings_changed()


def chained(session: Session) -> None:
    """COMMIT or ROLLBACK AND CHAIN: a new transaction is open; standbys leave the old one."""
    session.journal.end(False)
    for node_id in session.standbys():
        session.leave_transaction(node_id)
