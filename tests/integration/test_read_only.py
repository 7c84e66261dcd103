"""read_only_transactions_on_standby (ours): READ ONLY transactions run wholly on the load balance node."""

from __future__ import annotations

import psycopg
import pytest

from pgpool.system import sockets
from tests.support.nodes import where
from tests.support.servers import wait_until
from tests.support.wire import SYNC, RawClient, bind, execute, parse, query

pytestmark = pytest.mark.needs_pgpool

ASIDE = {"backend_weight0": 0, "read_only_transactions_on_standby": True}
LEADER = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END"
"""Who leads: pg_is_in_recovery() is a function that goes to the primary otherwise."""


def leader(conn) -> str:
    return conn.execute(LEADER).fetchone()[0]


@pytest.fixture
def conn(shared):
    with shared(**ASIDE).connect() as made:
        yield made


@pytest.mark.parametrize(
    "begin", ["BEGIN READ ONLY", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "BEGIN WORK READ ONLY;"]
)
def test_all_of_it(conn, cluster, table, begin):
    name = table(rows="VALUES (1, 'x'), (2, 'y')")
    for _ in range(2):
        conn.execute(begin)
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert leader(conn) == "standby"
        assert not cluster.primary.backends("state = 'idle in transaction'")
        conn.execute(f"DECLARE c CURSOR FOR SELECT id FROM {name} ORDER BY id")
        assert conn.execute("FETCH 1 FROM c").fetchall() == [(1,)]
        conn.execute("SAVEPOINT s")
        with pytest.raises(psycopg.Error) as failed:
            conn.execute(f"INSERT INTO {name} VALUES (3, 'z')")
        assert failed.value.sqlstate == "25006"
        conn.execute("ROLLBACK TO s")
        assert conn.execute("FETCH 1 FROM c").fetchall() == [(2,)]
        conn.execute("COMMIT")
        assert leader(conn) == "primary"
        conn.execute(f"UPDATE {name} SET t = 'w' WHERE id = 1")


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "END", "ABORT"])
def test_settings_follow(conn, end):
    conn.execute("SET work_mem = '3MB'")
    conn.execute("BEGIN READ ONLY")
    assert leader(conn) == "standby"
    assert conn.execute("SELECT current_setting('work_mem')").fetchone() == ("3MB",)
    conn.execute("SET work_mem = '5MB'")
    conn.execute("SET LOCAL seq_page_cost = 3")
    conn.execute(end)
    want = "5MB" if end in ("COMMIT", "END") else "3MB"
    for sql in ("SELECT current_setting('work_mem') FROM pg_class LIMIT 1", "SELECT current_setting('work_mem')"):
        assert conn.execute(sql).fetchone() == (want,)  # on the primary, on the standby
    assert conn.execute("SELECT current_setting('seq_page_cost') FROM pg_class LIMIT 1").fetchone() == ("1",)


def test_prepared_statements(conn, cluster, table):
    name = table(rows="VALUES (1, 'x')")
    ask = f"SELECT t FROM {name} WHERE id = %s"
    conn.execute("PREPARE p AS SELECT pg_is_in_recovery()")
    assert conn.execute(ask, (1,), prepare=True).fetchone() == ("x",)
    for _ in range(2):
        conn.execute("BEGIN READ ONLY")
        assert conn.execute(ask, (1,), prepare=True).fetchone() == ("x",)
        assert conn.execute("EXECUTE p").fetchone() == (True,)
        conn.execute("PREPARE q AS SELECT 7")
        conn.execute("COMMIT")
        assert conn.execute("EXECUTE p").fetchone() == (False,)
        assert conn.execute("EXECUTE q").fetchone() == (7,)
        conn.execute("DEALLOCATE q")


