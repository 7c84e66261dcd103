"""The pool of one child: reuse, clean slate, eviction, dead connections (behaviour.md 3)."""

import threading
import time

import psycopg
import pytest

from tests.support.servers import wait_until
from tests.support.wire import RawClient, query

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture
def one_child(shared):
    """One child with two pool entries, reads on the primary: every session meets the same pool."""
    return shared(num_init_children=1, max_pool=2, backend_weight1=0)


def pid_of(pgpool, database: str = "app", **kw) -> int:
    """Backend pid of a session that ends properly."""
    with pgpool.connect(database, **kw) as conn:
        pid = conn.info.backend_pid
        assert conn.execute("SELECT 1").fetchone() == (1,)
    return pid


def test_backend_is_reused(one_child, postgres):
    first = pid_of(one_child)
    assert [pid_of(one_child) for _ in range(5)] == [first] * 5
    assert wait_until(lambda: postgres.backends(f"pid = {first} AND state = 'idle'"), "the pooled backend")


def test_pid_told_is_the_backend_that_works(one_child, cluster):
    with one_child.connect() as conn:
        told = conn.info.backend_pid
        conn.execute("CREATE TEMP TABLE x AS SELECT pg_backend_pid() AS p")
        assert conn.execute("SELECT p FROM x").fetchone() == (told,)


def test_key_is_user_and_database(one_child, cluster):
    cluster.execute("DROP ROLE IF EXISTS other_user; CREATE ROLE other_user LOGIN")
    app, other = pid_of(one_child), pid_of(one_child, user="other_user")
    assert app != other
    assert pid_of(one_child) == app
    assert pid_of(one_child, user="other_user") == other


def test_oldest_is_evicted(one_child, cluster, postgres):
    cluster.execute("DROP ROLE IF EXISTS third_user; CREATE ROLE third_user LOGIN")
    cluster.execute("DROP ROLE IF EXISTS other_user; CREATE ROLE other_user LOGIN")
    app, other = pid_of(one_child), pid_of(one_child, user="other_user")
    pid_of(one_child, user="third_user")
    wait_until(lambda: not postgres.backends(f"pid = {app}"), "the oldest entry to be closed", 10)
    assert pid_of(one_child, user="other_user") == other
    assert pid_of(one_child) != app


def test_application_name_changes(one_child, postgres):
    """Another application_name is applied with SET; the connection stays (better than the incumbent)."""
    with one_child.connect(application_name="first") as conn:
        pid = conn.info.backend_pid
        assert conn.execute("SHOW application_name").fetchone() == ("first",)
    for name in ("second", 'it\'s "odd"', ""):
        with one_child.connect(application_name=name) as conn:
            assert conn.info.backend_pid == pid
            assert conn.info.parameter_status("application_name") == name
            assert conn.execute("SHOW application_name").fetchone() == (name,)
            assert postgres.backends(f"pid = {pid}")[0]["application_name"] == name
            conn.execute("SET application_name = 'changed'")
            conn.execute("DISCARD ALL")
            assert conn.execute("SHOW application_name").fetchone() == (name,)


@pytest.mark.parametrize(
    "option",
    ["client_encoding=LATIN1", "options=-c work_mem=5MB", "options=-c DateStyle=German -c my.x=1"],
    ids=["encoding", "options", "two"],
)
def test_startup_options_hold_for_their_session_only(one_child, option):
    key, value = option.split("=", 1)
    with one_child.connect() as conn:
        before = conn.execute(
            "SELECT current_setting('work_mem'), current_setting('DateStyle'), current_setting('client_encoding')"
        ).fetchone()
    with one_child.connect(**{key: value}) as conn:
        inside = conn.execute(
            "SELECT current_setting('work_mem'), current_setting('DateStyle'), current_setting('client_encoding')"
        ).fetchone()
        assert inside != before
    with one_child.connect() as conn:
        after = conn.execute(
            "SELECT current_setting('work_mem'), current_setting('DateStyle'), current_setting('client_encoding')"
        ).fetchone()
    assert after == before


