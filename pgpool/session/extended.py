"""Extended-protocol messages that need Python: named statements and portals, first sights, statements of ours."""

from __future__ import annotations

from dataclasses import replace

from pgpool.backend.pool import PooledLink
from pgpool.model import Dest, Effect, Kind, Reason, Route, State, Statement
from pgpool.session import aside, own, refusal
from pgpool.session.follow import close_idle_everywhere
from pgpool.session.prepared import Prepared, no_room
from pgpool.session.show_parse import parse as ours
from pgpool.session.simple import carry, consequence, decide, executed
from pgpool.session.state import Session
from pgpool.session.unnamed import unnamed
from pgpool.sql.analyze import analyze
from pgpool.wire import messages

TOO_LONG = Route(Dest.PRIMARY, Reason.TOO_LONG, Effect.WRITE | Effect.PIN_SESSION)
ON_PRIMARY = Route(Dest.PRIMARY, Reason.NOT_A_READ, Effect.WRITE)


def handle(session: Session, kind: str) -> None:
    """The extended message at hand (P B D E C S H F)."""
    if session.own_skipping and kind not in "S":
        session.relay.skip()
        return
    _HANDLERS[kind](session)


def handle_parse(session: Session) -> None:
    relay = session.relay
    message = relay.message()
    if not relay.whole:
        name = messages.text(message[5 : message.index(b"\0", 5)])
        session.prepared[name] = Prepared(_unread(), b"", b"", nodes={session.primary_id})
        session.take(session.primary, TOO_LONG.code, unnamed=not name)
        return
    parsed = messages.read_parse(message[5:])
    name, text = messages.text(parsed.name), parsed.sql
    if name and (error := no_room(session, name, message, text)):
        refusal.refuse(session, error)
        return
    known = relay.look_up(text)
    statement = analyze(messages.text(text), standard_conforming_strings=not relay.backslash)
    session.own.pop("S" + name, None)
    if statement.kind in (Kind.POOL_SHOW, Kind.PGPOOL) and ours(statement.text):
        own.parse(session, name, statement.text)
        return
    decided = Route.from_code(known) if known else settled(session, statement, text)
    if statement.kind is Kind.DROP and statement.name == "database":
        close_idle_everywhere(session)
    if not name and statement.kind is Kind.BEGIN and relay.segment_link() < 0:
        decided = aside.heed(session, statement, decided)
    pooled = session.link_for(decided)
    code = decided.code
    session.take(pooled, code, text, unnamed=not name)
    node_id = relay.segment_link()
    prepared = Prepared(statement, message, text, nodes={node_id})
    if not name:
        session.unnamed = prepared
        if decided.cacheable and not decided.effect & Effect.JOURNAL:
            relay.known_unnamed()
        return
    session.prepared[name] = prepared
    begin = text if decided.effect & Effect.BEGIN and len(text) < 256 else None
    relay.remember(parsed.name, session.entry.links[node_id].link, begin)


def _unread() -> Statement:
    """A statement too long to be looked at: whatever it is, the primary gets it."""
    return analyze("DO 'unread'")


def handle_bind(session: Session) -> None:
    relay = session.relay
    message = relay.message()
    portal, name, _ = message[5:].split(b"\0", 2)  # the relay has looked: both end
    portal, name = messages.text(portal), messages.text(name)
    session.own.pop("P" + portal, None)
    fresh = relay.segment_link() < 0 and not relay.state & State.IN_TRANSACTION and not relay.primary_busy
    prepared = session.prepared.get(name) if name else unnamed(session)
    if "S" + name in session.own:
        own.bind(session, portal, name)
        return
    if prepared is None:
        pooled, code, text, after = here(session), ON_PRIMARY.code, None, None
    else:
        if refusal.refused(session, prepared.statement):
            return
        if prepared.statement.kind is Kind.PREPARE and (
            error := no_room(session, prepared.statement.name, prepared.text, prepared.text)
        ):
            refusal.refuse(session, error)
            return
        relay.look_up(prepared.text)
        decided = settled(session, prepared.statement, prepared.text)
        if relay.segment_link() < 0:
            decided = aside.heed(session, prepared.statement, decided)
        bring_along(session, prepared.statement)
        pooled = bind_link(session, prepared, decided, name)
        code, text = decided.code, prepared.text
        after = consequence(session, prepared.statement, prepared.text) if decided.effect & Effect.JOURNAL else None
        if after is not None and not portal:
            session.callbacks.append(after)
            relay.notify_execute()
    session.take(pooled, code, text)
    if prepared is not None:
        aside.bound(session, prepared.statement)
    node_id = relay.segment_link()
    if portal and fresh:
        session.forget_portals()  # those of the transaction before
    if portal:
        session.portals[portal] = node_id
        session.portal_codes[portal] = code
        if after is not None:
            session.portal_afters[portal] = after
        else:
            session.portal_afters.pop(portal, None)
    else:
        relay.note_portal(session.entry.links[node_id].link)


def settled(session: Session, statement: Statement, text: bytes) -> Route:
    """decide(), but EXECUTE in the extended protocol runs on the primary, whatever it executes."""
    decided = decide(session, statement, text)
    return replace(decided, dest=Dest.PRIMARY) if statement.kind is Kind.EXECUTE else decided


def bring_along(session: Session, statement: Statement) -> None:
    """What an EXECUTE executes must be known on the primary."""
    target = executed(session, statement)
    if target is not None and session.primary_id not in target.nodes:
        carry(session, target, session.primary)


