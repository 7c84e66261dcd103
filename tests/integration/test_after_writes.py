"""disable_load_balance_on_write: off, transaction, trans_transaction, always (behaviour.md 5.4)."""

import pytest

from tests.support.nodes import where

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
