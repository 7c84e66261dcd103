"""Transactions over two nodes: reads on the standby, state carried along, errors, savepoints."""

import psycopg
import pytest
from psycopg import pq

from tests.support.nodes import where
from tests.support.wire import SYNC, RawClient, bind, describe, execute, parse, query, readable

pytestmark = pytest.mark.needs_pgpool

PORT = "SELECT inet_server_port()"


@pytest.fixture
def conn(standby_reads):
    with standby_reads.connect() as made:
        yield made


def test_read_after_begin(conn, cluster):
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    conn.execute("COMMIT")


def test_read_after_write(conn, cluster, table):
    name = table()
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
    assert where(conn, cluster) == "primary"
    assert conn.execute(f"SELECT t FROM {name}").fetchone() == ("x",)
    conn.execute("COMMIT")
    assert where(conn, cluster) == "standby"


def test_read_after_writing_function(conn, cluster):
    conn.execute("BEGIN")
    conn.execute("SELECT random()")
    assert where(conn, cluster) == "primary"
    conn.execute("ROLLBACK")


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ],
)
def test_serializable_stays_on_the_primary(conn, cluster, begin):
    for sql in begin.split("; "):
        conn.execute(sql)
    assert where(conn, cluster) == "primary"
    conn.execute("COMMIT")
    assert where(conn, cluster) == "standby"


@pytest.mark.parametrize(
    "begin", ["BEGIN READ ONLY", "BEGIN READ WRITE", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "BEGIN WORK"]
)
def test_kinds_of_begin(conn, cluster, begin):
    """READ WRITE cannot be said to a standby: it gets a plain BEGIN there."""
    conn.execute(begin)
    assert where(conn, cluster) == "standby"
    conn.execute("COMMIT")


def test_isolation_level_holds_on_the_standby(conn, cluster, table):
    """REPEATABLE READ: two reads on the standby see the same, whatever happens between."""
    name = table(rows="VALUES (1, 'old')")
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    ask = f"SELECT t, inet_server_port() FROM {name} WHERE id = 1"
    assert conn.execute(ask).fetchone() == ("old", cluster.standby.port)
    cluster.execute(f"UPDATE {name} SET t = 'new'")
    assert conn.execute(ask).fetchone() == ("old", cluster.standby.port)
    conn.execute("COMMIT")
    assert conn.execute(ask).fetchone() == ("new", cluster.standby.port)


def test_read_only_holds_on_the_standby(conn):
    conn.execute("BEGIN READ ONLY")
    conn.execute("SELECT 1")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("CREATE TABLE never ()")
    conn.execute("ROLLBACK")


def test_begin_in_multi_statement_pins(conn, cluster):
    """Begun inside a multi-statement string: the standby knows nothing of the transaction."""
    conn.execute("BEGIN; SELECT 1")
    assert where(conn, cluster) == "primary"
    conn.execute("COMMIT")
    assert where(conn, cluster) == "standby"


# --- settings


def test_set_is_seen_on_the_standby(conn, cluster):
    assert where(conn, cluster) == "standby"
    for number, zone in enumerate(("Asia/Tokyo", "Europe/Rome", "UTC")):
        conn.execute(f"SET TimeZone = '{zone}'")
        conn.execute(f"SET my.own = '{number}'")
        row = conn.execute("SELECT current_setting('TimeZone'), current_setting('my.own'), inet_server_port()").fetchone()
        assert row == (zone, str(number), cluster.standby.port)


def test_set_before_the_standby_is_used(standby_reads, cluster):
    with standby_reads.connect() as conn:
        conn.execute("SET work_mem = '7MB'")
        conn.execute("SET statement_timeout TO 54321")
        conn.execute("RESET statement_timeout")
        row = conn.execute(
            "SELECT current_setting('work_mem'), current_setting('statement_timeout'), inet_server_port()"
        ).fetchone()
        assert row == ("7MB", "0", cluster.standby.port)


def setting(conn, name: str) -> tuple:
    """Its value for the next read, and where that was."""
    return conn.execute(f"SELECT current_setting('{name}', true), inet_server_port()").fetchone()


