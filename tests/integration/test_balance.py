"""Reads go to the load balance node, writes and doubtful things to the primary (behaviour.md 5.1 to 5.3)."""

import re

import psycopg
import pytest

from tests.support.nodes import counts, where
from tests.support.servers import show, wait_until

pytestmark = pytest.mark.needs_pgpool

PORT = "inet_server_port()"


@pytest.fixture
def conn(standby_reads):
    """Every read that may be balanced goes to the standby here."""
    with standby_reads.connect() as made:
        yield made


@pytest.fixture(scope="module")
def things(cluster):
    """One of each kind of thing a read can touch."""
    cluster.execute(
        "CREATE SCHEMA bal; CREATE TABLE bal.plain (id int PRIMARY KEY); CREATE UNLOGGED TABLE bal.unlogged (id int);"
        "CREATE TABLE bal.many AS SELECT g AS id FROM generate_series(1, 50) g;"
        "CREATE VIEW bal.view AS SELECT * FROM bal.plain; CREATE SEQUENCE bal.seq;"
        f"CREATE FUNCTION bal.stable() RETURNS int LANGUAGE sql STABLE AS 'SELECT {PORT}';"
        f"CREATE FUNCTION bal.immutable(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        f"CREATE FUNCTION bal.volatile() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT {PORT}';"
        "INSERT INTO bal.plain VALUES (1)"
    )
    yield
    cluster.execute("DROP SCHEMA bal CASCADE")


READS = [
    f"SELECT {PORT}",
    f"  \n SELECT {PORT}",
    f"select {PORT};",
    f"(SELECT {PORT})",
    f"WITH w AS (SELECT {PORT} AS p) SELECT p FROM w",
    f"VALUES ({PORT})",
    f"SELECT {PORT} FROM bal.plain WHERE id = 1",
    f"SELECT {PORT} FROM bal.view",
    f"SELECT {PORT} UNION SELECT {PORT}",
    f"SELECT (SELECT {PORT}), bal.immutable(1)",
    "SELECT bal.stable()",
    f"SELECT {PORT} FROM generate_series(1, 3)",
    f"SELECT {PORT}, now(), CURRENT_TIMESTAMP",
    f"SELECT {PORT} AS \"update\", 'insert into x' AS t",
    f"SELECT {PORT} -- a comment at the end; nextval('x')",
    f"SELECT {PORT} FROM information_schema.sql_parts",
    "SHOW port",
]

NOT_BALANCED = [
    f"/*NO LOAD BALANCE*/ SELECT {PORT}",
    f"-- comment first\nSELECT {PORT}",
    "SELECT bal.volatile()",
    f"SELECT {PORT}, random()",
    f"SELECT {PORT}, nextval('bal.seq')",
    f"SELECT {PORT} FROM bal.plain FOR UPDATE",
    f"SELECT {PORT} FROM (SELECT * FROM bal.plain FOR SHARE) s",
    f"SELECT {PORT} FROM pg_class LIMIT 1",
    f"SELECT {PORT} FROM pg_catalog.pg_class LIMIT 1",
    f"SELECT {PORT} FROM bal.unlogged RIGHT JOIN (VALUES (1)) v ON true",
    f"WITH w AS (DELETE FROM bal.plain WHERE false RETURNING 1) SELECT {PORT}",
    f"SELECT {PORT}; SELECT {PORT}",
    f"INSERT INTO bal.many VALUES (0) RETURNING {PORT}",
    f"UPDATE bal.plain SET id = id RETURNING {PORT}",
    f"DELETE FROM bal.many WHERE id = (SELECT max(id) FROM bal.many) RETURNING {PORT}",
]


@pytest.mark.parametrize("sql", READS)
def test_balanced(conn, cluster, things, sql):
    assert where(conn, cluster, sql) == "standby"


@pytest.mark.parametrize("sql", NOT_BALANCED)
def test_not_balanced(conn, cluster, things, sql):
    assert where(conn, cluster, sql) == "primary"


@pytest.mark.parametrize("sql", [s for s in READS if s != "SHOW port"])
def test_balanced_extended(conn, cluster, things, sql):
    """The same by Parse; psycopg prepares it the sixth time."""
    with conn.cursor(binary=True) as cursor:
        for _ in range(7):
            assert cursor.execute(sql).fetchone()[0] == cluster.standby.port


@pytest.mark.parametrize("sql", [s for s in NOT_BALANCED if ";" not in s])
def test_not_balanced_extended(conn, cluster, things, sql):
    with conn.cursor(binary=True) as cursor:
        for _ in range(7):
            assert cursor.execute(sql).fetchone()[0] == cluster.primary.port


