"""Message scripts for test_fidelity: what a client sends, step by step, on table `fid (id int primary key, t text)`.

`fid` holds (1, 'one') ... (5, 'five') when a script begins. A step is what is sent as one piece and the letters of the
messages to wait for: 'Z' up to ReadyForQuery, 'ZZ' up to the second one, '1' up to ParseComplete ...
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.support.wire import (
    COPY_DONE,
    SYNC,
    TERMINATE,
    bind,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    msg,
    parse,
    query,
)


@dataclass(frozen=True)
class Step:
    data: bytes
    until: str


def step(*parts: bytes, until: str = "Z") -> Step:
    return Step(b"".join(parts), until)


def q(*statements: str) -> list[Step]:
    """One step for each simple query."""
    return [step(query(sql)) for sql in statements]


def run(sql: str, *values: str | bytes | None, rows: int = 0) -> bytes:
    """Parse, Bind, Describe, Execute on the unnamed statement and portal; no Sync."""
    return parse(sql) + bind(values=values) + describe() + execute(rows=rows)


ONE_TO_FIVE = "SELECT id, t FROM fid ORDER BY id"
INT4PL, INT4DIV = 177, 154

SIMPLE: dict[str, list[Step]] = {
    # simple queries
    "simple": q("SELECT 1 AS one, NULL::text, 'x'::text", ONE_TO_FIVE, "SELECT 1 WHERE false"),
    "simple_errors": q("SELECT nope", "SELEC 1", "SELECT 1/0 FROM fid", "SELECT 'still here'"),
    "empty": q("", ";", "  ", "-- comment", "/* comment */;", ";;"),
    "multi": q(
        "SELECT 1; SELECT 2, 3; SELECT 4",
        "INSERT INTO fid VALUES (6, 'six'); SELECT 1/0; SELECT 3",
        "SELECT 1;;SELECT 2;",
    ),
    "multi_transaction": q(
        "BEGIN; SELECT 1", "SELECT 2; SELECT 3", "INSERT INTO fid VALUES (6, 'six'); COMMIT", "SELECT count(*) FROM fid"
    ),
    "multi_rolled_back": q("BEGIN; INSERT INTO fid VALUES (7, 'x'); ROLLBACK; SELECT count(*) FROM fid", "SELECT 1"),
    "writes": q(
        "INSERT INTO fid VALUES (8, 'a'), (9, 'b') RETURNING id",
        "UPDATE fid SET t = 'u' WHERE id > 7",
        "DELETE FROM fid WHERE id = 9",
        ONE_TO_FIVE,
    ),
    "transaction_states": q(
        "BEGIN", "SELECT 1", "SELECT nope", "SELECT 1", "INSERT INTO fid VALUES (6, 'x')", "COMMIT", "SELECT 1"
    ),
    "failed_then_rollback": q(
        "BEGIN", "INSERT INTO fid VALUES (1, 'twice')", "ABORT", "START TRANSACTION READ ONLY", ONE_TO_FIVE, "END"
    ),
    "savepoints": q(
        "BEGIN",
        "SAVEPOINT a",
        "INSERT INTO fid VALUES (6, 'x')",
        "SAVEPOINT b",
        "SELECT 1/0",
        "ROLLBACK TO b",
        "SELECT count(*) FROM fid",
        "RELEASE a",
        "ROLLBACK TO a",
        "ROLLBACK TO nosuch",
        "COMMIT",
        "SELECT count(*) FROM fid",
    ),
    "warnings": q(
        "COMMIT",
        "ROLLBACK",
        "SET LOCAL work_mem = '1MB'",
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT outside",
        "RESET nosuch",
    ),
    "chain": q(
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "SELECT 1",
        "COMMIT AND CHAIN",
        "SHOW transaction_isolation",
        "ROLLBACK",
    ),
    "notices": q(
        "DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b' USING HINT = 'h', DETAIL = 'd'; RAISE INFO 'c'; END $$",
        "DO $$ BEGIN RAISE NOTICE 'before'; RAISE EXCEPTION 'after' USING ERRCODE = '12345'; END $$",
        "DROP TABLE IF EXISTS nosuch1, nosuch2; SELECT 1; DROP TABLE IF EXISTS nosuch3",
    ),
    "settings": q(
        "SET application_name = 'fid'",
        "SHOW application_name",
        "SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'",
        "SELECT timestamptz '2020-02-02 00:00+00'",
        "SET nosuch.setting = 'x'",
        "SHOW nosuch.setting",
        "SELECT current_setting('nosuch.setting')",
        "RESET TimeZone",
        "SET nosuchsetting = 1",
        "RESET ALL",
        "SHOW DateStyle",
        "SET client_encoding = 'LATIN1'",
        "SELECT chr(228)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "INSERT INTO fid VALUES (6, 'x')",
        "DISCARD ALL",
        "SHOW application_name",
    ),
    "set_in_transaction": q(
        "BEGIN",
        "SET DateStyle = 'German'",
        "SET LOCAL TimeZone = 'Asia/Tokyo'",
        "SELECT timestamptz '2020-02-02 00:00+00'",
        "ROLLBACK",
        "SELECT timestamptz '2020-02-02 00:00+00'",
        "BEGIN",
        "SET DateStyle = 'SQL'",
        "COMMIT",
        "SELECT date '2020-02-03'",
    ),
    "prepare": q(
        "PREPARE p (int) AS SELECT t FROM fid WHERE id = $1",
        "EXECUTE p(1)",
        "EXECUTE p(2, 3)",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE p",
        "EXECUTE p(1)",
        "PREPARE w AS INSERT INTO fid VALUES (6, 'x') RETURNING id",
        "EXECUTE w",
        "DEALLOCATE ALL",
        "DEALLOCATE w",
    ),
    "cursor": q(
        "BEGIN",
        "DECLARE c SCROLL CURSOR FOR " + ONE_TO_FIVE,
        "FETCH 2 FROM c",
        "MOVE 1 IN c",
        "FETCH ALL c",
        "FETCH BACKWARD 1 FROM c",
        "CLOSE c",
        "FETCH c",
        "ROLLBACK",
    ),
    "temporary": q(
        "CREATE TEMP TABLE tmp (i int)",
        "INSERT INTO tmp VALUES (1), (2)",
        "SELECT * FROM tmp",
        "SELECT count(*) FROM tmp JOIN fid ON id = i",
        "DROP TABLE tmp",
        "SELECT * FROM tmp",
        "SELECT id INTO TEMP tmp FROM fid",
        "SELECT count(*) FROM tmp",
        "DISCARD TEMP",
        "TABLE tmp",
    ),
    "ddl": q(
        "CREATE TABLE fid2 (a int PRIMARY KEY, b int REFERENCES fid)",
        "INSERT INTO fid2 VALUES (1, 1)",
        "INSERT INTO fid2 VALUES (2, 99)",
        "ALTER TABLE fid2 ADD c text DEFAULT 'c'",
        "TABLE fid2",
        "CREATE INDEX fid2_i ON fid2 (b)",
        "TRUNCATE fid2",
        "DROP TABLE fid2",
        "VACUUM fid",
        "ANALYZE fid",
        "EXPLAIN (COSTS OFF) SELECT * FROM fid WHERE id = 1",
        "LOCK TABLE fid",
        "CHECKPOINT",
        "COMMENT ON TABLE fid IS 'x'",
    ),
    "listen": q(
        "LISTEN fid_channel",
        "NOTIFY fid_channel, 'one'",
        "BEGIN",
        "NOTIFY fid_channel, 'two'",
        "SELECT 1",
        "COMMIT",
        "UNLISTEN *",
        "NOTIFY fid_channel",
    ),
    "with": q(
        "WITH w AS (INSERT INTO fid VALUES (6, 'six') RETURNING id) SELECT * FROM w",
        "WITH r AS (SELECT 1 AS x) SELECT x FROM r",
        "SELECT id FROM fid WHERE id < 3 ORDER BY id FOR UPDATE",
        "VALUES (1, 'a'), (2, 'b')",
        "TABLE fid",
    ),
    # copy
    "copy_in": [
        step(query("COPY fid FROM STDIN"), until="G"),
        step(copy_data(b"6\tsi"), copy_data(b"x\n"), copy_data(b""), COPY_DONE),
        *q("SELECT t FROM fid WHERE id = 6"),
    ],
    "copy_in_fail": [
        step(query("COPY fid FROM STDIN"), until="G"),
        step(copy_data(b"6\tsix\n"), copy_fail("changed my mind")),
        *q("SELECT count(*) FROM fid"),
    ],
    "copy_in_bad_row": [
        step(query("COPY fid FROM STDIN"), until="G"),
        step(copy_data(b"bad\tx\n"), copy_data(b"6\tsix\n"), COPY_DONE),
        *q("SELECT count(*) FROM fid"),
    ],
    "copy_in_two": [
        step(query("COPY fid FROM STDIN; COPY fid FROM STDIN; SELECT 1"), until="G"),
        step(copy_data(b"6\ta\n"), COPY_DONE, until="G"),
        step(copy_data(b"7\tb\n"), COPY_DONE),
    ],
    "copy_in_query_meanwhile": [
        step(query("COPY fid FROM STDIN"), until="G"),
        step(copy_data(b"6\ta\n"), query("SELECT 1")),
    ],
    "copy_in_at_once": [
        step(
            query("COPY fid FROM STDIN"), copy_data(b"6\ta\n"), COPY_DONE, query("SELECT count(*) FROM fid"), until="ZZ"
        )
    ],
    "copy_in_error_at_once": [
        step(
            query("COPY nosuch FROM STDIN"),
            copy_data(b"6\ta\n"),
            COPY_DONE,
            query("SELECT count(*) FROM fid"),
            until="ZZ",
        )
    ],
    "copy_out": q(
        "COPY fid TO STDOUT",
        "COPY (SELECT id FROM fid ORDER BY 1) TO STDOUT (FORMAT csv, HEADER)",
        "COPY fid TO STDOUT (FORMAT binary)",
        "COPY (SELECT 1/(3-id) FROM fid ORDER BY id) TO STDOUT",
    ),
    "copy_out_extended": [
        step(parse("COPY fid TO STDOUT"), bind(), describe(), execute(), SYNC),
        step(run("SELECT 1"), SYNC),
    ],
    "copy_in_transaction": [
        *q("BEGIN"),
        step(query("COPY fid FROM STDIN"), until="G"),
        step(copy_data(b"1\tdup\n"), COPY_DONE),
        *q("SELECT 1", "ROLLBACK", "SELECT count(*) FROM fid"),
    ],
    "stray_copy_messages": [step(copy_data(b"x"), COPY_DONE, copy_fail("y"), query("SELECT 1")), step(COPY_DONE, SYNC)],
    # the rest of the protocol
    "function_call": [
        step(function_call(INT4PL, (struct.pack("!i", 40), struct.pack("!i", 2)))),
        step(function_call(INT4PL, (b"40", b"2"), 0, 0)),
        step(function_call(INT4DIV, (struct.pack("!i", 1), struct.pack("!i", 0)))),
        step(function_call(INT4PL, (struct.pack("!i", 40), None))),
        step(function_call(1, ())),
        *q("BEGIN"),
        step(function_call(INT4PL, (struct.pack("!i", 1), struct.pack("!i", 2)))),
        *q("ROLLBACK"),
    ],
    "large_row": q("SELECT repeat('x', 300000), repeat('y', 200000)", "SELECT length(repeat('x', 10))"),
    "many_rows": q("SELECT g, repeat('x', g % 50) FROM generate_series(1, 3000) g"),
    "wide_row": q(
        "SELECT " + ", ".join(str(n) for n in range(1600)), "SELECT " + ", ".join(str(n) for n in range(1700))
    ),
    "long_query": q(
        "SELECT '" + "x" * 100_000 + "'",
        "SELECT 1 /* " + "y" * 70_000 + " */",
        "INSERT INTO fid VALUES (6, '" + "z" * 90_000 + "')",
    ),
    "long_bind": [
        step(run("SELECT length($1), md5($1)", "a" * 500_000), SYNC),
        step(run("INSERT INTO fid VALUES (6, $1)", "b" * 200_000), SYNC),
    ],
    "unknown_message": [step(msg("y", b"what"), until="Z")],
    "terminate": [*q("BEGIN"), step(TERMINATE, until="Z")],
    "sql_syntax_in_utf8": q(
        "SELECT 'häß€𝄞' AS \"ü\"", "SELECT 'ä' || nope", "SELECT E'\\u00e4', U&'\\00e4', $x$dollar 'quoted'$x$"
    ),
}