def test_set_config_function_pins(conn, cluster):
    """set_config is volatile: it runs on the primary, and what it set must be seen by the next read."""
    primary, standby = cluster.primary.port, cluster.standby.port
    conn.execute("BEGIN")
    conn.execute("SELECT set_config('my.pin', %s, true)", ["local"], prepare=True)
    assert setting(conn, "my.pin") == ("local", primary)
    conn.execute("ROLLBACK")
    assert setting(conn, "my.pin")[1] == standby
    conn.execute("SELECT set_config('my.pin', 'a' || 'b', false)")
    assert setting(conn, "my.pin") == ("ab", primary)


@pytest.mark.parametrize("prepare", [False, True])
def test_set_config_of_constants_is_a_set(conn, cluster, prepare):
    standby = cluster.standby.port
    run = lambda sql: conn.execute(sql, prepare=prepare)  # noqa: E731
    assert run("SELECT set_config('my.own', 'session', false)").fetchone() == ("session",)
    run("SELECT pg_catalog.set_config('my.other', 'it''s', false);")
    assert setting(conn, "my.own") == ("session", standby)
    assert setting(conn, "my.other") == ("it's", standby)
    conn.execute("BEGIN")
    run("SELECT set_config('my.own', 'local', true)")
    assert setting(conn, "my.own") == ("local", standby)
    conn.execute("SAVEPOINT s")
    run("SELECT set_config('my.other', 'undone', false)")
    assert setting(conn, "my.other") == ("undone", standby)
    conn.execute("ROLLBACK TO s")
    assert setting(conn, "my.other") == ("it's", standby)
    conn.execute("COMMIT")
    assert setting(conn, "my.own") == ("session", standby)
    with pytest.raises(psycopg.errors.UndefinedObject):
        run("SELECT set_config('nonsense', 'x', false)")
    assert setting(conn, "my.own") == ("session", standby)


def test_set_config_in_company(conn, cluster):
    """What is not a call of its own: prepared, in a cursor, in COPY; and several in one string."""
    conn.execute("SELECT set_config('my.own', 'a', false); SELECT set_config('my.other', 'b', false); SELECT 1")
    assert setting(conn, "my.own") == ("a", cluster.standby.port)
    assert setting(conn, "my.other") == ("b", cluster.standby.port)
    conn.execute("PREPARE p AS SELECT set_config('my.own', 'c', false)")
    conn.execute("EXECUTE p")
    assert setting(conn, "my.own")[0] == "c"
    conn.execute("DISCARD ALL")
    with conn.cursor().copy("COPY (SELECT set_config('my.own', 'd', false)) TO STDOUT") as copy:
        assert list(copy.rows()) == [("d",)]
    assert setting(conn, "my.own")[0] == "d"
    conn.execute("DISCARD ALL")
    conn.execute("BEGIN")
    conn.execute("DECLARE c CURSOR FOR SELECT set_config('my.own', 'e', true)")
    conn.execute("FETCH c")
    assert setting(conn, "my.own")[0] == "e"
    conn.execute("COMMIT")


def test_set_config_by_portals(standby_reads, cluster):
    """With a limit of rows, in a named portal, in a batch that fails later, and not executed at all."""
    ask = "SELECT current_setting('my.own', true), inet_server_port()"

    def own(client) -> list[bytes]:
        return next(m.columns for m in client.ask(query(ask)) if m.kind == "D")

    port = str(cluster.standby.port).encode()
    with RawClient.login(standby_reads) as client:
        for portal, limit in (("", 0), ("", 1), ("p", 0), ("p", 1)):
            value = f"{portal}{limit}"
            text = f"SELECT set_config('my.own', 'v{value}', false)"
            client.ask(parse(text), bind("", portal), describe("P", portal), execute(portal, limit), SYNC)
            assert own(client) == [b"v" + value.encode(), port]
        lost = "SELECT set_config('my.own', 'lost', false)"
        client.ask(parse(lost), bind(), execute(), parse("SELECT 1/0"), bind(), execute(), SYNC)
        assert own(client) == [b"vp1", port]
        client.ask(parse(lost), bind(), SYNC)
        assert own(client) == [b"vp1", port]


def test_set_in_multi_statement_is_seen(conn):
    conn.execute("SET my.multi = 'a'; SET TimeZone = 'Asia/Tokyo'")
    assert conn.execute("SELECT current_setting('my.multi', true), current_setting('TimeZone')").fetchone() == (
        "a",
        "Asia/Tokyo",
    )