def test_select_into_and_ctas(conn, postgres, things):
    conn.execute(f"SELECT {PORT} AS p INTO bal.into1")
    conn.execute(f"CREATE TABLE bal.into2 AS SELECT {PORT} AS p")
    assert postgres.value("SELECT p FROM bal.into1") == postgres.value("SELECT p FROM bal.into2") == postgres.port


def test_copy(conn, cluster, things):
    """COPY (SELECT) TO is a read; COPY (DML) TO and COPY FROM are not."""

    def copied(sql: str) -> int:
        with conn.cursor().copy(sql) as copy:
            rows = list(copy.rows())
        return int(rows[0][0])

    assert copied(f"COPY (SELECT {PORT}) TO STDOUT") == cluster.standby.port
    assert copied(f"COPY (UPDATE bal.plain SET id = id RETURNING {PORT}) TO STDOUT") == cluster.primary.port


def test_table_that_exists_on_the_primary_only_yet(conn, cluster):
    """Created in this session: a read of it must not fail on a standby that has not replayed yet."""
    cluster.standby.execute("SELECT pg_wal_replay_pause()")
    try:
        conn.execute("CREATE TABLE young (i int)")
        conn.execute("BEGIN")
        conn.execute("INSERT INTO young VALUES (1)")
        assert conn.execute("SELECT i FROM young").fetchone() == (1,)
        conn.execute("COMMIT")
    finally:
        cluster.standby.execute("SELECT pg_wal_replay_resume()")
        conn.execute("DROP TABLE young")


def test_explain_goes_to_the_primary(standby_reads, conn, things):
    mark = standby_reads.mark()
    conn.execute("PGPOOL SET log_per_node_statement = on")
    conn.execute("EXPLAIN SELECT 17 FROM bal.plain")
    standby_reads.wait_for_log(r"DB node id: 0 .*statement: EXPLAIN SELECT 17", mark)


def test_log_per_node_statement(standby_reads, conn, table):
    name = table()
    conn.execute("PGPOOL SET log_per_node_statement TO on")
    mark = standby_reads.mark()
    conn.execute("SELECT 4711")
    conn.execute(f"INSERT INTO {name} VALUES (4711, 'x')")
    standby_reads.wait_for_log(r"DB node id: 1 backend pid: \d+ statement: SELECT 4711", mark)
    standby_reads.wait_for_log(rf"DB node id: 0 backend pid: \d+ statement: INSERT INTO {name} VALUES", mark)
    assert len(re.findall(r"statement: SELECT 4711", standby_reads.log_since(mark))) == 1


def test_notice_per_node_statement(conn):
    heard = []
    conn.add_notice_handler(lambda diag: heard.append(diag.message_primary))
    conn.execute("PGPOOL SET notice_per_node_statement TO on")
    conn.execute("SELECT 4712")
    conn.execute("PGPOOL SET notice_per_node_statement TO off")
    conn.execute("SELECT 4713")
    assert heard == ["DB node id: 1 statement: SELECT 4712"]


def test_counters(standby_reads, conn, things):
    """Each statement is counted once, on the node it went to."""
    columns = ("select_cnt", "insert_cnt", "update_cnt", "delete_cnt", "ddl_cnt", "other_cnt", "error_cnt")
    before = {c: counts(standby_reads, c) for c in columns}
    for _ in range(10):
        conn.execute("SELECT 1")
    for _ in range(3):
        conn.execute("INSERT INTO bal.plain SELECT 50 WHERE false")
    conn.execute("UPDATE bal.plain SET id = id")
    conn.execute("DELETE FROM bal.plain WHERE id = 50")
    conn.execute("CREATE TABLE bal.ddl ()")
    conn.execute("LISTEN x")
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("DELETE FROM bal.nosuch")
    gained = {c: [new - old for new, old in zip(counts(standby_reads, c), before[c], strict=True)] for c in columns}
    assert gained["select_cnt"] == [0, 10]
    assert gained["insert_cnt"] == [3, 0]
    assert gained["update_cnt"] == [1, 0]
    assert gained["delete_cnt"] == [2, 0]
    assert gained["ddl_cnt"] == [1, 0]
    assert gained["other_cnt"][0] >= 1
    assert gained["error_cnt"] == [1, 0]


def test_pool_nodes_tells_the_session_its_node(standby_reads, conn):
    assert [row["load_balance_node"] for row in show(conn, "pool_nodes")] == ["false", "true"]
    assert [row["role"] for row in show(conn, "pool_nodes")] == ["primary", "standby"]
    assert [row["lb_weight"] for row in show(conn, "pool_nodes")] == ["0.000000", "1.000000"]


@pytest.mark.parametrize("weights", [(1, 0), (0, 1)])
def test_weight_zero_means_never(shared, cluster, weights):
    pgpool = shared(backend_weight0=weights[0], backend_weight1=weights[1])
    for _ in range(12):
        with pgpool.connect() as conn:
            assert where(conn, cluster) == ("primary" if weights[0] else "standby")


