"""disable_load_balance_on_write (behaviour.md 5.4)."""

import pytest

from tests.support.nodes import where
from tests.support.wire import SYNC, RawClient, bind, execute, parse

pytestmark = pytest.mark.needs_pgpool

#: value -> where reads go: in a transaction after a write, in the next transaction, autocommit later.
TABLE = {
    "off": ("standby", "standby", "standby"),
    "transaction": ("primary", "standby", "standby"),
    "trans_transaction": ("primary", "primary", "standby"),
    "always": ("primary", "primary", "primary"),
}


@pytest.mark.parametrize("value", TABLE)
@pytest.mark.parametrize(
    "write",
    ["INSERT INTO {} VALUES (1, 'x')", "CREATE TABLE {}_2 ()", "SELECT random() FROM {}", "COPY {} TO '/dev/null'"],
)
def test_after_write_in_transaction(shared, cluster, table, value, write):
    name = table()
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write=value)
    inside, next_one, later = TABLE[value]
    with pgpool.connect() as conn:
        conn.execute("BEGIN")
        assert where(conn, cluster) == "standby"
        conn.execute(write.format(name))
        got_inside = where(conn, cluster)
        conn.execute("ROLLBACK")
        conn.execute("BEGIN")
        got_next = where(conn, cluster)
        conn.execute("COMMIT")
        assert (got_inside, got_next, where(conn, cluster)) == (inside, next_one, later)


@pytest.mark.parametrize("value", TABLE)
def test_after_write_in_autocommit(shared, cluster, table, value):
    name = table()
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write=value)
    with pgpool.connect() as conn:
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        assert where(conn, cluster) == ("primary" if value == "always" else "standby")
        conn.execute("BEGIN")
        assert where(conn, cluster) == ("primary" if value == "always" else "standby")
        conn.execute("COMMIT")


@pytest.mark.parametrize("value", TABLE)
def test_writes_of_other_sessions_do_not_count(shared, cluster, table, value):
    name = table()
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write=value)
    with pgpool.connect() as conn:
        conn.execute("BEGIN")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        conn.execute("COMMIT")
    for _ in range(3):  # whichever child serves: nothing sticks to the pooled connection
        with pgpool.connect() as conn:
            conn.execute("BEGIN")
            assert where(conn, cluster) == "standby"
            conn.execute("COMMIT")


@pytest.mark.parametrize("value", ["transaction", "always"])
def test_extended_protocol(shared, cluster, table, value):
    """Parsed on the standby, executed after a write: re-parsed on the primary (behaviour.md 5.4)."""
    name = table()
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write=value)
    ask = f"SELECT inet_server_port(), count(*) FROM {name} WHERE id = %s"
    with pgpool.connect() as conn:
        assert conn.execute(ask, (1,), prepare=True).fetchone() == (cluster.standby.port, 0)
        conn.execute("BEGIN")
        assert conn.execute(ask, (1,), prepare=True).fetchone() == (cluster.standby.port, 0)
        conn.execute(f"INSERT INTO {name} VALUES (%s, 'x')", (1,), prepare=True)
        assert conn.execute(ask, (1,), prepare=True).fetchone() == (cluster.primary.port, 1)
        conn.execute("ROLLBACK")
        want = cluster.primary.port if value == "always" else cluster.standby.port
        assert conn.execute(ask, (1,), prepare=True).fetchone() == (want, 0)


# -- dml_adaptive -----------------------------------------------------------------------------------------------------


@pytest.fixture
def adaptive(shared, table):
    """(pgpool, a table that is written, one that depends on it, another one)."""
    written, dependent, other = table(), table(), table()
    relations = f"{written}:{dependent}"
    settings = {"disable_load_balance_on_write": "dml_adaptive", "dml_adaptive_object_relationship_list": relations}
    return shared(backend_weight0=0, **settings), written, dependent, other


def reads(conn, cluster, name: str) -> str:
    """Where a read of this table goes."""
    return where(conn, cluster, f"SELECT inet_server_port(), (SELECT count(*) FROM {name})")


@pytest.mark.parametrize("write", ["INSERT INTO {} VALUES (1, 'x')", "UPDATE {} SET t = 'y'", "DELETE FROM {}"])
def test_only_what_was_written_is_read_on_the_primary(adaptive, cluster, write):
    pgpool, written, dependent, other = adaptive
    with pgpool.connect() as conn:
        for _ in range(2):  # the second time the verdicts are known
            conn.execute("BEGIN")
            assert [reads(conn, cluster, name) for name in (written, dependent, other)] == ["standby"] * 3
            conn.execute(write.format(written))
            assert [reads(conn, cluster, name) for name in (written, dependent, other)] == ["primary", "primary", "standby"]
            conn.execute("SELECT txid_current()")  # writes no table
            assert reads(conn, cluster, other) == "standby"
            conn.execute("ROLLBACK")
            assert [reads(conn, cluster, name) for name in (written, dependent, other)] == ["standby"] * 3
        conn.execute(write.format(written))
        assert reads(conn, cluster, written) == "standby"  # outside of a transaction nothing is remembered


def test_a_write_of_unknown_tables_is_one_of_all(adaptive, cluster):
    pgpool, written, _, other = adaptive
    with pgpool.connect() as conn, conn.transaction():
        conn.execute(f"DO $$ BEGIN INSERT INTO {written} VALUES (1, 'x'); END $$")
        assert reads(conn, cluster, other) == "primary"


def test_prepared_writes(adaptive, cluster):
    pgpool, written, _, other = adaptive
    with pgpool.connect() as conn:
        conn.execute(f"PREPARE w AS INSERT INTO {written} VALUES (1, 'x')")
        with conn.transaction():
            conn.execute("EXECUTE w")
            assert [reads(conn, cluster, name) for name in (written, other)] == ["primary", "standby"]
        for i in range(3):
            with conn.transaction():
                conn.execute(f"INSERT INTO {written} VALUES (%s, 'x')", [i + 10], prepare=True)
                assert [reads(conn, cluster, name) for name in (written, other)] == ["primary", "standby"]


def test_begin_and_write_in_one_batch(adaptive, cluster):
    """As JDBC sends them; the transaction is not known to have begun when the write passes by."""
    pgpool, written, _, other = adaptive
    with RawClient.login(pgpool) as client:
        for _ in range(2):
            client.send(
                parse("BEGIN"), bind(), execute(),
                parse(f"INSERT INTO {written} VALUES (1, 'x')"), bind(), execute(), SYNC,
            )  # fmt: skip
            assert client.read_until()[-1].state == "T"
            ports = [client.value(f"SELECT inet_server_port(), (SELECT count(*) FROM {n})") for n in (written, other)]
            assert ports == [str(cluster.primary.port), str(cluster.standby.port)]
            client.value("ROLLBACK")