def test_set_in_do_block_is_seen(conn):
    conn.execute("DO $$ BEGIN SET my.block = 'b'; END $$")
    assert conn.execute("SELECT current_setting('my.block', true)").fetchone() == ("b",)


def test_set_local(conn):
    conn.execute("BEGIN")
    conn.execute("SET LOCAL my.loc = 'inside'")
    assert conn.execute("SELECT current_setting('my.loc', true)").fetchone() == ("inside",)
    conn.execute("COMMIT")
    assert conn.execute("SELECT current_setting('my.loc', true)").fetchone()[0] in ("", None)


def test_set_rolled_back(conn):
    conn.execute("SET my.roll = 'before'")
    conn.execute("BEGIN")
    conn.execute("SET my.roll = 'inside'")
    assert conn.execute("SELECT current_setting('my.roll')").fetchone() == ("inside",)
    conn.execute("ROLLBACK")
    assert conn.execute("SELECT current_setting('my.roll')").fetchone() == ("before",)


def test_set_rolled_back_to_savepoint(conn):
    conn.execute("BEGIN")
    conn.execute("SET my.sp = 'one'")
    conn.execute("SAVEPOINT s")
    conn.execute("SET my.sp = 'two'")
    assert conn.execute("SELECT current_setting('my.sp')").fetchone() == ("two",)
    conn.execute("ROLLBACK TO s")
    assert conn.execute("SELECT current_setting('my.sp')").fetchone() == ("one",)
    conn.execute("SET my.sp = 'three'")
    conn.execute("RELEASE s")
    conn.execute("COMMIT")
    assert conn.execute("SELECT current_setting('my.sp')").fetchone() == ("three",)


@pytest.mark.parametrize("sql", ["SET work_mem = '3MB'", "SELECT set_config('work_mem', '3MB', false)"])
def test_set_after_an_error_on_the_standby(standby_reads, cluster, sql):
    """That error is no news of the primary, where the setting was made."""
    with RawClient.login(standby_reads) as client:
        batches = [("SELECT 1 / (inet_server_port() - $1::int)", (str(cluster.standby.port),)), (sql, ())]
        kinds = []
        for text, values in batches:
            client.send(parse(text), bind("", "", values), describe(), execute(), SYNC)
            kinds.append([m.kind for m in client.read_until("Z")])
        assert "E" in kinds[0] and "E" not in kinds[1]
        shown = client.ask(query("SELECT current_setting('work_mem'), inet_server_port()"))
        assert readable(next(m for m in shown if m.kind == "D"))[1:] == (b"3MB", str(cluster.standby.port).encode())


def test_set_that_fails_is_not_replayed(conn):
    with pytest.raises(psycopg.errors.UndefinedObject):
        conn.execute("SET no_such_setting = 1")
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        conn.execute("SET TimeZone = 'Nowhere/At_All'")
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_set_role(conn, cluster):
    cluster.execute("DROP ROLE IF EXISTS actor; CREATE ROLE actor")
    conn.execute("SET ROLE actor")
    assert conn.execute("SELECT current_user, inet_server_port()").fetchone() == ("actor", cluster.standby.port)
    conn.execute("RESET ROLE")
    assert conn.execute("SELECT current_user").fetchone() == ("postgres",)
    conn.execute("SET SESSION AUTHORIZATION actor")
    assert conn.execute("SELECT session_user").fetchone() == ("actor",)
    conn.execute("RESET SESSION AUTHORIZATION")
    cluster.execute("DROP ROLE actor")


def test_search_path_decides_what_is_read(conn, cluster):
    """The same text means another table after SET search_path: no verdict may be remembered across it."""
    cluster.execute(
        "CREATE SCHEMA sp1; CREATE TABLE sp1.same AS SELECT 'one' AS t;"
        "CREATE SCHEMA sp2; CREATE UNLOGGED TABLE sp2.same AS SELECT 'two' AS t"
    )
    try:
        for _ in range(2):
            conn.execute("SET search_path = sp1")
            assert conn.execute("SELECT t, inet_server_port() FROM same").fetchone() == ("one", cluster.standby.port)
            conn.execute("SET search_path = sp2")
            assert conn.execute("SELECT t, inet_server_port() FROM same").fetchone() == ("two", cluster.primary.port)
    finally:
        cluster.execute("DROP SCHEMA sp1, sp2 CASCADE")


