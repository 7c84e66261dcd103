"""Read your own writes by replay position: disable_load_balance_on_write = lsn, PGPOOL SHOW write_lsn, SET min_lsn."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.nodes import where
from tests.support.servers import wait_until
from tests.support.wire import SYNC, RawClient, bind, execute, parse

pytestmark = pytest.mark.needs_pgpool

LSN = {"backend_weight0": 0, "disable_load_balance_on_write": "lsn"}


@pytest.fixture
def pause(cluster):
    """pause() stops replay on the standby, pause(False) lets it go on."""
    cluster.wait_for_catchup()

    def pause(stop: bool = True) -> None:
        cluster.standby.execute(f"SELECT pg_wal_replay_{'pause' if stop else 'resume'}()")

    yield pause
    pause(False)


def count(conn, cluster, name: str, where_from: str) -> int:
    """The rows of a table, read from the node of that name ('primary', 'standby')."""
    port, rows = conn.execute(f"SELECT inet_server_port(), (SELECT count(*) FROM {name})").fetchone()
    assert port == getattr(cluster, where_from).port
    return rows


def test_reads_follow_the_write(shared, cluster, table, pause):
    name = table()
    pgpool = shared(**LSN)
    cluster.wait_for_catchup()
    notices: list[str] = []
    with pgpool.connect() as conn, pgpool.connect() as other:
        conn.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
        assert count(conn, cluster, name, "standby") == 0
        pause()
        for rows in (1, 2):
            conn.execute(f"INSERT INTO {name} VALUES ({rows}, 'x')")
            assert count(conn, cluster, name, "primary") == rows
        conn.execute("PGPOOL SET notice_routing_reason = on")
        assert count(conn, cluster, name, "primary") == 2
        assert "not known to have replayed" in notices[-1]
        conn.execute("PGPOOL RESET notice_routing_reason")
        assert count(other, cluster, name, "standby") == 0  # it has written nothing
        pause(False)
        wait_until(lambda: where(conn, cluster) == "standby", "reads to come back")
        assert count(conn, cluster, name, "standby") == 2


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"])
def test_transactions(shared, cluster, table, pause, begin):
    name = table()
    pgpool = shared(**LSN)
    cluster.wait_for_catchup()
    with pgpool.connect() as conn:
        pause()
        conn.execute(begin)
        assert where(conn, cluster) == "standby"
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        assert count(conn, cluster, name, "primary") == 1  # not committed: no standby can have it
        conn.execute("COMMIT")
        conn.execute(begin)
        assert count(conn, cluster, name, "primary") == 1
        conn.execute("COMMIT")
        pause(False)
        wait_until(lambda: where(conn, cluster) == "standby", "the standby to have it")
        conn.execute(begin)
        assert count(conn, cluster, name, "standby") == 1
        conn.execute("COMMIT")


def test_other_reads_and_writes_are_as_ever(shared, cluster, table, pause):
    """While the standby is behind: what is no plain read has its own reasons, and a read is no write for that."""
    name = table()
    pgpool = shared(**LSN)
    cluster.wait_for_catchup()
    with pgpool.connect() as conn:
        pause()
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        [token] = conn.execute("PGPOOL SHOW write_lsn").fetchone()
        for sql in ("SELECT count(*), lower('A') FROM pg_class", f"SELECT count(*) FROM {name}", "SHOW search_path"):
            conn.execute(sql)
        assert conn.execute("PGPOOL SHOW write_lsn").fetchone() == (token,)
        conn.execute(f"SELECT * FROM {name} FOR UPDATE")
        assert conn.execute("PGPOOL SHOW write_lsn").fetchone() != (token,)


def test_extended_protocol(shared, cluster, table, pause):
    name = table()
    pgpool = shared(**LSN)
    cluster.wait_for_catchup()
    ask = f"SELECT inet_server_port(), count(*) FROM {name} WHERE id = %s"
    with pgpool.connect() as conn:
        for prepare in (True, False):
            assert conn.execute(ask, (1,), prepare=prepare).fetchone() == (cluster.standby.port, 0)
        pause()
        conn.execute(f"INSERT INTO {name} VALUES (%s, 'x')", (1,), prepare=True)
        for prepare in (True, False):
            assert conn.execute(ask, (1,), prepare=prepare).fetchone() == (cluster.primary.port, 1)
        pause(False)
        wait_until(lambda: where(conn, cluster) == "standby", "reads to come back")
        for prepare in (True, False):
            assert conn.execute(ask, (1,), prepare=prepare).fetchone() == (cluster.standby.port, 1)


def test_pipelines(shared, cluster, table, pause):
    """A read behind a write in the same batch, and in the next batch sent at once."""
    name = table()
    pgpool = shared(**LSN)
    read = f"SELECT inet_server_port()::text || ' ' || count(*) FROM {name}"
    cluster.wait_for_catchup()
    with RawClient.login(pgpool) as client:
        pause()
        assert client.value("SELECT inet_server_port()") == str(cluster.standby.port)
        for rows in (1, 2):
            client.send(
                parse(f"INSERT INTO {name} VALUES ({rows}, 'x')"), bind(), execute(), SYNC,
                parse(read), bind(), execute(), SYNC,
            )  # fmt: skip
            found = [m for _ in range(2) for m in client.read_until()]
            assert [m.columns for m in found if m.kind == "D"] == [[f"{cluster.primary.port} {rows}".encode()]]


def test_statement_level(shared, cluster, table, pause):
    """Only the node that is behind is left out."""
    name = table()
    pgpool = shared(**{**LSN, "backend_weight0": 1}, statement_level_load_balance=True)
    cluster.wait_for_catchup()
    with pgpool.connect() as conn:
        wait_until(lambda: where(conn, cluster) == "standby", "a read on the standby")
        pause()
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        assert {where(conn, cluster) for _ in range(40)} == {"primary"}
        pause(False)
        wait_until(lambda: where(conn, cluster) == "standby", "reads to come back")
        assert {where(conn, cluster) for _ in range(100)} == {"primary", "standby"}


@pytest.mark.parametrize("value", ["lsn", "transaction"])
def test_tokens(shared, cluster, table, pause, value):
    """What one session has written, another one sees when it asks for it; in any mode."""
    name = table()
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write=value)
    cluster.wait_for_catchup()
    with pgpool.connect() as writer, pgpool.connect() as reader:
        assert writer.execute("PGPOOL SHOW write_lsn").fetchone() == ("0/0",)
        pause()
        writer.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        [token] = writer.execute("PGPOOL SHOW write_lsn").fetchone()
        assert count(reader, cluster, name, "standby") == 0
        reader.execute(f"PGPOOL SET min_lsn = '{token}'")
        assert reader.execute("PGPOOL SHOW min_lsn").fetchone() == (token,)
        assert count(reader, cluster, name, "primary") == 1
        reader.execute("PGPOOL RESET min_lsn")
        assert count(reader, cluster, name, "standby") == 0
        reader.execute(f"PGPOOL SET min_lsn TO '{token}'")
        assert count(reader, cluster, name, "primary") == 1
        if value != "lsn":
            assert count(writer, cluster, name, "standby") == 0  # it has required nothing
        pause(False)
        wait_until(lambda: where(reader, cluster) == "standby", "the token to be reached")
        assert count(reader, cluster, name, "standby") == 1


def test_what_a_token_cannot_be(shared, table):
    name = table()
    pgpool = shared(**LSN)
    with pgpool.connect() as conn:
        for sql, state in (
            ("PGPOOL SET min_lsn = 'soon'", "22023"),
            ("PGPOOL SET write_lsn = '0/0'", "55P02"),
            ("PGPOOL RESET write_lsn", "55P02"),
        ):
            with pytest.raises(psycopg.Error) as failed:
                conn.execute(sql)
            assert failed.value.sqlstate == state
        conn.execute("BEGIN")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        with pytest.raises(psycopg.Error, match="before the transaction has ended"):
            conn.execute("PGPOOL SHOW write_lsn")
        conn.execute("COMMIT")
        assert conn.execute("PGPOOL SHOW write_lsn").fetchone() != ("0/0",)


def test_the_standby_goes_while_it_is_asked(shared, cluster, table, pause):
    """Its backend was terminated: the session goes on with the primary."""
    name = table()
    pgpool = shared(**LSN)
    cluster.wait_for_catchup()
    with pgpool.connect(application_name="going") as conn:
        assert where(conn, cluster) == "standby"
        pause()
        conn.execute(f"INSERT INTO {name} VALUES (1, 'x')")
        cluster.standby.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'going'")
        assert count(conn, cluster, name, "primary") == 1
        assert conn.execute(f"SELECT count(*) FROM {name}").fetchone() == (1,)