def test_failed_and_chained(conn):
    conn.execute("BEGIN READ ONLY")
    with pytest.raises(psycopg.Error):
        conn.execute("SELECT 1 / 0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    conn.execute("COMMIT")
    assert leader(conn) == "primary"
    conn.execute("BEGIN READ ONLY")
    conn.execute("COMMIT AND CHAIN")
    assert leader(conn) == "standby"
    conn.execute("COMMIT")
    assert leader(conn) == "primary"


def test_set_transaction_and_default(conn):
    conn.execute("BEGIN")
    conn.execute("SET TRANSACTION READ ONLY")
    assert leader(conn) == "standby"
    conn.execute("COMMIT")
    conn.execute("BEGIN")
    conn.execute("SELECT 1")
    conn.execute("SET TRANSACTION READ ONLY")  # too late: something was read already
    assert leader(conn) == "primary"
    conn.execute("COMMIT")
    for setting in ("SET default_transaction_read_only = on", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"):
        conn.execute(setting)
        for begin, who in (("BEGIN", "standby"), ("BEGIN READ WRITE", "primary"), ("BEGIN READ ONLY", "standby")):
            conn.execute(begin)
            assert leader(conn) == who
            conn.execute("COMMIT")
        conn.execute("RESET default_transaction_read_only")
        conn.execute("BEGIN")
        assert leader(conn) == "primary"
        conn.execute("COMMIT")


def test_default_of_the_connection(shared):
    with shared(**ASIDE).connect(options="-c default_transaction_read_only=on") as conn:
        conn.execute("BEGIN")
        assert leader(conn) == "standby"
        conn.execute("COMMIT")


@pytest.mark.parametrize(
    "before",
    [
        "CREATE TEMP TABLE aside_temp AS SELECT 1",
        "LISTEN aside",
        "BEGIN; DECLARE aside_held CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "SELECT pg_advisory_lock(42)",
    ],
)
def test_what_only_the_primary_has(conn, before):
    conn.execute("BEGIN READ ONLY")
    assert leader(conn) == "standby"
    conn.execute("COMMIT")
    conn.execute(before)
    for _ in range(2):
        conn.execute("BEGIN READ ONLY")
        assert leader(conn) == "primary"
        conn.execute("COMMIT")


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"])
def test_other_transactions_begin_on_the_primary(conn, begin):
    conn.execute(begin)
    assert leader(conn) == "primary"
    conn.execute("COMMIT")


def test_off_by_default_and_set_by_the_session(shared, cluster):
    with shared(backend_weight0=0).connect() as conn:
        for value, who in (("off", "primary"), ("on", "standby"), ("off", "primary")):
            conn.execute(f"PGPOOL SET read_only_transactions_on_standby = {value}")
            conn.execute("BEGIN READ ONLY")
            assert where(conn, cluster) == "standby"
            assert leader(conn) == who
            conn.execute("COMMIT")


def test_refused(conn, table):
    """What would do other than it says there is refused, and the transaction fails."""
    name = table()
    for sql in (f"COMMIT; INSERT INTO {name} VALUES (1, 'x')", "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
                "SELECT set_config('work_mem', '1MB'::text, false)"):  # fmt: skip
        for prepare in (False, True):
            conn.execute("BEGIN READ ONLY")
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="read-only transaction on a standby"):
                if prepare and ";" not in sql:
                    conn.execute(sql.replace("'1MB'", "%s"), ["1MB"] if "'1MB'" in sql else None, prepare=True)
                else:
                    conn.execute(sql)
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            conn.execute("ROLLBACK")
            assert leader(conn) == "primary"
    conn.execute("BEGIN READ ONLY")
    assert conn.execute("SELECT set_config('work_mem', '1MB', true)").fetchone() == ("1MB",)
    conn.execute("SELECT set_config('my.own', 'kept', false)")
    conn.execute("COMMIT")
    on_primary = "SELECT current_setting('work_mem') <> '1MB', current_setting('my.own') FROM pg_class LIMIT 1"
    assert conn.execute(on_primary).fetchone() == (True, "kept")


def test_pipelines(shared, cluster, table):
    """All at once: what follows COMMIT is for the primary. In both protocols, and named as JDBC has them."""
    name = table()
    with RawClient.login(shared(**ASIDE)) as client:
        for row in range(2):
            client.send(
                query("BEGIN READ ONLY"), query(LEADER), query("COMMIT"), query(f"INSERT INTO {name} VALUES ({row}, 'x')")
            )  # fmt: skip
            found = [m for _ in range(4) for m in client.read_until()]
            assert [m.columns[0] for m in found if m.kind == "D"] == [b"standby"]
            assert not [m.fields for m in found if m.kind == "E"]
        for row in range(2, 4):
            client.send(
                parse("BEGIN READ ONLY"), bind(), execute(), parse(LEADER), bind(), execute(), SYNC,
                parse("COMMIT"), bind(), execute(), SYNC,
                parse(f"INSERT INTO {name} VALUES ({row}, 'x')"), bind(), execute(), SYNC,
            )  # fmt: skip
            found = [m for _ in range(3) for m in client.read_until()]
            assert [m.columns[0] for m in found if m.kind == "D"] == [b"standby"]
            assert not [m.fields for m in found if m.kind == "E"]
            assert [m.body for m in found if m.kind == "Z"] == [b"T", b"I", b"I"]
        client.ask(parse("BEGIN READ ONLY", "b"), parse("COMMIT", "c"), SYNC)
        for row in range(4, 6):
            client.send(
                bind("b"), execute(), parse(LEADER), bind(), execute(), bind("c"), execute(), SYNC,
                parse(f"INSERT INTO {name} VALUES ({row}, 'x')"), bind(), execute(), SYNC,
            )  # fmt: skip
            found = [m for _ in range(2) for m in client.read_until()]
            assert not [m.fields for m in found if m.kind == "E"]
            assert [m.columns[0] for m in found if m.kind == "D"] == [b"standby"]
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 6


def test_lsn_and_position(shared, cluster, table):
    """It begins where the session's last write can be seen."""
    name = table()
    pgpool = shared(**ASIDE, disable_load_balance_on_write="lsn")
    cluster.wait_for_catchup()
    with pgpool.connect() as conn:
        cluster.standby.execute("SELECT pg_wal_replay_pause()")
        try:
            conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
            conn.execute("BEGIN READ ONLY")
            assert leader(conn) == "primary"
            conn.execute("COMMIT")
        finally:
            cluster.standby.execute("SELECT pg_wal_replay_resume()")
        wait_until(lambda: where(conn, cluster) == "standby", "the standby to have it")
        conn.execute("BEGIN READ ONLY")
        assert leader(conn) == "standby"
        assert conn.execute(f"SELECT count(*) FROM {name}").fetchone() == (1,)
        conn.execute("COMMIT")


def test_always_stays(shared, table):
    name = table()
    with shared(**ASIDE, disable_load_balance_on_write="always").connect() as conn:
        conn.execute("BEGIN READ ONLY")
        assert leader(conn) == "standby"
        conn.execute("COMMIT")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        conn.execute("BEGIN READ ONLY")
        assert leader(conn) == "primary"
        conn.execute("COMMIT")


def test_statement_level(shared):
    with shared(**ASIDE, statement_level_load_balance=True).connect() as conn:
        for _ in range(2):
            conn.execute("BEGIN READ ONLY")
            assert leader(conn) == "standby"
            conn.execute("COMMIT")
            assert leader(conn) == "primary"


def test_a_client_that_leaves_in_the_middle(make_pgpool, cluster):
    """Its links are given to the next one, who finds primary and standby in their places."""
    pgpool = make_pgpool({**ASIDE, "num_init_children": 1})
    for _ in range(3):
        with pgpool.connect() as conn:
            assert leader(conn) == "primary"
            assert where(conn, cluster) == "standby"
            conn.execute("BEGIN READ ONLY")
            assert leader(conn) == "standby"
    wait_until(lambda: not cluster.standby.backends("state = 'idle in transaction'"), "the transaction to be given up")


def test_a_patient_session_finds_a_primary_again(shared, cluster):
    """failover_client_policy = wait: the primary's backend has gone meanwhile, and nothing with it."""
    with shared(**ASIDE, failover_client_policy="wait").connect(application_name="patient") as conn:
        conn.execute("SET work_mem = '3MB'")
        conn.execute("BEGIN READ ONLY")
        assert leader(conn) == "standby"
        cluster.primary.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'patient'")
        assert leader(conn) == "standby"
        conn.execute("COMMIT")
        assert leader(conn) == "primary"
        assert conn.execute("SELECT current_setting('work_mem') FROM pg_class LIMIT 1").fetchone() == ("3MB",)


@pytest.mark.parametrize("who", ["standby", "primary"])
def test_a_backend_goes_meanwhile(shared, cluster, who):
    """The standby that leads takes the session along; of the primary nobody hears before the end."""
    with shared(**ASIDE).connect(application_name="aside") as conn:
        conn.execute("BEGIN READ ONLY")
        assert leader(conn) == "standby"
        node = getattr(cluster, who)
        node.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aside'")
        if who == "primary":
            assert leader(conn) == "standby"
        with pytest.raises(psycopg.OperationalError):
            conn.execute("COMMIT")
            conn.execute("SELECT 1 FROM pg_class")
        assert conn.closed or sockets.hung_up(conn.fileno())  # libpq does not call it closed when a write has failed


def test_explain_tells(conn):
    told = dict(conn.execute("PGPOOL EXPLAIN BEGIN READ ONLY").fetchall())
    assert told["goes to"].startswith("node 1 ")
    assert told["reason"] == "the read-only transaction runs on the standby"
    assert leader(conn) == "primary"
