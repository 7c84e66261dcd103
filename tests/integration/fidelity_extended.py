"""Message scripts for test_fidelity, part two: the extended query protocol, and the faults of what_users_ask.md B1, B2."""

from __future__ import annotations

import struct

from tests.support.wire import COPY_DONE, FLUSH, SYNC, bind, close, copy_data, describe, execute, parse, query

from .fidelity_scripts import ONE_TO_FIVE, SIMPLE, Step, q, run, step

EXTENDED: dict[str, list[Step]] = {
    # extended queries
    "extended": [step(run("SELECT $1::int + 1, $2::text", "41", None), SYNC), step(run(ONE_TO_FIVE), SYNC)],
    "formats": [
        step(
            parse("SELECT $1::int4, $2::text, 7::int8", types=(23, 25)),
            bind(values=(struct.pack("!i", 5), b"x"), formats=(1, 0), results=(1, 0, 1)),
            describe(),
            execute(),
            SYNC,
        ),
        step(bind(values=("5", "x"), results=(1,)), execute(), SYNC),
        step(bind(values=("5", "x"), results=(1, 1)), execute(), SYNC),
    ],
    "describe_statement": [
        step(parse("SELECT id, $1::text FROM fid WHERE id = $2", "named"), describe("S", "named"), FLUSH, until="T"),
        step(bind("named", values=("a", "2")), execute(), SYNC),
        step(parse("INSERT INTO fid VALUES ($1, $2)", "ins"), describe("S", "ins"), SYNC),
        step(bind("ins", "p", values=("6", "six")), describe("P", "p"), execute("p"), SYNC),
        step(describe("S", "nosuch"), SYNC),
        step(describe("P", "nosuch"), SYNC),
        step(describe("S", "named"), SYNC),
    ],
    "no_describe": [
        step(parse("SELECT 1"), bind(), execute(), SYNC),
        step(parse("", ""), bind(), describe(), execute(), SYNC),
        step(parse("-- x"), bind(), execute(), SYNC),
    ],
    "flush_each": [
        step(parse(ONE_TO_FIVE), FLUSH, until="1"),
        step(bind(), FLUSH, until="2"),
        step(describe(), FLUSH, until="T"),
        step(execute(), FLUSH, until="C"),
        step(close("P"), FLUSH, until="3"),
        step(SYNC),
    ],
    "pipeline_of_100": [
        step(*(parse("SELECT $1::int") + bind(values=(str(n),)) + execute() for n in range(100)), SYNC)
    ],
    "pipeline_of_syncs": [step(*(run("SELECT $1::int", str(n)) + SYNC for n in range(20)), until="Z" * 20)],
    "pipeline_error": [
        step(run("SELECT 1"), run("SELECT nope"), run("SELECT 2"), parse("SELECT 3", "s3"), close("S", "s3"), SYNC),
        step(run("SELECT 4"), SYNC),
    ],
    "pipeline_error_between_syncs": [
        step(run("SELECT 1"), SYNC, run("SELECT 1/0"), run("SELECT 2"), SYNC, run("SELECT 3"), SYNC, until="ZZZ")
    ],
    "pipeline_is_one_transaction": [
        step(run("INSERT INTO fid VALUES (6, 'x')"), run("SELECT 1/0"), SYNC),
        *q("SELECT count(*) FROM fid"),
    ],
    "pipeline_reads_then_writes": [
        step(
            run(ONE_TO_FIVE),
            run("INSERT INTO fid VALUES (6, 'x')"),
            run(ONE_TO_FIVE),
            run("DELETE FROM fid WHERE id = 6"),
            run(ONE_TO_FIVE),
            SYNC,
        ),
        step(run(ONE_TO_FIVE), SYNC),
    ],
    "pipeline_transaction": [
        step(
            run("BEGIN"), run("INSERT INTO fid VALUES (6, 'x')"), run("SELECT count(*) FROM fid"), run("COMMIT"), SYNC
        ),
        step(
            run("BEGIN"),
            SYNC,
            run("SELECT 1/0"),
            SYNC,
            run("SELECT 1"),
            SYNC,
            run("COMMIT"),
            SYNC,
            run("SELECT count(*) FROM fid"),
            SYNC,
            until="ZZZZZ",
        ),
    ],
    "pipeline_begin_read": [
        step(run("BEGIN"), run(ONE_TO_FIVE), SYNC),
        step(run("SELECT count(*) FROM fid"), SYNC),
        step(run("ROLLBACK"), SYNC),
    ],
    "vacuum_in_pipeline": [
        step(run("SELECT 1"), run("VACUUM fid"), SYNC),
        step(run("VACUUM fid"), SYNC),
        step(run("SELECT 1"), SYNC),
    ],
    "partial_execute": [
        step(parse(ONE_TO_FIVE), bind(), execute(rows=2), FLUSH, until="s"),
        step(execute(rows=2), FLUSH, until="s"),
        step(execute(rows=2), FLUSH, until="C"),
        step(execute(rows=2), FLUSH, until="C"),
        step(SYNC),
    ],
    "partial_execute_sync": [
        step(parse(ONE_TO_FIVE), bind(portal="p"), execute("p", 2), SYNC),
        step(execute("p", 2), SYNC),
    ],
    "partial_in_transaction": [
        *q("BEGIN"),
        step(parse(ONE_TO_FIVE, "s"), bind("s", "a"), bind("s", "b"), execute("a", 2), SYNC),
        step(execute("b", 3), execute("a", 1), SYNC),
        step(execute("a", 2), execute("a", 2), execute("b", 9), SYNC),
        step(close("P", "a"), execute("a"), SYNC),
        *q("COMMIT"),
    ],
    "partial_returning": [
        step(parse("DELETE FROM fid RETURNING id"), bind(), execute(rows=2), FLUSH, until="s"),
        step(execute(rows=9), SYNC),
        *q("SELECT count(*) FROM fid"),
    ],
    "exact_rows": [
        step(parse(ONE_TO_FIVE), bind(), execute(rows=5), SYNC),
        step(parse(ONE_TO_FIVE), bind(), execute(rows=5), execute(rows=5), SYNC),
    ],
    "close": [
        step(close("S", "nosuch"), close("P", "nosuch"), SYNC),
        step(parse("SELECT 1", "s"), close("S", "s"), bind("s"), SYNC),
        step(close("S", ""), close("P", ""), SYNC),
    ],
    "duplicate_name": [
        step(parse("SELECT 1", "dup"), parse("SELECT 2", "dup"), SYNC),
        step(bind("dup"), execute(), SYNC),
        step(parse("SELECT 3", "dup"), SYNC),
    ],
    "unknown_names": [
        step(bind("nosuch"), SYNC),
        step(execute("nosuch"), SYNC),
        step(execute(), SYNC),
        step(bind(), SYNC),
    ],
    "unnamed_lives_until_replaced": [
        step(parse("SELECT $1::int"), SYNC),
        step(bind(values=("1",)), execute(), SYNC),
        step(bind(values=("2",)), execute(), SYNC),
        *q("SELECT 'kills the unnamed statement'"),
        step(bind(values=("3",)), execute(), SYNC),
    ],
    "named_across_transactions": [
        step(parse("SELECT t FROM fid WHERE id = $1", "get"), parse("UPDATE fid SET t = $1 WHERE id = 1", "upd"), SYNC),
        *q("BEGIN"),
        step(bind("get", values=("1",)), execute(), SYNC),
        step(bind("upd", values=("new",)), execute(), SYNC),
        step(bind("get", values=("1",)), execute(), SYNC),
        *q("ROLLBACK"),
        step(bind("get", values=("1",)), execute(), SYNC),
        *q("BEGIN", "SELECT 1/0"),
        step(bind("get", values=("1",)), execute(), SYNC),
        *q("END"),
        step(bind("get", values=("2",)), execute(), SYNC),
    ],
    "named_and_sql_names_are_one": [
        step(parse("SELECT 7 AS seven", "both"), SYNC),
        *q("EXECUTE both", "DEALLOCATE both"),
        step(bind("both"), execute(), SYNC),
        *q("PREPARE other AS SELECT 8 AS eight"),
        step(describe("S", "other"), bind("other"), execute(), SYNC),
        step(close("S", "other"), SYNC),
        *q("EXECUTE other"),
    ],
    "parse_in_failed_transaction": [
        *q("BEGIN", "SELECT nope"),
        step(parse("SELECT 1"), SYNC),
        step(parse("ROLLBACK"), bind(), execute(), SYNC),
        step(run("SELECT 1"), SYNC),
    ],
    "extended_errors": [
        step(parse("SELEC"), SYNC),
        step(parse("SELECT 1; SELECT 2"), SYNC),
        step(parse("SELECT $1::int"), bind(), SYNC),
        step(parse("SELECT $1::int"), bind(values=("x",)), SYNC),
        step(parse("SELECT $2::int"), SYNC),
        step(parse("SELECT $1 + $1 = now()"), SYNC),
        step(run("SELECT 1"), SYNC),
    ],
    "sync_only": [step(SYNC), step(SYNC, SYNC, SYNC, until="ZZZ"), step(FLUSH, FLUSH, SYNC)],
    "query_before_sync": [
        step(run("SELECT 1"), query("SELECT 2")),
        step(SYNC),
        step(parse("SELECT 3", "n"), query("INSERT INTO fid VALUES (6, 'x')")),
        step(bind("n"), execute(), SYNC),
    ],
    "query_after_error_before_sync": [step(run("SELECT nope"), query("SELECT 2"), SYNC), step(query("SELECT 3"))],
    "unnamed_portal_after_query": [
        *q("BEGIN"),
        step(parse("SELECT 1"), bind(), query("SELECT 2")),
        step(execute(), SYNC),
        *q("ROLLBACK"),
    ],
    # B1
    "b1_172_update": [
        step(run("UPDATE fid SET t = 'u' WHERE id = $1", "1"), SYNC),
        step(run("SELECT t FROM fid WHERE id = 1"), SYNC),
        *q("SELECT 1"),
    ],
    "b1_174_on_commit_drop": [
        step(
            run("CREATE TEMP TABLE odc ON COMMIT DROP AS SELECT 1 AS x"),
            run("INSERT INTO odc VALUES (2)"),
            run("SELECT count(*) FROM odc"),
            SYNC,
        ),
        step(run("SELECT * FROM odc"), SYNC),
    ],
    "b1_175_discard_all": [
        step(run("DISCARD ALL"), SYNC),
        step(run("SELECT 1"), SYNC),
        step(parse("SELECT 2", "gone"), SYNC),
        step(run("DISCARD ALL"), SYNC),
        step(bind("gone"), SYNC),
    ],
    "b1_176_two_parameter_status": [
        step(
            run("SET TimeZone = 'Asia/Tokyo'"),
            run("SET DateStyle = 'German'"),
            run("SELECT timestamptz '2020-02-02 00:00+00'"),
            SYNC,
        ),
        step(
            run("SET application_name = 'x'"),
            run("SET IntervalStyle = 'iso_8601'"),
            SYNC,
            run("RESET ALL"),
            SYNC,
            until="ZZ",
        ),
    ],
    # B2
    "b2_copy_flush_sync": [
        step(query("COPY fid FROM STDIN"), until="G"),
        step(copy_data(b"6\tsix\n"), FLUSH, SYNC, copy_data(b"7\tseven\n"), FLUSH, COPY_DONE),
        *q("SELECT count(*) FROM fid"),
    ],
    "b2_extended_copy_flush": [
        step(parse("COPY fid FROM STDIN"), bind(), execute(), FLUSH, until="G"),
        step(copy_data(b"6\tsix\n"), COPY_DONE, SYNC),
        *q("SELECT count(*) FROM fid"),
    ],
    "b2_extended_copy_sync": [
        step(parse("COPY fid FROM STDIN"), bind(), execute(), SYNC, until="G"),
        step(copy_data(b"6\tsix\n"), COPY_DONE, SYNC),
        *q("SELECT count(*) FROM fid"),
    ],
    "b2_extended_copy_at_once": [
        step(
            parse("COPY fid FROM STDIN"), bind(), describe(), execute(), SYNC, copy_data(b"6\tsix\n"), COPY_DONE, SYNC
        ),
        *q("SELECT count(*) FROM fid"),
    ],
}

SCRIPTS = SIMPLE | EXTENDED
