"""psycopg 3, synchronous: transactions, cursors, types, pipeline mode, prepared statements, notifies, cancel."""

import threading
import time
from decimal import Decimal

import psycopg
import pytest
from psycopg import pq

from tests.support.places import wait_until


def test_parameters_and_types(conn):
    row = conn.execute(
        "SELECT %s::int, %s::text, %s::numeric, %s::bytea, %s::bool, %s::int[], %s::jsonb",
        (7, "häß'\\", Decimal("1.50"), b"\0\xff", None, [1, 2], psycopg.types.json.Jsonb({"a": 1})),
    ).fetchone()
    assert row == (7, "häß'\\", Decimal("1.50"), b"\0\xff", None, [1, 2], {"a": 1})


def test_binary_results(conn):
    cursor = conn.cursor(binary=True)
    assert cursor.execute("SELECT 1::int8, now() - now(), 'x'::text").fetchone()[0] == 1


def test_transaction_blocks(pgpool, table, postgres):
    name = table()
    with pgpool.connect(autocommit=False) as conn, conn.transaction():
        conn.execute(f"INSERT INTO {name} VALUES (1, 'kept')")
        with pytest.raises(psycopg.errors.UniqueViolation), conn.transaction():
            conn.execute(f"INSERT INTO {name} VALUES (1, 'twice')")
        with conn.transaction() as inner:
            conn.execute(f"INSERT INTO {name} VALUES (2, 'dropped')")
            raise psycopg.Rollback(inner)
        assert conn.execute(f"SELECT count(*) FROM {name}").fetchone() == (1,)
    assert postgres.execute(f"TABLE {name}") == [(1, "kept")]


def test_implicit_transaction_status(pgpool):
    with pgpool.connect(autocommit=False) as conn:
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE
        conn.execute("SELECT 1")
        assert conn.info.transaction_status == pq.TransactionStatus.INTRANS
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1/0")
        assert conn.info.transaction_status == pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            conn.execute("SELECT 1")
        conn.rollback()
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE


def test_server_side_cursor(pgpool):
    with pgpool.connect(autocommit=False) as conn, conn.cursor(name="big") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT g FROM generate_series(1, 1000) g")
        assert sum(row[0] for row in cursor) == 500500
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchone() == (1,)


def test_cursor_with_hold(conn):
    with conn.cursor(name="held", withhold=True, scrollable=True) as cursor:
        cursor.execute("SELECT g FROM generate_series(1, 10) g")
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        assert conn.execute("SELECT 5").fetchone() == (5,)
        assert len(cursor.fetchall()) == 7


def test_prepared_automatically(conn, table):
    name = table(rows="SELECT g, 't' || g FROM generate_series(1, 50) g")
    for number in range(1, 51):
        assert conn.execute(f"SELECT t FROM {name} WHERE id = %s", (number,)).fetchone() == (f"t{number}",)


def test_prepared_survives_errors(conn):
    for number in (1, 2, 0, 4, 0, 5):
        try:
            assert conn.execute("SELECT 10 / %s::int", (number,), prepare=True).fetchone() == (10 // number,)
        except psycopg.errors.DivisionByZero:
            assert number == 0


def test_prepared_then_changed_by_another_session(conn, table, postgres):
    """psycopg prepares, the table changes, the same text is asked again: 0A000, as straight."""
    name = table(rows="VALUES (1, 'x')")
    ask = f"SELECT * FROM {name} WHERE id = %s"
    with conn.transaction():
        conn.execute(f"LOCK {name}")
        assert conn.execute(ask, (1,), prepare=True).fetchone() == (1, "x")
    postgres.execute(f"ALTER TABLE {name} ADD COLUMN n int DEFAULT 9")
    with pytest.raises(psycopg.errors.FeatureNotSupported), conn.transaction():
        conn.execute(f"LOCK {name}")
        conn.execute(ask, (1,), prepare=True)
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_many_prepared_statements_are_evicted(conn):
    conn.prepare_threshold, conn.prepared_max = 0, 10
    for number in range(50):
        assert conn.execute(f"SELECT {number} + %s", (1,)).fetchone() == (number + 1,)
    assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0] <= 11


def test_pipeline(conn, table):
    name = table()
    with conn.pipeline() as pipeline:
        cursors = []
        for number in range(50):
            conn.execute(f"INSERT INTO {name} VALUES (%s, 'x')", (number,))
            cursors.append(conn.execute(f"SELECT count(*) FROM {name} WHERE id >= %s", (0,)))
        pipeline.sync()
        assert [c.fetchone()[0] for c in cursors] == list(range(1, 51))


