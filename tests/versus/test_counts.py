"""SHOW pool_backend_stats: what counts as what, ours beside Debian's Pgpool-II 4.3.5, on the primary."""

from __future__ import annotations

import pytest

from tests.support.wire import SYNC, RawClient, bind, describe, execute, parse, query

pytestmark = pytest.mark.versus

COLUMNS = ("select", "insert", "update", "delete", "ddl", "other", "panic", "fatal", "error")
CASES: dict[str, tuple[bytes, ...]] = {
    "select": (query("SELECT 1"),),
    "failed_select": (query("SELECT 1/0"),),
    "dml": (
        query("CREATE TEMP TABLE versus_c (a int)"), query("INSERT INTO versus_c VALUES (1)"),
        query("UPDATE versus_c SET a = 2"), query("DELETE FROM versus_c"), query("TRUNCATE versus_c"),
    ),
    "transaction": (query("BEGIN"), query("SAVEPOINT a"), query("RELEASE a"), query("COMMIT")),
    "settings": (query("SET work_mem = '5MB'"), query("SHOW work_mem"), query("RESET work_mem"), query("DISCARD PLANS")),
    "other": (query("CHECKPOINT"), query("LISTEN x"), query("NOTIFY x"), query("UNLISTEN x"), query("EXPLAIN SELECT 1")),
    "sql_prepare": (query("PREPARE p AS SELECT 1"), query("EXECUTE p"), query("EXECUTE p"), query("DEALLOCATE p")),
    "show_is_not_counted": (query("SHOW pool_version"),),
    "cursor": (query("BEGIN"), query("DECLARE c CURSOR FOR SELECT 1"), query("FETCH c"), query("CLOSE c"), query("END")),
    "extended": (parse("SELECT 1") + bind() + describe() + execute() + SYNC,),
    "parse_only": (parse("SELECT 1") + SYNC,),
    "bind_only": (parse("SELECT 1") + bind() + SYNC,),
    "bound_once_executed_twice": (parse("SELECT generate_series(1, 3)") + bind() + execute("", 1) + execute("", 1) + SYNC,),
    "named_statement": (
        parse("SELECT 1", "s") + SYNC, bind("s") + execute() + SYNC, bind("s") + execute() + SYNC,
    ),
    "named_portal": (parse("SELECT 2", "t") + bind("t", "portal") + execute("portal") + SYNC,),
    "extended_insert": (
        query("CREATE TEMP TABLE versus_e (a int)"), parse("INSERT INTO versus_e VALUES (1)") + bind() + execute() + SYNC,
    ),
    "extended_error": (parse("SELECT 1/0") + bind() + execute() + SYNC,),
}  # fmt: skip


@pytest.fixture(scope="module")
def clients(pair):
    """One session for all cases: theirs counts the DISCARD ALL between two sessions too, whenever it comes to it."""
    with RawClient.login(pair[0]) as theirs, RawClient.login(pair[1]) as ours:
        yield theirs, ours


def stats(client: RawClient) -> dict[str, int]:
    messages = client.ask(query("SHOW pool_backend_stats"))
    names = [column[0] for column in messages[0].description]
    [row] = [m.columns for m in messages if m.kind == "D" and m.columns[0] == b"0"]
    return {what: int(row[names.index(f"{what}_cnt")] or b"") for what in COLUMNS}


def added(client: RawClient, messages: tuple[bytes, ...]) -> dict[str, int]:
    before = stats(client)
    for part in messages:
        client.ask(part)
    after = stats(client)
    return {what: after[what] - before[what] for what in COLUMNS if after[what] != before[what]}


@pytest.mark.parametrize("name", CASES)
def test_the_same_counts(clients, name):
    theirs, ours = (added(client, CASES[name]) for client in clients)
    assert ours == theirs


def test_what_nobody_understands(clients):
    """A wanted difference: a statement with a syntax error is an other one. 4.3.5 counts it as a DELETE."""
    theirs, ours = (added(client, (query("SELEC 1"),)) for client in clients)
    assert theirs == {"delete": 1, "error": 1}
    assert ours == {"other": 1, "error": 1}
