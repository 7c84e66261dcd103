"""What the log and the client are told about each message: log_statement, log_client_messages, per-node statements."""

from __future__ import annotations

from pgpool.model import REASON_TEXT, Dest, Reason, Route, State
from pgpool.policy.route import route
from pgpool.session import own
from pgpool.session.state import Session
from pgpool.session.unnamed import unnamed
from pgpool.sql.analyze import analyze
from pgpool.system.logs import LOG, Level, level_named, log
from pgpool.wire import messages

_FRONTEND_NAMES = {
    "Q": "Query", "P": "Parse", "B": "Bind", "E": "Execute", "D": "Describe", "C": "Close", "S": "Sync",
    "X": "Terminate", "F": "FunctionCall",
}  # fmt: skip


def look(session: Session) -> None:
    """The message at hand, before anything is decided about it."""
    kind = session.relay.kind
    message = session.relay.message()
    if session.settings.log_statement:
        text = statement_of(session, kind, message)
        if text:
            log.log(LOG, f"statement: {text}")
    if session.settings.log_client_messages and kind in _FRONTEND_NAMES:
        log.log(LOG, f"{_FRONTEND_NAMES[kind]} message from frontend.", detail=detail_of(kind, message))


def listen(session: Session) -> None:
    """client_min_messages: from now on the client gets our own records from that level upwards (behaviour.md 13)."""
    log.echo(session.echo, level_named(session.settings.client_min_messages))


def echo(session: Session) -> None:
    """Send the client the records kept for it, unless it has got a part of another message just now.

    Their SQLSTATE is XX000, the original's for all that it says itself (behaviour.md 14; seen with 4.3.5)."""
    if session.relay.midway:
        return
    kept = session.echo[:]
    session.echo.clear()
    for level, message, detail, hint in kept:
        word = level.name.rstrip("12345")
        own.send(session, messages.notice_response(word, "XX000", message, detail, hint))


def _strings(message: bytes, at: int, count: int) -> list[str]:
    parts = message[at:].split(b"\0", count)
    return [messages.text(p) for p in parts[:count]] + [""] * (count - len(parts))


def statement_of(session: Session, kind: str, message: bytes) -> str:
    """The SQL behind a Query, Parse or Execute message; '' for others."""
    if kind == "Q":
        return _strings(message, 5, 1)[0]
    if kind == "P":
        return "Parse: " + _strings(message, 5, 2)[1]
    if kind == "E" and (sql := sql_of(session, "")):
        return "Execute: " + sql
    return ""


def detail_of(kind: str, message: bytes) -> str:
    """The DETAIL line of log_client_messages (behaviour.md 13)."""
    if kind == "Q":
        return f'query: "{_strings(message, 5, 1)[0]}"'
    if kind == "P":
        name, sql = _strings(message, 5, 2)
        return f'statement: "{name}", query: "{sql}"'
    if kind == "B":
        portal, name = _strings(message, 5, 2)
        return f'portal: "{portal}", statement: "{name}"'
    if kind in "DC":
        what = "statement" if message[5:6] == b"S" else "portal"
        return f'{what}: "{_strings(message, 6, 1)[0]}"'
    if kind == "E":
        return f'portal: "{_strings(message, 5, 1)[0]}"'
    if kind == "F":
        return f'oid: "{int.from_bytes(message[5:9], "big")}"'
    return ""


def told(session: Session) -> None:
    """A message was settled for a node: say so in the log and, when asked for, to the client."""
    node_id = session.relay.told_node
    message = session.relay.told()
    kind = chr(message[0])
    text = per_node_text(session, kind, message)
    if not text:
        return
    pooled = session.entry.links[node_id]
    settings = session.settings
    if settings.log_per_node_statement:
        log.log(LOG, f"DB node id: {node_id} backend pid: {pooled.login.pid} statement: {text}")
    notice = ""
    if level_named(settings.client_min_messages) > Level.NOTICE:
        return
    if settings.notice_per_node_statement:
        notice = f"DB node id: {node_id} statement: {text}"
    if settings.notice_routing_reason and kind in "QP":
        notice += (" " if notice else "") + f"node {node_id}: {reason(session, message, kind)}"
    if notice and not pooled.link.pending > 1:
        own.send(session, messages.notice_response("NOTICE", "00000", notice))


def per_node_text(session: Session, kind: str, message: bytes) -> str:
    if kind == "Q":
        return _strings(message, 5, 1)[0]
    if kind == "P":
        return "Parse: " + _strings(message, 5, 2)[1]
    if kind == "B":
        name = _strings(message, 5, 2)[1]
        return "Bind: " + sql_of(session, name)
    if kind == "E":
        return "Execute: " + sql_of(session, "")
    if kind == "S":
        return "Sync message"
    if kind == "D":
        return "D message"
    if kind == "C":
        return "Close message"
    return ""


def sql_of(session: Session, name: str) -> str:
    prepared = session.prepared.get(name) if name else unnamed(session)
    return messages.text(prepared.text) if prepared is not None else ""


def reason(session: Session, message: bytes, kind: str) -> str:
    """Why the message went where it went: from the verdict table, else as decided just now, else decided once more."""
    text = message[5:-1] if kind == "Q" else message[5:].split(b"\0", 2)[1]
    code = session.relay.look_up(text)
    if code:
        found = Route.from_code(code)
        steered = session.routing.delay_limit and session.balance_id != session.home_id
        if steered and found.dest is Dest.BALANCE and session.relay.told_node != session.home_id:
            return REASON_TEXT[Reason.REPLICATION_DELAY]
        return REASON_TEXT[found.reason]
    if session.decided[0] == text:
        return REASON_TEXT[session.decided[1]]
    statement = analyze(messages.text(text), standard_conforming_strings=not session.relay.backslash)
    decided = route(statement, State(session.relay.state), session.routing, session.worker.nodes())
    return REASON_TEXT[decided.reason] if isinstance(decided, Route) else "decided with the catalogs' help"