def test_pipeline_error_aborts_until_sync(conn, table, postgres):
    name = table()
    with pytest.raises(psycopg.errors.UniqueViolation), conn.pipeline() as pipeline:
        conn.execute(f"INSERT INTO {name} VALUES (1, 'a')")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'b')")
        conn.execute(f"INSERT INTO {name} VALUES (3, 'c')")
        pipeline.sync()
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0
    conn.execute(f"INSERT INTO {name} VALUES (4, 'd')")
    assert postgres.value(f"SELECT count(*) FROM {name}") == 1


def test_pipeline_in_transaction(pgpool, table, postgres):
    name = table()
    with pgpool.connect(autocommit=False) as conn, conn.pipeline():
        conn.execute(f"INSERT INTO {name} VALUES (1, 'a')")
        row = conn.execute(f"SELECT t FROM {name}").fetchone()
        assert row == ("a",)
        conn.commit()
    assert postgres.value(f"SELECT count(*) FROM {name}") == 1


def test_executemany(conn, table, postgres):
    name = table()
    conn.cursor().executemany(f"INSERT INTO {name} VALUES (%s, %s)", [(n, str(n)) for n in range(1000)])
    assert postgres.value(f"SELECT count(*) FROM {name}") == 1000
    cursor = conn.cursor()
    cursor.executemany("SELECT %s::int", [(1,), (2,)], returning=True)
    assert [cursor.fetchone(), cursor.nextset(), cursor.fetchone()] == [(1,), True, (2,)]


def test_notices(conn):
    heard = []
    conn.add_notice_handler(lambda diag: heard.append(diag.message_primary))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
    assert heard == ["one", "two"]


def test_notify_while_idle(conn, postgres):
    """It arrives though the client sends nothing (npgsql#2782)."""
    conn.execute("LISTEN news")
    threading.Timer(0.1, postgres.execute, ("NOTIFY news, 'extra'",)).start()
    heard = list(conn.notifies(timeout=10, stop_after=1))
    assert [(n.channel, n.payload) for n in heard] == [("news", "extra")]


def test_notify_from_the_same_session(conn):
    conn.execute("LISTEN here")
    conn.execute("SELECT pg_notify('here', 'me')")
    heard = list(conn.notifies(timeout=10, stop_after=1))
    assert heard[0].pid == conn.info.backend_pid


def test_cancel(conn):
    threading.Timer(0.2, conn.cancel).start()
    started = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - started < 10
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_cancel_safe(conn):
    threading.Timer(0.2, conn.cancel_safe, kwargs={"timeout": 10}).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(30)")


def test_statement_timeout(conn):
    conn.execute("SET statement_timeout = 100")
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(30)")
    conn.execute("RESET statement_timeout")
    conn.execute("SELECT pg_sleep(0.15)")


def test_multi_statements_and_results(conn):
    cursor = conn.execute("SELECT 1; SELECT 2, 3; SELECT 'four'")
    rows = [cursor.fetchall()]
    while cursor.nextset():
        rows.append(cursor.fetchall())
    assert rows == [[(1,)], [(2, 3)], [("four",)]]


def test_client_encoding(conn):
    conn.execute("SET client_encoding TO 'LATIN1'")
    assert conn.info.encoding == "iso8859-1"
    assert conn.execute("SELECT chr(228), length('ä')").fetchone() == ("ä", 1)
    conn.execute("SET client_encoding TO 'UTF8'")
    assert conn.info.encoding == "utf-8"


def test_stream(conn):
    total = sum(row[0] for row in conn.cursor().stream("SELECT g FROM generate_series(1, 20000) g"))
    assert total == 200010000


def test_two_phase(pgpool, table, postgres):
    name = table()
    with pgpool.connect(autocommit=False) as conn:
        conn.tpc_begin("xid one")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        conn.tpc_prepare()
        assert postgres.value(f"SELECT count(*) FROM {name}") == 0
        conn.tpc_commit()
    assert postgres.value(f"SELECT count(*) FROM {name}") == 1


def test_large_objects(pgpool):
    with pgpool.connect(autocommit=False) as conn:
        oid = conn.execute("SELECT lo_create(0)").fetchone()[0]
        conn.execute("SELECT lo_put(%s, 0, %s)", (oid, b"0123456789" * 1000))
        fd = conn.execute("SELECT lo_open(%s, 262144)", (oid,)).fetchone()[0]
        assert conn.execute("SELECT loread(%s, 12)", (fd,)).fetchone()[0] == b"012345678901"
        conn.execute("SELECT lo_close(%s)", (fd,))
        conn.execute("SELECT lo_unlink(%s)", (oid,))


def test_backend_pid_is_the_real_one(conn, postgres):
    pid = conn.info.backend_pid
    assert wait_until(lambda: postgres.backends(f"pid = {pid}"), "our backend on the primary")