LEAKS = {
    "setting": ("SET work_mem = '9MB'", "SELECT current_setting('work_mem') = '4MB'"),
    "custom": ("SET my.leak = 'x'", "SELECT coalesce(current_setting('my.leak', true), '') = ''"),
    "role": ("SET ROLE pg_monitor", "SELECT current_user = 'postgres'"),
    "authorization": ("SET SESSION AUTHORIZATION sr", "SELECT session_user = 'postgres'"),
    "prepared": ("PREPARE leak AS SELECT 1", "SELECT count(*) = 0 FROM pg_prepared_statements"),
    "cursor": ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) = 0 FROM pg_cursors"),
    "temp": ("CREATE TEMP TABLE leak ()", "SELECT to_regclass('pg_temp.leak') IS NULL"),
    "listen": ("LISTEN leak", "SELECT count(*) = 0 FROM pg_listening_channels()"),
    "lock": ("SELECT pg_advisory_lock(4242)", "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'"),
    "sequence": ("CREATE TEMP SEQUENCE s; SELECT nextval('s')", "SELECT to_regclass('pg_temp.s') IS NULL"),
    "transaction": ("BEGIN", "SELECT now() = statement_timestamp()"),
    "characteristics": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT current_setting('transaction_read_only') = 'off'",
    ),
}


@pytest.mark.parametrize("what", LEAKS)
def test_nothing_leaks(one_child, what):
    spoil, check = LEAKS[what]
    with one_child.connect() as conn:
        pid = conn.info.backend_pid
        conn.execute(spoil)
    with one_child.connect() as conn:
        assert conn.info.backend_pid == pid, "not the same backend: nothing was proven"
        assert conn.execute(check).fetchone() == (True,)
        assert conn.info.parameter_status("TimeZone") == "UTC"


def test_nothing_leaks_on_the_standby(shared, cluster):
    pgpool = shared(num_init_children=1, backend_weight0=0)
    ask = "SELECT current_setting('work_mem'), coalesce(current_setting('my.leak', true), ''), inet_server_port()"
    with pgpool.connect() as conn:
        conn.execute("SET work_mem = '9MB'")
        conn.execute("SET my.leak = 'x'")
        assert conn.execute(ask).fetchone() == ("9MB", "x", cluster.standby.port)
    with pgpool.connect() as conn:
        assert conn.execute(ask).fetchone() == ("4MB", "", cluster.standby.port)


def test_application_name_on_the_standby(shared, cluster):
    """The pooled connection to the standby gets the new session's options too."""
    pgpool = shared(num_init_children=1, backend_weight0=0)
    ask = "SELECT current_setting('application_name'), inet_server_port()"
    for name in ("one", "two", "", "three"):
        with pgpool.connect(application_name=name) as conn:
            assert conn.execute(ask).fetchone() == (name, cluster.standby.port)


def test_client_vanished_in_a_transaction(one_child, postgres, table):
    """No Terminate: the backend is not kept (behaviour.md 3), nothing is committed, no lock stays."""
    name = table()
    client = RawClient.login(one_child)
    client.ask(query("BEGIN"))
    client.ask(query(f"INSERT INTO {name} VALUES (1, 'x')"))
    pid = client.pid
    client.vanish()
    wait_until(lambda: not postgres.backends(f"pid = {pid} AND state LIKE 'idle in%'"), "the transaction to end", 10)
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0
    assert pid_of(one_child) != pid


def test_client_vanished_while_a_query_runs(one_child, postgres):
    client = RawClient.login(one_child)
    client.send(query("SELECT pg_sleep(600)"))
    pid = client.pid
    wait_until(lambda: postgres.busy(f"pid = {pid}"), "the query to run")
    client.vanish()
    wait_until(lambda: not postgres.backends(f"pid = {pid} AND state = 'active'"), "the query to be stopped", 15)
    assert pid_of(one_child) > 0


def test_killed_while_pooled(one_child, postgres):
    """Checked before reuse: the next session gets a new backend at once and notices nothing."""
    for _ in range(3):
        pid = pid_of(one_child)
        postgres.execute(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda pid=pid: not postgres.backends(f"pid = {pid}"), "the backend to end", 10)
        started = time.monotonic()
        assert pid_of(one_child) != pid
        assert time.monotonic() - started < 0.9, "a sleeping second"
    assert "down" not in [row["status"] for row in one_child.show("pool_nodes")]


