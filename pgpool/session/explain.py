"""PGPOOL EXPLAIN (ours): where a statement would go now, and why; it is not run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgpool._fastpath import was_refused
from pgpool.errors import PgpoolError
from pgpool.model import REASON_TEXT, Dest, Effect, Facts, Kind, NeedFacts, Reason, Route, Statement, TableFact
from pgpool.session import aside, catalogs
from pgpool.session.show import Reply
from pgpool.sql.analyze import analyze
from pgpool.wire import messages

if TYPE_CHECKING:
    from pgpool.session.state import Session

COLUMNS = ("item", "value")


def explain(session: Session, sql: str) -> Reply:
    """Rows of (item, value): what the statement is, what the catalogs say of its names, node and reason."""
    relay = session.relay
    known = relay.look_up(messages.raw(sql))
    statement = analyze(sql, standard_conforming_strings=not relay.backslash)
    prepared = session.prepared.get(statement.name) if statement.kind is Kind.EXECUTE else None
    decided = Route.from_code(known) if known else session.decide(statement, prepared.statement if prepared else None)
    if decided.dest is Dest.BALANCE and was_refused(relay):
        decided = Route(Dest.PRIMARY, Reason.REFUSED, decided.effect, decided.counter)
    elif statement.kind is Kind.BEGIN and aside.node_to_begin(session, statement) >= 0:
        decided = replace(decided, dest=Dest.BALANCE, reason=Reason.ON_STANDBY)
    rows = [
        ("statement", statement.kind.name.lower().replace("_", " ")),
        ("counted as", decided.counter.name.lower()),
        ("text only reads", "yes" if statement.readonly else f"no: {REASON_TEXT[statement.reason]}"),
        *_names(session, prepared.statement if prepared else statement),
        ("effects", ", ".join(flag.name.lower().replace("_", " ") for flag in Effect if flag & decided.effect) or "none"),
        ("in the verdict table", "yes" if known else "no"),
        ("goes to", _where(session, decided)),
        ("reason", REASON_TEXT[decided.reason]),
    ]
    return Reply(COLUMNS, rows, f"SELECT {len(rows)}")


def _where(session: Session, decided: Route) -> str:
    if decided.dest is Dest.OURSELVES:
        return "pgpool itself"
    node_id = session.node_for(decided)
    conf = session.settings.backends[node_id]
    how = "the load balance node" if decided.dest is Dest.BALANCE else "the primary"
    return f"node {node_id} ({conf.hostname}:{conf.port}), {how}"


def _names(session: Session, statement: Statement) -> list[tuple[str, str]]:
    """Tables and functions, one row each kind, with what the catalogs say of them."""
    if not statement.tables and not statement.functions:
        return []
    try:
        facts: Facts | None = session.worker.relcache.lookup(
            lambda sql: catalogs.ask(session, sql), session.startup.database, catalogs.context(session),
            NeedFacts(statement.tables, statement.functions), session.worker.shared.epoch,
        )  # fmt: skip
    except PgpoolError:
        facts = None
    rows = []
    if statement.tables:
        texts = [f"{t} ({_table(facts.tables.get(t)) if facts else '?'})" for t in statement.tables]
        rows.append(("tables", ", ".join(texts)))
    if statement.functions:
        said = {True: "volatile", False: "not volatile", None: "unknown"}
        texts = [f"{f} ({said[facts.volatile.get(f)] if facts else '?'})" for f in statement.functions]
        rows.append(("functions", ", ".join(texts)))
    return rows


def _table(fact: TableFact | None) -> str:
    if not fact:
        return "unknown" if fact is None else "plain"
    return ", ".join(flag.name.lower() for flag in TableFact if flag & fact)
