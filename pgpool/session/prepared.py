"""The prepared statements of one session, by protocol and by SQL, and the memory they may take (prepared_statement_memory).

A statement is kept to the letter so that it can be prepared on a node that needs it later; without a bound a client that
never closes any would fill the memory of its child.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgpool.errors import PgpoolError, SessionFatal, StatementError
from pgpool.model import State, Statement
from pgpool.system.logs import LOG, log
from pgpool.wire import messages

if TYPE_CHECKING:
    from pgpool.session.state import Session

OVERHEAD = 1024
"""Bytes that a statement takes besides its texts, about: what is known of it, its places in tables."""
_EXISTING = "SELECT name FROM pg_catalog.pg_prepared_statements"


@dataclass(slots=True)
class Prepared:
    """A named statement. ``message``: the Parse message, or the PREPARE text of an SQL-level one (``sql``); b'' when it
    was too long to be read. ``nodes``: where it is prepared."""

    statement: Statement
    message: bytes
    text: bytes
    sql: bool = False
    nodes: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        return len(self.message) + len(self.text) + OVERHEAD


class Statements(dict[str, Prepared]):
    """By name; ``bytes`` is what all of them take."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __setitem__(self, name: str, prepared: Prepared) -> None:
        self.drop(name)
        self.bytes += prepared.size
        super().__setitem__(name, prepared)

    def drop(self, name: str) -> Prepared | None:
        prepared = super().pop(name, None)
        self.bytes -= prepared.size if prepared is not None else 0
        return prepared

    def clear(self) -> None:
        super().clear()
        self.bytes = 0

    def needs(self, name: str, size: int) -> int:
        """Bytes of all of them with one of that size under ``name``."""
        old = self.get(name)
        return self.bytes + size - (old.size if old is not None else 0)


def no_room(session: Session, name: str, *texts: bytes) -> StatementError | None:
    """The error for a statement that does not fit any more; None when it does."""
    limit = session.settings.prepared_statement_memory
    size = sum(map(len, texts)) + OVERHEAD
    if session.prepared.needs(name, size) > limit:
        forget_gone(session)
    needs = session.prepared.needs(name, size)
    if needs <= limit:
        return None
    return StatementError(
        "too many prepared statements in this session",
        detail=f"They would take {needs} bytes in pgpool, prepared_statement_memory is {limit} bytes.",
        hint="Close or DEALLOCATE statements that are not needed any more.",
        sqlstate="53400",
    )


def forget_gone(session: Session) -> None:
    """Statements that no backend has are forgotten: theirs was an error that nobody told us of."""
    relay = session.relay
    session.until(relay.barrier)
    if relay.segment_link() >= 0 or relay.state & State.FAILED:
        return  # a question would end the batch, or not be answered
    try:
        on = {n: {row[0] for row in session.query(_EXISTING, session.entry.links[n])} for n in list(session.marks)}
    except SessionFatal:
        raise
    except PgpoolError as failed:
        log.log(LOG, failed.message)
        return
    for name, prepared in list(session.prepared.items()):
        if not any(name in on.get(node_id, ()) for node_id in prepared.nodes):
            session.prepared.drop(name)
            relay.forget(messages.raw(name))