def test_killed_while_pooled_with_failover_on(make_pgpool, postgres):
    """The default failover_on_backend_error = check does not take a node away for that."""
    pgpool = make_pgpool({"num_init_children": 1, "failover_on_backend_error": "check"})
    pid = pid_of(pgpool)
    postgres.execute(f"SELECT pg_terminate_backend({pid})")
    wait_until(lambda: not postgres.backends(f"pid = {pid}"), "the backend to end", 10)
    assert pid_of(pgpool) != pid
    assert "down" not in [row["status"] for row in pgpool.show("pool_nodes")]


def test_standby_connection_killed_while_pooled(make_pgpool, cluster):
    pgpool = make_pgpool({"num_init_children": 1, "backend_weight0": 0})
    with pgpool.connect() as conn:
        conn.execute("SELECT 1")
    for backend in cluster.standby.backends("datname = 'app'"):
        cluster.standby.execute(f"SELECT pg_terminate_backend({backend['pid']})")
    with pgpool.connect() as conn:
        assert conn.execute("SELECT inet_server_port()").fetchone() == (cluster.standby.port,)


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_databases_never_kept(one_child, database):
    first = pid_of(one_child, database)
    assert pid_of(one_child, database) != first


def test_connection_cache_off(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1, "connection_cache": False})
    first = pid_of(pgpool)
    assert pid_of(pgpool) != first


def test_reset_query_list(make_pgpool, postgres):
    """What it says is sent to the backend, in order, at the end of the session; DISCARD ALL is not added."""
    pgpool = make_pgpool({"num_init_children": 1, "reset_query_list": "ABORT; SET my.reset = 'was here'"})
    with pgpool.connect() as conn:
        conn.execute("SET my.kept = 'kept'")
        conn.execute("BEGIN")
    with pgpool.connect() as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT random()")  # on the primary from here
        assert conn.execute("SELECT current_setting('my.reset'), current_setting('my.kept')").fetchone() == (
            "was here",
            "kept",
        )
        conn.execute("ROLLBACK")


def test_failing_reset_query_throws_the_connection_away(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1, "reset_query_list": "ABORT; SELECT 1/0", "backend_weight1": 0})
    first = pid_of(pgpool)
    assert pid_of(pgpool) != first


def test_connection_life_time(make_pgpool, postgres):
    pgpool = make_pgpool({"num_init_children": 1, "connection_life_time": 1})
    pid = pid_of(pgpool)
    wait_until(lambda: not postgres.backends(f"pid = {pid}"), "the idle connection to be closed", 10)
    assert pid_of(pgpool) != pid


def test_session_ended_by_an_error_is_not_kept(one_child, postgres):
    client = RawClient.login(one_child)
    pid = client.pid
    client.send(b"Q\0\0\0\0")
    client.wait_closed()
    client.close()
    assert pid_of(one_child) != pid
    wait_until(lambda: not postgres.backends(f"pid = {pid}"), "its backend to end", 10)


def test_children_do_not_share(pgpool):
    """Two sessions at once are two backends; pid and key of each are its own."""
    with pgpool.connect() as one, pgpool.connect() as two:
        assert one.info.backend_pid != two.info.backend_pid


def test_drop_database_closes_pooled_connections(pgpool, cluster):
    """Idle pooled connections to a database do not keep it from being dropped."""
    cluster.execute("CREATE DATABASE doomed")
    for _ in range(4):
        with pgpool.connect("doomed") as conn:
            conn.execute("SELECT 1")
    with pgpool.connect() as conn:
        conn.execute("DROP DATABASE doomed")
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_many_short_sessions_in_parallel(pgpool):
    """200 sessions from 8 threads: no mix-ups."""
    faults = []

    def work(number: int) -> None:
        try:
            for step in range(25):
                with pgpool.connect(application_name=f"t{number}") as conn:
                    got = conn.execute(
                        "SELECT %s::int, current_setting('application_name')", (number * 100 + step,)
                    ).fetchone()
                    assert got == (number * 100 + step, f"t{number}"), got
        except (AssertionError, psycopg.Error) as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_pool_pools_shows_the_entry(one_child):
    with one_child.connect() as conn:
        pid = conn.info.backend_pid
    rows = [row for row in one_child.show("pool_pools") if row["database"] == "app"]
    assert len(rows) == 2
    assert rows[0]["pool_backendpid"] == str(pid)
    assert rows[0]["pool_connected"] == "0"
    assert rows[0]["username"] == "postgres"
    assert int(rows[0]["pool_counter"]) >= 1