def bind_link(session: Session, prepared: Prepared, decided: Route, name: str) -> PooledLink:
    """The link to bind on; the statement is prepared there first if need be."""
    relay = session.relay
    if not name and session.primary_id in prepared.nodes:
        return session.primary
    open_id = relay.segment_link()
    if open_id >= 0 and session.entry.links[open_id].link.skipping:
        return session.entry.links[open_id]  # up to Sync nothing is run any more, so nothing is prepared elsewhere
    pooled = session.link_for(decided)
    if open_id >= 0 and (decided.dest is Dest.BALANCE or open_id == session.primary_id):
        pooled = session.entry.links[open_id]
    node_id = pooled.link.node
    if node_id in prepared.nodes:
        return pooled
    if not prepared.message:
        return session.entry.links[min(prepared.nodes, default=session.primary_id)]
    if open_id >= 0 and open_id == node_id:
        session.until(relay.flush)
        relay.say(pooled.link, prepared.message, "P")
        prepared.nodes.add(node_id)
    elif not carry(session, prepared, pooled):
        return session.primary
    if name:
        relay.prepared_on(messages.raw(name), pooled.link)
    return pooled


def here(session: Session) -> PooledLink:
    """Where the messages of this segment go; the primary when nothing was sent yet."""
    node_id = session.relay.segment_link()
    return session.entry.links.get(node_id) or session.primary


def handle_execute(session: Session) -> None:
    message = session.relay.message()
    portal, limit = messages.read_execute(message[5:])
    portal = messages.text(portal)
    if "P" + portal in session.own:
        own.execute(session, portal, limit)
        return
    pooled = portal_link(session, portal)
    begun = session.link_of(session.relay.segment_link())
    after = session.portal_afters.pop(portal, None)
    if after is None or (begun is not None and begun.link.skipping):
        session.take(pooled, session.portal_codes.get(portal, ON_PRIMARY.code))
        return
    session.callbacks.append(after)
    session.take(pooled, session.portal_codes[portal], notify=True)


def portal_link(session: Session, portal: str) -> PooledLink:
    node_id = session.portals.get(portal, -1) if portal else session.relay.portal_node()
    return fail_along(session, session.entry.links.get(node_id) or here(session))


def fail_along(session: Session, pooled: PooledLink) -> PooledLink:
    """The link for what was prepared or bound on ``pooled``. In a failed transaction a standby's part of it fails first, as
    the primary's does after an error on a standby (behaviour.md 5.7); the primary answers for one that takes no part."""
    relay = session.relay
    if not relay.state & State.FAILED or relay.segment_link() >= 0 or pooled is session.primary:
        return pooled
    if pooled.link.txn == "I":
        return session.primary
    if pooled.link.txn == "T":
        session.ask(pooled, b"send invalid query from pgpool to abort transaction")
    return pooled


def handle_describe(session: Session) -> None:
    which, name = _which(session)
    if which + name in session.own:
        own.describe(session, which, name)
        return
    if which == "P":
        pooled = portal_link(session, name)
    else:
        prepared = session.prepared.get(name) if name else unnamed(session)
        pooled = here(session)
        if prepared is not None and pooled.link.node not in prepared.nodes and prepared.nodes:
            pooled = session.entry.links[min(prepared.nodes)]
        pooled = fail_along(session, pooled)
    session.take(pooled, 1)


def handle_close(session: Session) -> None:
    """Close a portal where it is; a statement on every node that knows it."""
    relay = session.relay
    which, name = _which(session)
    if which + name in session.own:
        own.close(session, which, name)
        return
    if which == "P":
        pooled = portal_link(session, name)
        for known in (session.portals, session.portal_codes, session.portal_afters):
            known.pop(name, None)
        session.take(pooled, 1)
        return
    prepared = session.prepared.drop(name) if name else None
    pooled = here(session)
    if prepared is not None:
        relay.forget(messages.raw(name))
        if pooled.link.node not in prepared.nodes and prepared.nodes:
            pooled = session.entry.links[min(prepared.nodes)]
    message = relay.message()
    session.take(pooled, 1)
    for node_id in (prepared.nodes if prepared is not None else set()) - {relay.segment_link()}:
        other = session.entry.links.get(node_id)
        if other is not None and node_id in session.marks:
            relay.say(other.link, message, "C")
            relay.say(other.link, messages.sync(), "S")
            relay.push(other.link)


def _which(session: Session) -> tuple[str, str]:
    which, name = messages.read_target(session.relay.message()[5:])
    return messages.text(which), messages.text(name)


def handle_sync(session: Session) -> None:
    if session.relay.own_segment:
        own.sync(session)
        return
    session.take(here(session), 0)


def handle_flush(session: Session) -> None:
    """In a segment of ours: what the backends owe is asked for by the barrier before each answer of ours."""
    session.until(session.relay.barrier)
    session.relay.skip()


def handle_function_call(session: Session) -> None:
    """FunctionCall is routed like an INSERT (behaviour.md 4)."""
    session.take(session.primary, ON_PRIMARY.code)


_HANDLERS = {
    "P": handle_parse,
    "B": handle_bind,
    "D": handle_describe,
    "E": handle_execute,
    "C": handle_close,
    "S": handle_sync,
    "H": handle_flush,
    "F": handle_function_call,
}
