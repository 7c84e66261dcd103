"""SHOW pool_* and PGPOOL in a client's session: simple and extended protocol, inside transactions, through drivers."""

import asyncio

import asyncpg
import psycopg
import pytest

from tests.support.places import psql
from tests.support.servers import show
from tests.support.wire import SYNC, RawClient, bind, describe, execute, parse, query

pytestmark = pytest.mark.needs_pgpool

WORDS = [
    "pool_nodes",
    "pool_processes",
    "pool_pools",
    "pool_version",
    "pool_status",
    "pool_backend_stats",
    "pool_health_check_stats",
    "pool_cache",
]


@pytest.mark.parametrize("word", WORDS)
def test_simple_and_extended_agree(pgpool, word):
    """what_users_ask.md B6: it works when prepared. RowDescription, rows' shape and tag are the same."""
    with RawClient.login(pgpool) as client:
        simple = client.ask(query(f"SHOW {word}"))
        assert [simple[0].kind, simple[-2].kind, simple[-1].kind] == ["T", "C", "Z"]
        rows = [m for m in simple if m.kind == "D"]
        assert simple[-2].tag == f"SELECT {len(rows)}"
        extended = client.ask(parse(f"show {word.upper()}", "s"), describe("S", "s"), bind("s"), describe(), execute(), SYNC)
        kinds = [m.kind for m in extended if m.kind != "D"]
        assert kinds == ["1", "t", "T", "2", "T", "C", "Z"]
        descriptions = [m.description for m in extended if m.kind == "T"]
        assert descriptions[0] == descriptions[1]
        # type text instead of the simple protocol's 0, which drivers that prepare cannot decode
        typed = [(name, table, at, 25, *rest) for name, table, at, _, *rest in simple[0].description]
        assert descriptions[0] == typed
        assert len([m for m in extended if m.kind == "D"]) == len(rows)
        again = client.ask(bind("s"), execute(), SYNC)
        assert [m.kind for m in again if m.kind != "D"] == ["2", "C", "Z"]


@pytest.mark.parametrize("word", WORDS)
def test_column_attributes(pgpool, word):
    """Table oid 0, attribute number = index from 0, type oid 0, size -1, text; values never NULL."""
    with RawClient.login(pgpool) as client:
        messages = client.ask(query(f"SHOW {word}"))
        for index, (_, of_table, attribute, type_oid, size, modifier, form) in enumerate(messages[0].description):
            assert (of_table, attribute, type_oid, size, modifier, form) == (False, index, 0, -1, 0, 0)
        assert all(value is not None for m in messages if m.kind == "D" for value in m.columns)


def test_pool_version(pgpool):
    [row] = pgpool.show("pool_version")
    number, name = row["pool_version"].split(" ", 1)
    assert number[0].isdigit() and name.startswith("(") and name.endswith(")")


def test_pool_nodes(pgpool, cluster):
    rows = pgpool.show("pool_nodes")
    assert [row["node_id"] for row in rows] == ["0", "1"]
    assert [int(row["port"]) for row in rows] == [node.port for node in cluster.nodes]
    assert [row["role"] for row in rows] == ["primary", "standby"]
    assert [row["lb_weight"] for row in rows] == ["0.500000", "0.500000"]
    assert sorted(row["load_balance_node"] for row in rows) == ["false", "true"]


def test_pool_processes(pgpool):
    with pgpool.connect() as conn:
        rows = show(conn, "pool_processes")
        assert len(rows) == 8
        child = str(pgpool.child_of(conn).pid)
        [mine] = [row for row in rows if row["pool_pid"] == child]
        assert (mine["database"], mine["username"]) == ("app", "postgres")
        assert mine["status"] in ("Execute command", "Idle")
        assert {row["pool_pid"] for row in rows} <= {str(p.pid) for p in pgpool.family()}


