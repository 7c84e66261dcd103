"""PGPOOL EXPLAIN: what a statement is, where it would go and why; and it is not run."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.wire import SYNC, RawClient, bind, describe, execute, parse

pytestmark = pytest.mark.needs_pgpool


def told(conn: psycopg.Connection, sql: str) -> dict[str, str]:
    return dict(conn.execute(f"PGPOOL EXPLAIN {sql}").fetchall())


def test_reads_and_writes(standby_reads, cluster, table):
    name = table()
    with standby_reads.connect() as conn:
        read = told(conn, f"SELECT count(*), lower('x') FROM {name} WHERE id = 1")
        assert read["statement"] == "select"
        assert read["text only reads"] == "yes"
        assert read["tables"] == f"{name} (plain)"
        assert read["functions"] == "count (not volatile), lower (not volatile)"
        assert read["goes to"] == f"node 1 ({cluster.standby.host}:{cluster.standby.port}), the load balance node"
        assert read["reason"] == "a read that may be load balanced"
        assert read["in the verdict table"] == "no"
        conn.execute(f"SELECT count(*), lower('x') FROM {name} WHERE id = 1")
        again = told(conn, f"SELECT count(*), lower('y') FROM {name} WHERE id = 2;")
        assert again == {**read, "in the verdict table": "yes"}
        write = told(conn, f"INSERT INTO {name} VALUES (1, 'x')")
        assert (write["statement"], write["counted as"], write["effects"]) == ("insert", "insert", "write")
        assert write["goes to"].startswith("node 0 (") and write["goes to"].endswith("the primary")
        assert conn.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,)  # nothing was run


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT 1 FOR UPDATE", "takes row or table locks"),
        ("SELECT pg_catalog.txid_current()", "calls a function that may write"),
        ("SELECT * FROM pg_class", "reads a system catalog"),
        ("SELECT * FROM no_such_table", "reads a table that the catalogs do not show"),
        ("SELECT 1; DELETE FROM t", "several statements in one string"),
        ("BEGIN", "controls the transaction"),
        ("PGPOOL SHOW port", "answered by pgpool"),
        ("nonsense", "not understood, so it may write"),
    ],
)
def test_reasons(standby_reads, sql, reason):
    with standby_reads.connect() as conn:
        if ";" in sql:  # several statements never reach us as one of ours
            with pytest.raises(psycopg.errors.SyntaxError):
                told(conn, sql)
        else:
            assert told(conn, sql)["reason"] == reason


def test_what_the_session_did_counts(standby_reads, table):
    name = table()
    with standby_reads.connect() as conn, conn.transaction():
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        assert told(conn, "SELECT 1")["reason"] == "the transaction has written"
    with standby_reads.connect() as conn:
        conn.execute("PREPARE p AS SELECT 1")
        assert told(conn, "EXECUTE p")["goes to"].endswith("the load balance node")
        conn.execute("CREATE TEMP TABLE private (i int)")
        assert "temp" in told(conn, "SELECT * FROM private")["tables"]


def test_extended_protocol(standby_reads):
    with RawClient.login(standby_reads) as client:
        client.send(parse("PGPOOL EXPLAIN SELECT $1::int + 1"), bind(), describe("P"), execute(), SYNC)
        got = client.read_until()
        kinds = "".join(m.kind for m in got)
        assert kinds.startswith("12T") and kinds.endswith("DCZ")
        assert [m.columns for m in got if m.kind == "D"][-1] == [b"reason", b"a read that may be load balanced"]


def test_nothing_to_explain(standby_reads):
    with standby_reads.connect() as conn, pytest.raises(psycopg.errors.SyntaxError):
        conn.execute("PGPOOL EXPLAIN ;")