def test_reset_all_and_discard_all(conn):
    for undo in ("RESET ALL", "DISCARD ALL"):
        conn.execute("SET work_mem = '9MB'")
        assert conn.execute("SELECT current_setting('work_mem')").fetchone() == ("9MB",)
        conn.execute(undo)
        assert conn.execute("SELECT current_setting('work_mem')").fetchone() == ("4MB",)


def test_set_session_characteristics(conn, cluster):
    conn.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    assert conn.execute("SELECT current_setting('default_transaction_read_only')").fetchone() == ("on",)
    conn.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    conn.execute("SELECT 1")
    conn.execute("SET default_transaction_isolation = 'serializable'")
    assert where(conn, cluster) == "primary"


# --- savepoints and errors


def test_savepoints_with_reads_between(conn, cluster, table):
    name = table()
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    conn.execute("SAVEPOINT a")
    assert where(conn, cluster) == "standby"
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1/0")
    conn.execute("ROLLBACK TO a")
    assert where(conn, cluster) == "standby"
    conn.execute("SAVEPOINT b")
    conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
    conn.execute("ROLLBACK TO b")
    conn.execute("RELEASE a")
    conn.execute("COMMIT")
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 0


def test_savepoint_error_on_the_primary(conn, cluster, table):
    name = table(rows="VALUES (1, 'x')")
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    conn.execute("SAVEPOINT a")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(f"INSERT INTO {name} VALUES (1, 'again')")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    conn.execute("ROLLBACK TO SAVEPOINT a")
    conn.execute("SELECT 1")
    conn.execute(f"INSERT INTO {name} VALUES (2, 'y')")
    conn.execute("COMMIT")
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 2


def test_error_on_the_standby_fails_the_transaction(conn, cluster, table):
    """The read failed on the standby; the write before it on the primary must not be committed."""
    name = table()
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1/0")
    assert conn.info.transaction_status == pq.TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
    assert conn.execute("COMMIT").statusmessage == "ROLLBACK"
    assert conn.info.transaction_status == pq.TransactionStatus.IDLE
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 0


def test_write_then_error_on_the_standby(shared, cluster, table):
    """disable_load_balance_on_write = off: reads after a write still go to the standby; its error undoes the write."""
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write="off")
    name = table()
    with pgpool.connect() as conn:
        conn.execute("BEGIN")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        assert where(conn, cluster) == "standby"
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1/0")
        assert conn.execute("END").statusmessage == "ROLLBACK"
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 0


def test_error_on_the_primary_fails_reads_too(conn, cluster):
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("DELETE FROM nosuch")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    assert conn.execute("COMMIT").statusmessage == "ROLLBACK"


def test_nothing_is_left_open_on_the_standby(standby_reads, cluster):
    with standby_reads.connect(application_name="left_open") as conn:
        for end in ("COMMIT", "ROLLBACK", "END", "ABORT"):
            conn.execute("BEGIN")
            assert where(conn, cluster) == "standby"
            conn.execute(end)
            assert not cluster.standby.backends("state LIKE 'idle in%'")
            assert not cluster.primary.backends("state LIKE 'idle in%'")


def test_two_phase_commit_closes_the_standby_too(conn, cluster, table):
    name = table()
    conn.execute("BEGIN")
    assert where(conn, cluster) == "standby"
    conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
    conn.execute("PREPARE TRANSACTION 'tp'")
    assert conn.info.transaction_status == pq.TransactionStatus.IDLE
    assert not cluster.standby.backends("state LIKE 'idle in%'")
    conn.execute("COMMIT PREPARED 'tp'")
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 1


def test_state_of_ready_for_query(standby_reads):
    with RawClient.login(standby_reads) as client:
        states = [
            client.ask(query(sql))[-1].state
            for sql in ("SELECT 1", "BEGIN", "SELECT 1", "SELECT nope", "SELECT 1", "ROLLBACK")
        ]
    assert states == ["I", "T", "T", "E", "E", "I"]


def test_abandoned_transaction_is_rolled_back(standby_reads, cluster, table):
    """The client leaves inside a transaction with both nodes in it."""
    name = table()
    with standby_reads.connect() as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT 1")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        conn.pgconn.finish()
    with standby_reads.connect() as conn:
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE
        conn.execute(f"INSERT INTO {name} VALUES (2, 'y')")
    assert cluster.primary.execute(f"SELECT id FROM {name}") == [(2,)]
