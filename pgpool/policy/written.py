"""dml_adaptive: which tables a transaction has written, and does a read use one of them? Pure (behaviour.md 5.4).

A write of which nobody knows the tables counts as a write to all of them.
"""

from __future__ import annotations

from pgpool.config.forms import parse_relations
from pgpool.model import Effect, Kind, Name, Reason, Route, Statement

Relations = tuple[tuple[Name, Name], ...]
"""Pairs of dml_adaptive_object_relationship_list: who writes to the first one writes to the second too."""

ANY = Name("", "*")
"""Stands for all tables."""
NO_TABLE = Name("", "")
"""A write that was seen, and changes no table (row locks, sequences)."""
_DML = (Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE, Kind.COPY_FROM)
_HARMLESS = (Kind.LOCK, Kind.LISTEN, Kind.UNLISTEN, Kind.NOTIFY, Kind.DECLARE, Kind.PREPARE, Kind.DEALLOCATE)


def relations_of(text: str) -> Relations:
    """ValueError: not of the form object:dependent."""
    return tuple((_name(left), _name(right)) for left, right in parse_relations(text))


def _name(text: str) -> Name:
    schema, _, name = text.rpartition(".")
    return Name(_folded(schema), _folded(name))


def _folded(text: str) -> str:
    return text[1:-1] if text.startswith('"') and text.endswith('"') and len(text) > 1 else text.lower()


def written_by(statement: Statement, decided: Route, relations: Relations) -> frozenset[Name]:
    """The tables that this statement writes, and those which the list says depend on them; empty: it does not write."""
    if not decided.effect & Effect.WRITE:
        return frozenset()
    if statement.reason is Reason.LOCKING or statement.kind in _HARMLESS:
        return frozenset((NO_TABLE,))
    if statement.kind in _DML and statement.tables:
        return _with_dependents(statement.tables, relations)
    if statement.readonly:  # its functions write: built-in ones no table
        related = [f for f in statement.functions if any(_same(f, left) for left, _ in relations)]
        if decided.effect & Effect.MAY_CREATE_TEMP and not related:
            return frozenset((ANY,))
        return (_with_dependents(related, relations) - frozenset(related)) | {NO_TABLE}
    return frozenset((ANY,))


def uses(statement: Statement, written: frozenset[Name]) -> bool:
    """Does a read use a table that the transaction has written? Nothing known of a transaction that wrote: it may."""
    if not written or ANY in written:
        return True
    return any(_same(table, other) for table in statement.tables for other in written)


def _same(a: Name, b: Name) -> bool:
    return a.name == b.name and (a.schema == b.schema or not a.schema or not b.schema)


def _with_dependents(names, relations: Relations) -> frozenset[Name]:
    found = set(names)
    while True:
        more = {right for left, right in relations if any(_same(left, name) for name in found)} - found
        if not more:
            return frozenset(found)
        found |= more