def test_weights_are_honoured(shared, cluster):
    """1 : 3, per statement, 800 reads: 600 on the standby, give or take 4 sigma (49)."""
    pgpool = shared(backend_weight0=1, backend_weight1=3, statement_level_load_balance=True)
    with pgpool.connect() as conn:
        seen = [where(conn, cluster) for _ in range(800)]
    assert 550 < seen.count("standby") < 650


def test_session_level_keeps_its_node(pgpool, cluster):
    """One node per session; over many sessions both (chance of a wrong alarm: 2 ** -29)."""
    seen = set()
    for _ in range(30):
        with pgpool.connect() as conn:
            nodes = {where(conn, cluster) for _ in range(5)}
            assert len(nodes) == 1
            seen |= nodes
    assert seen == {"primary", "standby"}


def test_load_balance_mode_off(shared, cluster):
    pgpool = shared(load_balance_mode=False, backend_weight0=0)
    with pgpool.connect() as conn:
        assert where(conn, cluster) == "primary"


def test_raw_mode_uses_the_main_node_only(raw_pgpool, cluster):
    with raw_pgpool.connect() as conn:
        pid = conn.info.backend_pid
        assert {where(conn, cluster) for _ in range(5)} == {"primary"}
        assert not [b for b in cluster.standby.backends() if b["pid"] == pid]
    assert [row["role"] for row in raw_pgpool.show("pool_nodes")] == ["main", "replica"]


@pytest.mark.parametrize("mode", ["logical_replication", "slony"])
def test_other_modes_with_a_primary(shared, cluster, mode, proxy_kind):
    pgpool = shared(backend_clustering_mode=mode, backend_weight0=0)
    with pgpool.connect() as conn:
        assert where(conn, cluster) == "standby"
        assert where(conn, cluster, f"SELECT {PORT}, random()") == "primary"


def test_allow_sql_comments(shared, cluster):
    pgpool = shared(backend_weight0=0, allow_sql_comments=True)
    with pgpool.connect() as conn:
        assert where(conn, cluster, f"/* hint */ SELECT {PORT}") == "standby"


def test_function_lists(shared, cluster, things):
    writes = shared(backend_weight0=0, write_function_list="immutable,bal.stab.*")
    with writes.connect() as conn:
        assert where(conn, cluster, "SELECT bal.stable()") == "primary"
        assert where(conn, cluster, "SELECT bal.volatile()") == "standby"
    reads = shared(backend_weight0=0, read_only_function_list="bal.volatile,inet_.*")
    with reads.connect() as conn:
        assert where(conn, cluster, "SELECT bal.volatile()") == "standby"
        assert where(conn, cluster, "SELECT bal.stable()") == "primary"


def test_primary_routing_query_pattern_list(shared, cluster, things):
    pgpool = shared(backend_weight0=0, primary_routing_query_pattern_list="SELECT.*special.*;.*never_there.*")
    with pgpool.connect() as conn:
        assert where(conn, cluster, f"SELECT {PORT} AS special") == "primary"
        assert where(conn, cluster, f"SELECT {PORT} AS ordinary") == "standby"


def test_redirect_lists(shared, cluster):
    pgpool = shared(
        app_name_redirect_preference_list="to_primary:primary,to_standby:standby(1.0)",
        database_redirect_preference_list="postgres:1",
    )
    for name, node in (("to_primary", "primary"), ("to_standby", "standby")):
        for _ in range(4):
            with pgpool.connect(application_name=name) as conn:
                assert where(conn, cluster) == node
    with pgpool.connect("postgres") as conn:
        assert where(conn, cluster) == "standby"


@pytest.mark.long
def test_lagging_standby_is_left_out(shared, cluster, table):
    """delay_threshold: more bytes behind than allowed, and reads go to the primary until it has caught up."""
    pgpool = shared(backend_weight0=0, delay_threshold=10000, sr_check_period=1)
    name = table()
    with pgpool.connect() as conn:
        wait_until(lambda: where(conn, cluster) == "standby", "reads on the standby")
        cluster.standby.execute("SELECT pg_wal_replay_pause()")
        try:
            conn.execute(f"INSERT INTO {name} SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g")
            wait_until(lambda: where(conn, cluster) == "primary", "reads on the primary", 5)
            assert int(pgpool.show("pool_nodes")[1]["replication_delay"]) > 10000
        finally:
            cluster.standby.execute("SELECT pg_wal_replay_resume()")

    def balanced() -> bool:
        with pgpool.connect() as again:
            return where(again, cluster) == "standby"

    wait_until(balanced, "reads on the standby again", 15)