def test_pool_pools(pgpool):
    with pgpool.connect() as conn:
        rows = show(conn, "pool_pools")
        assert len(rows) == 8 * 2 * 2
        mine = [r for r in rows if r["pool_connected"] == "1" and r["pool_pid"] == str(pgpool.child_of(conn).pid)]
        assert mine and str(conn.info.backend_pid) in {row["pool_backendpid"] for row in mine}
        assert mine[0]["client_host"] and int(mine[0]["client_port"])


def test_status_of_others(pgpool):
    with pgpool.connect() as one, pgpool.connect() as two:
        one.execute("BEGIN")
        one.execute("SELECT 'the last statement'")
        pid = str(pgpool.child_of(one).pid)
        rows = [row for row in show(two, "pool_pools") if row["pool_pid"] == pid and row["pool_connected"] == "1"]
        assert {row["status"] for row in rows} == {"Idle in transaction"}
        assert {row["statement"] for row in rows} == {"SELECT 'the last statement'"}


def test_in_a_transaction_and_after_an_error(pgpool):
    """The transaction is not touched; in a failed one: 25P02."""
    with RawClient.login(pgpool) as client:
        client.ask(query("BEGIN"))
        assert client.ask(query("SHOW pool_version"))[0].kind == "T"
        assert client.ask(query("SELECT 1"))[-1].state == "T"
        client.ask(query("SELECT nope"))
        assert client.ask(query("SHOW pool_version"))[0].fields["C"] == "25P02"
        assert client.ask(query("ROLLBACK"))[-1].state == "I"


def test_unknown_word_goes_to_postgresql(conn):
    with pytest.raises(psycopg.errors.UndefinedObject, match='unrecognized configuration parameter "pool_nothing"'):
        conn.execute("SHOW pool_nothing")


def test_psycopg_prepared(conn):
    for _ in range(8):
        row = conn.execute("SHOW pool_version", prepare=True).fetchone()
        assert "(" in str(row[0])


def test_psycopg_pipeline(conn):
    with conn.pipeline():
        before = conn.execute("SELECT 1")
        version = conn.execute("SHOW pool_version")
        after = conn.execute("SELECT 2")
        assert (before.fetchone(), after.fetchone()) == ((1,), (2,))
        assert version.fetchone()


def test_asyncpg(pgpool):
    """It always prepares and asks for types; type oid 0 it does not know, so only that it answers and goes on."""

    async def main() -> None:
        conn = await asyncpg.connect(host=pgpool.host, port=pgpool.port, user="postgres", database="app", timeout=10)
        try:
            assert await conn.execute("SHOW pool_version") == "SELECT 1"
            assert await conn.fetchval("SELECT 1") == 1
        finally:
            await conn.close(timeout=10)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_psql_prints_it(pgpool):
    done = psql(pgpool, "SHOW pool_nodes;\nSHOW pool_version;\nSELECT 1;\n")
    assert done.stderr == "" and "load_balance_node" in done.stdout and "(2 rows)" in done.stdout


# --- PGPOOL SHOW, SET, RESET


def one(conn, sql: str) -> tuple:
    return conn.execute(sql).fetchone()


def test_show_one(conn, pgpool):
    cursor = conn.execute("PGPOOL SHOW port")
    assert cursor.description[0].name == "port"
    assert cursor.fetchone() == (str(pgpool.port),)
    assert cursor.statusmessage == "SELECT 1"
    assert one(conn, "pgpool show load_balance_mode") == ("on",)
    assert one(conn, "PGPOOL SHOW backend_clustering_mode") == ("streaming_replication",)
    assert one(conn, "PGPOOL SHOW authentication_timeout") == ("20s",)
    assert one(conn, "PGPOOL SHOW sr_check_password") == ("*****",)


def test_show_groups(conn, cluster):
    cursor = conn.execute("PGPOOL SHOW backend_port")
    assert [c.name for c in cursor.description] == ["item", "value", "description"]
    assert [row[:2] for row in cursor] == [(f"backend_port{n}", str(node.port)) for n, node in enumerate(cluster.nodes)]
    rows = dict(row[:2] for row in conn.execute("PGPOOL SHOW backend"))
    assert rows["backend_weight1"] == "1" and rows["backend_application_name1"] == "server1"
    assert len(conn.execute("PGPOOL SHOW ALL").fetchall()) > 150


