"""Fields of Statement that the golden file does not show, and what analyze() does with text that makes no sense."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pglast import keywords as real

from pgpool.model import Effect, Kind, Name, Reason
from pgpool.sql import keywords
from pgpool.sql.analyze import analyze


@pytest.mark.parametrize(
    ("text", "kind", "name", "local"),
    [
        ("SET search_path TO a", Kind.SET, "search_path", False),
        ("SET LOCAL Work_Mem = 1", Kind.SET, "work_mem", True),
        ("SET SESSION a.B = 1", Kind.SET, "a.b", False),
        ("SET LOCAL TIME ZONE 'UTC'", Kind.SET, "timezone", True),
        ("SET NAMES 'latin1'", Kind.SET, "client_encoding", False),
        ("SET SCHEMA 'x'", Kind.SET, "search_path", False),
        ("SET ROLE x", Kind.SET, "role", False),
        ("SET LOCAL ROLE x", Kind.SET, "role", True),
        ("SET SESSION AUTHORIZATION x", Kind.SET, "session_authorization", False),
        ("SET SESSION SESSION AUTHORIZATION x", Kind.SET, "session_authorization", False),
        ("SET XML OPTION CONTENT", Kind.SET, "xmloption", False),
        ("SET TRANSACTION READ ONLY", Kind.SET, "transaction", True),
        ("SET transaction_isolation TO 'read committed'", Kind.SET, "transaction_isolation", True),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Kind.SET, "session characteristics", False),
        ("SET CONSTRAINTS ALL DEFERRED", Kind.SET, "constraints", True),
        ("SET session TO 1", Kind.SET, "session", False),
        ("SET local = 1", Kind.SET, "local", False),
        ("SELECT set_config('Work_Mem', '1MB', false)", Kind.SET, "work_mem", False),
        ("SELECT pg_catalog.set_config('a.B', '', TRUE)", Kind.SET, "a.b", True),
        ("RESET ALL", Kind.RESET, "", False),
        ("RESET SESSION AUTHORIZATION", Kind.RESET, "session_authorization", False),
        ("RESET Work_Mem", Kind.RESET, "work_mem", False),
        ("SHOW ALL", Kind.SHOW, "", False),
        ("SHOW TIME ZONE", Kind.SHOW, "timezone", False),
        ("SHOW pool_nodes", Kind.POOL_SHOW, "pool_nodes", False),
        ("PREPARE Abc AS SELECT 1", Kind.PREPARE, "abc", False),
        ('PREPARE "A b" (text) AS SELECT 1', Kind.PREPARE, "A b", False),
        ("EXECUTE Abc(1)", Kind.EXECUTE, "abc", False),
        ("DEALLOCATE PREPARE Abc", Kind.DEALLOCATE, "abc", False),
        ("DEALLOCATE ALL", Kind.DEALLOCATE, "", False),
        ('DEALLOCATE "all"', Kind.DEALLOCATE, "all", False),
        ("DEALLOCATE prepare", Kind.DEALLOCATE, "prepare", False),
        ("DECLARE c CURSOR FOR SELECT 1", Kind.DECLARE, "c", False),
        ("CLOSE c", Kind.CLOSE, "c", False),
        ("SAVEPOINT S1", Kind.SAVEPOINT, "s1", False),
        ("RELEASE SAVEPOINT s1", Kind.RELEASE, "s1", False),
        ("RELEASE savepoint", Kind.RELEASE, "savepoint", False),
        ('ROLLBACK TO "S 1"', Kind.ROLLBACK_TO, "S 1", False),
        ("DISCARD TEMPORARY", Kind.DISCARD, "temp", False),
        ("DROP DATABASE IF EXISTS d", Kind.DROP, "database", False),
    ],
)
def test_names(text: str, kind: Kind, name: str, local: bool) -> None:
    found = analyze(text)
    assert (found.kind, found.name, found.local) == (kind, name, local)


@pytest.mark.parametrize(
    ("text", "leading", "space"),
    [
        ("SELECT 1", True, False),
        ("  SELECT 1", True, True),
        ("/* c */ SELECT 1", False, False),
        (" -- c\nSELECT 1", False, True),
        ("", True, False),
        ("-- c", False, False),
        (";", True, False),
        ("(SELECT 1)", True, False),
    ],
)
def test_what_comes_first(text: str, leading: bool, space: bool) -> None:
    found = analyze(text)
    assert (found.leading, found.leading_space) == (leading, space)
    assert found.text == text


def test_inner_statements() -> None:
    assert analyze("PREPARE q (int) AS SELECT f($1)").inner.functions == (Name("", "f"),)
    assert analyze("EXPLAIN ANALYZE DELETE FROM t").inner.kind is Kind.DELETE
    assert analyze("DECLARE c CURSOR FOR TABLE s.t").inner.tables == (Name("s", "t"),)
    copied = analyze("COPY (SELECT f(a) FROM t) TO STDOUT")
    assert copied.inner.text == "SELECT f(a) FROM t"
    assert copied.functions == (Name("", "f"),)
    assert copied.tables == (Name("", "t"),)
    assert analyze("EXECUTE q (g(1), s.h(2))").functions == (Name("", "g"), Name("s", "h"))


def test_targets_of_writes() -> None:
    assert analyze('WITH x AS (SELECT 1) INSERT INTO "S"."T" (a) SELECT * FROM x').tables == (Name("S", "T"),)
    assert analyze("UPDATE ONLY t SET a = 1").tables == (Name("", "t"),)
    assert analyze("DELETE FROM t USING u").tables == (Name("", "t"),)
    assert analyze("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE").tables == (Name("", "t"),)
    assert analyze("COPY s.t (a) FROM STDIN").tables == (Name("s", "t"),)
    assert analyze('DROP TABLE IF EXISTS a.b, "C" CASCADE').tables == (Name("a", "b"), Name("", "C"))


def test_parts_of_a_string() -> None:
    found = analyze("SET a.b = 1; SET LOCAL c = 2 ;SELECT 1")
    assert [(p.kind, p.name, p.local, p.text) for p in found.parts] == [
        (Kind.SET, "a.b", False, "SET a.b = 1"),
        (Kind.SET, "c", True, "SET LOCAL c = 2"),
        (Kind.SELECT, "", False, "SELECT 1"),
    ]


def test_backslashes() -> None:
    text = "SELECT 'a\\'; DELETE FROM t; --'"
    assert analyze(text).kind is Kind.MULTI
    assert analyze(text, standard_conforming_strings=False).readonly


@pytest.mark.parametrize("nested", ["PREPARE a AS ", "EXPLAIN ", "EXPLAIN ANALYZE ", "DECLARE c CURSOR FOR "])
def test_statements_in_statements_end(nested: str) -> None:
    found = analyze(nested * 2_000 + "SELECT 1")
    assert not found.readonly


@pytest.mark.parametrize(
    "piece",
    [
        *("(", "((", "(SELECT ", "SELECT f(", "WITH a AS (", "AS ", "a.", "[", "CASE ", "set_config(", "x AS (", ",("),
        *("FROM (", "WITH RECURSIVE a AS (SELECT * FROM b), ", "NOT ", "EXISTS(", "a JOIN b ON ", "))", "+-", "; "),
        "UNION SELECT 1 ",
    ],
)
def test_time_is_linear(piece: str) -> None:
    def seconds(times: int) -> float:
        text = "SELECT " + piece * times
        start = time.process_time()
        analyze(text)
        return time.process_time() - start

    # a busy machine can make one run slow, but not each of ten
    short = min(seconds(1_000) for _ in range(2))
    assert any(seconds(10_000) < 60 * short + 0.2 for _ in range(10))


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="selct from(),;'\"$*/-aEU&\\\n.:=[]1 INTOwith", max_size=60))
def test_any_text_gets_an_answer(text: str) -> None:
    found = analyze(text)
    assert found.readonly == (found.reason is Reason.BALANCED)
    if found.kind is Kind.UNKNOWN:
        assert found.effect & Effect.WRITE


def test_keyword_lists_are_those_of_the_grammar() -> None:
    assert real.RESERVED_KEYWORDS - {"system_user"} == keywords.RESERVED
    calls = keywords.SYNTAX_CALLS | keywords.LATE_SYNTAX_CALLS
    assert (calls | keywords.TYPES) - {"varying"} == real.COL_NAME_KEYWORDS
    assert not keywords.RESERVED & (calls | keywords.TYPES | keywords.ON_PRIMARY)
