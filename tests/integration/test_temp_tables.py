"""Temporary tables live on the primary, and in one session only."""

import psycopg
import pytest

from tests.support.nodes import where

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture
def conn(standby_reads):
    with standby_reads.connect() as made:
        yield made


@pytest.mark.parametrize(
    "create",
    [
        "CREATE TEMP TABLE tt AS SELECT 1 AS i",
        "CREATE TEMPORARY TABLE tt (i) AS VALUES (1)",
        "CREATE LOCAL TEMP TABLE tt AS SELECT 1 AS i",
        "SELECT 1 AS i INTO TEMP tt",
        "SELECT 1 AS i INTO TEMPORARY TABLE tt",
        "CREATE TABLE pg_temp.tt AS SELECT 1 AS i",
        "CREATE TEMP VIEW tt AS SELECT 1 AS i",
        "DO $$ BEGIN CREATE TEMP TABLE tt AS SELECT 1 AS i; END $$",
        "CREATE TEMP TABLE other (); CREATE TEMP TABLE tt AS SELECT 1 AS i",
    ],
)
def test_every_way_to_make_one(conn, cluster, create):
    conn.execute(create)
    assert where(conn, cluster, "SELECT inet_server_port(), i FROM tt") == "primary"
    assert where(conn, cluster, "SELECT inet_server_port() FROM tt t1 JOIN tt t2 USING (i)") == "primary"
    assert where(conn, cluster, "SELECT (SELECT inet_server_port() FROM tt)") == "primary"
    assert where(conn, cluster) == "standby"


def test_hides_a_real_table(conn, cluster, table):
    """The same text reads the real table before and after, the temporary one meanwhile: no verdict may be stale."""
    name = table(rows="VALUES (1, 'real')")
    ask = f"SELECT t, inet_server_port() FROM {name}"
    assert conn.execute(ask).fetchone() == ("real", cluster.standby.port)
    conn.execute(f"CREATE TEMP TABLE {name} AS SELECT 1 AS id, 'temp' AS t")
    assert conn.execute(ask).fetchone() == ("temp", cluster.primary.port)
    conn.execute(f"DROP TABLE pg_temp.{name}")
    assert conn.execute(ask).fetchone()[0] == "real"


def test_others_do_not_see_it(standby_reads, cluster, table):
    name = table(rows="VALUES (1, 'real')")
    ask = f"SELECT t, inet_server_port() FROM {name}"
    with standby_reads.connect() as one, standby_reads.connect() as two:
        one.execute(f"CREATE TEMP TABLE {name} AS SELECT 1 AS id, 'temp' AS t")
        for _ in range(2):
            assert one.execute(ask).fetchone() == ("temp", cluster.primary.port)
            assert two.execute(ask).fetchone() == ("real", cluster.standby.port)


def test_rolled_back_and_on_commit_drop(conn):
    conn.execute("BEGIN")
    conn.execute("CREATE TEMP TABLE tt (i int) ON COMMIT DROP")
    conn.execute("INSERT INTO tt VALUES (1)")
    assert conn.execute("SELECT count(*) FROM tt").fetchone() == (1,)
    conn.execute("COMMIT")
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT count(*) FROM tt")
    conn.execute("BEGIN")
    conn.execute("CREATE TEMP TABLE tt (i int)")
    conn.execute("ROLLBACK")
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT count(*) FROM tt")


def test_extended_protocol(conn):
    conn.execute("CREATE TEMP TABLE tt (i int)")
    for number in range(10):
        conn.execute("INSERT INTO tt VALUES (%s)", (number,))
        assert conn.execute("SELECT count(*) FROM tt WHERE i <= %s", (number,)).fetchone() == (number + 1,)


def test_prepared_before_the_temporary_table_hides_the_real_one(conn, cluster, table):
    name = table(rows="VALUES (1, 'real')")
    ask = f"SELECT t, inet_server_port() FROM {name} WHERE id = %s"
    for _ in range(3):
        assert conn.execute(ask, (1,), prepare=True).fetchone() == ("real", cluster.standby.port)
    conn.execute(f"CREATE TEMP TABLE {name} AS SELECT 1 AS id, 'temp' AS t")
    assert conn.execute(ask, (1,), prepare=True).fetchone() == ("temp", cluster.primary.port)


def test_gone_with_the_session(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1})
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE mine (i int)")
    with pgpool.connect() as conn, pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT * FROM mine")


def test_check_temp_table_trace(shared, cluster):
    """Found without asking the catalogs."""
    pgpool = shared(backend_weight0=0, check_temp_table="trace")
    with pgpool.connect() as conn:
        conn.execute("CREATE TEMP TABLE traced AS SELECT 1 AS i")
        assert where(conn, cluster, "SELECT inet_server_port() FROM traced") == "primary"