def test_set_and_reset(pgpool, conn):
    assert conn.execute("PGPOOL SET client_idle_limit = 300").statusmessage == "SET"
    assert one(conn, "PGPOOL SHOW client_idle_limit") == ("5min",)
    conn.execute("PGPOOL SET client_idle_limit TO '10min'")
    assert one(conn, "PGPOOL SHOW client_idle_limit") == ("10min",)
    with pgpool.connect() as other:
        assert one(other, "PGPOOL SHOW client_idle_limit") == ("0",)
    assert conn.execute("PGPOOL RESET client_idle_limit").statusmessage == "SET"
    assert one(conn, "PGPOOL SHOW client_idle_limit") == ("0",)
    conn.execute("PGPOOL SET log_statement = on")
    conn.execute("PGPOOL SET client_idle_limit TO DEFAULT")
    assert conn.execute("PGPOOL RESET ALL").statusmessage == "RESET"
    assert one(conn, "PGPOOL SHOW log_statement") == ("off",)


def test_set_ends_with_the_session(shared):
    pgpool = shared(num_init_children=1, max_pool=2, backend_weight1=0)
    with pgpool.connect() as conn:
        conn.execute("PGPOOL SET client_idle_limit = 300")
    with pgpool.connect() as conn:
        assert one(conn, "PGPOOL SHOW client_idle_limit") == ("0",)


def test_set_takes_effect(pgpool, conn):
    conn.execute("PGPOOL SET log_statement = on")
    mark = pgpool.mark()
    conn.execute("SELECT 'seen in the log'")
    pgpool.wait_for_log(r"LOG:  statement: SELECT 'seen in the log'", mark)
    conn.execute("PGPOOL SET log_statement = off")
    mark = pgpool.mark()
    conn.execute("SELECT 'not seen'")
    conn.execute("SELECT 1")
    assert "not seen" not in pgpool.log_since(mark)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("PGPOOL SHOW nosuch", 'config variable "nosuch" not found'),
        ("PGPOOL SET nosuch = 1", 'unrecognized configuration parameter "nosuch"'),
        ("PGPOOL RESET nosuch", 'unrecognized configuration parameter "nosuch"'),
        ("PGPOOL SET port = 1234", 'invalid Context, value for parameter "port" cannot be changed'),
        (
            "PGPOOL SET client_idle_limit = -5",
            '-5 is outside the valid range for parameter "client_idle_limit" (0 .. 2147483647)',
        ),
        ("PGPOOL SET log_error_verbosity = loud", 'invalid value for parameter "log_error_verbosity": "loud"'),
    ],
)
def test_errors(conn, sql, message):
    with pytest.raises(psycopg.errors.InternalError_) as caught:
        conn.execute(sql)
    assert caught.value.diag.message_primary == message
    assert caught.value.diag.sqlstate == "XX000"
    if "loud" in sql:
        assert caught.value.diag.message_hint.startswith("Available values: ")
    assert one(conn, "SELECT 1") == (1,)


def test_pgpool_statements_in_the_extended_protocol(pgpool):
    with RawClient.login(pgpool) as client:
        kinds = [
            m.kind for m in client.ask(parse("PGPOOL SET client_idle_limit = 200"), bind(), describe(), execute(), SYNC)
        ]
        assert kinds == ["1", "2", "n", "C", "Z"]
        messages = client.ask(parse("PGPOOL SHOW client_idle_limit"), bind(), describe(), execute(), SYNC)
        assert [m.kind for m in messages] == ["1", "2", "T", "D", "C", "Z"]
        assert messages[3].columns == [b"200s"]
        bad = client.ask(parse("PGPOOL SHOW nosuch"), bind(), execute(), SYNC)
        assert bad[-2].kind == "E" and bad[-1].state == "I"
