"""dml_adaptive: what a statement writes, what a read may not use."""

from __future__ import annotations

import pytest

from pgpool.model import Dest, Effect, Facts, Name, Reason, Route, State, TableFact
from pgpool.policy.route import RoutingSettings, route
from pgpool.policy.written import ANY, NO_TABLE, relations_of, uses, written_by
from pgpool.sql.analyze import analyze

RELATIONS = relations_of('a:b, b:c, s.t:u, f():t, "X":y')
ADAPTIVE = RoutingSettings(disable_load_balance_on_write="dml_adaptive", relations=RELATIONS)


def decided(text: str, user: bool = True) -> Route:
    statement = analyze(text)
    known = dict.fromkeys(statement.functions, True)
    facts = Facts(dict.fromkeys(statement.tables, TableFact.PLAIN), known, frozenset(known if user else ()))
    found = route(statement, State.NONE, ADAPTIVE, facts=facts)
    assert isinstance(found, Route)
    return found



@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("SELECT 1", set()),
        ("INSERT INTO q VALUES (1)", {Name("", "q")}),
        ("UPDATE b SET i = 1", {Name("", "b"), Name("", "c")}),
        ("DELETE FROM a", {Name("", "a"), Name("", "b"), Name("", "c")}),
        ("MERGE INTO q USING z ON true WHEN MATCHED THEN DELETE", {Name("", "q")}),
        ("COPY q FROM STDIN", {Name("", "q")}),
        ("INSERT INTO s.t VALUES (1)", {Name("s", "t"), Name("", "u")}),
        ("INSERT INTO o.t VALUES (1)", {Name("o", "t")}),
        ("INSERT INTO t VALUES (1)", {Name("", "t"), Name("", "u")}),  # perhaps s.t
        ('INSERT INTO "X" VALUES (1)', {Name("", "X"), Name("", "y")}),
        ("WITH w AS (DELETE FROM q RETURNING *) INSERT INTO z SELECT * FROM w", {ANY}),
        ("WITH l AS (SELECT 1 FROM q FOR UPDATE), w AS (DELETE FROM q RETURNING *) SELECT * FROM w", {ANY}),
        ("TRUNCATE q", {ANY}),
        ("CALL p()", {ANY}),
        ("DO 'x'", {ANY}),
        ("INSERT INTO q VALUES (1); SELECT 1", {ANY}),
        ("SELECT g()", {ANY}),
        ("SELECT f()", {Name("", "t"), Name("", "u"), NO_TABLE}),
        ("SELECT 1 FROM q FOR UPDATE", {NO_TABLE}),
        ("NOTIFY x", {NO_TABLE}),
    ],
)
def test_written(text, written):
    assert written_by(analyze(text), decided(text), RELATIONS) == written


def test_a_built_in_function_writes_no_table():
    text = "SELECT nextval('s')"
    assert written_by(analyze(text), decided(text, user=False), RELATIONS) == {NO_TABLE}


@pytest.mark.parametrize(
    ("text", "written", "answer"),
    [
        ("SELECT * FROM q", {Name("", "q")}, True),
        ("SELECT * FROM s.q", {Name("", "q")}, True),
        ("SELECT * FROM s.q", {Name("o", "q")}, False),
        ("SELECT * FROM z JOIN q ON true", {Name("", "q")}, True),
        ("SELECT * FROM z", {Name("", "q")}, False),
        ("SELECT 1", {NO_TABLE}, False),
        ("SELECT 1", {ANY}, True),
        ("SELECT 1", set(), True),  # it wrote, and nobody saw what
    ],
)
def test_uses(text, written, answer):
    assert uses(analyze(text), frozenset(written)) is answer


def test_routes():
    in_transaction = State.IN_TRANSACTION | State.WROTE_IN_TRANSACTION
    facts = Facts({Name("", "q"): TableFact.PLAIN, Name("", "z"): TableFact.PLAIN}, {})
    for table, dest, reason in (("q", Dest.PRIMARY, Reason.DML_ADAPTIVE), ("z", Dest.BALANCE, Reason.BALANCED)):
        read = analyze(f"SELECT * FROM {table}")
        found = route(read, in_transaction, ADAPTIVE, facts=facts, written=frozenset({Name("", "q")}))
        assert isinstance(found, Route) and (found.dest, found.reason) == (dest, reason)
    write = route(analyze("INSERT INTO q VALUES (1)"), State.NONE, ADAPTIVE)
    assert isinstance(write, Route) and write.effect & Effect.WRITE and not write.cacheable


@pytest.mark.parametrize("text", ["a", "a:", "a:b:c", ":b"])
def test_bad_lists(text):
    with pytest.raises(ValueError):
        relations_of(text)
