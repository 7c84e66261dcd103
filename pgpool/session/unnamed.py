"""The unnamed statement of the extended protocol: the relay parses most of them without Python."""

from __future__ import annotations

from pgpool._fastpath import take_unnamed
from pgpool.session.prepared import Prepared
from pgpool.session.state import Session
from pgpool.sql.analyze import analyze
from pgpool.wire import messages


def unnamed(session: Session) -> Prepared | None:
    """The unnamed statement as it is now; None when there is none."""
    fresh = take_unnamed(session.relay)
    if fresh is not None:
        node_id, message = fresh
        text = messages.read_parse(message[5:]).sql
        statement = analyze(messages.text(text), standard_conforming_strings=not session.relay.backslash)
        session.unnamed = Prepared(statement, message, text, nodes={node_id} if node_id >= 0 else set())
        session.own.pop("S", None)
    return session.unnamed
