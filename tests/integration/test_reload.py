"""A reload reaches running sessions between two requests (behaviour.md 14, commands.md 2)."""

import threading
import time

import psycopg
import pytest

from tests.support.servers import wait_until
from tests.support.wire import RawClient, query

pytestmark = pytest.mark.needs_pgpool


def setting(conn, name: str) -> str:
    return conn.execute(f"PGPOOL SHOW {name}").fetchone()[0]


@pytest.fixture
def reloadable(shared):
    """A pgpool of the run for these tests; what they change is put back."""
    pgpool = shared(num_init_children=6, listen_backlog_multiplier=3)
    before = dict(pgpool.settings)
    yield pgpool
    pgpool.settings = before
    pgpool.write_conf()
    pgpool.reload()


def test_a_running_session_follows(reloadable):
    """Also one whose statements never come to Python; what PGPOOL SET has set stays, RESET follows again."""
    with reloadable.connect() as conn, reloadable.connect() as other:
        other.execute("PGPOOL SET client_idle_limit TO 4711")
        other.execute("BEGIN")
        other.execute("CREATE TEMP TABLE mine (a int)")
        reloadable.write_conf(client_idle_limit=333, allow_sql_comments=True, log_per_node_statement=True)
        mark = reloadable.mark()
        reloadable.reload()
        wait_until(lambda: setting(conn, "client_idle_limit") == "333s", "the idle limit to arrive")
        wait_until(lambda: setting(other, "allow_sql_comments") == "on", "the other session to follow")
        assert setting(other, "client_idle_limit") == "4711s"
        other.execute("PGPOOL RESET client_idle_limit")
        assert setting(other, "client_idle_limit") == "333s"
        assert other.execute("SELECT count(*) FROM mine").fetchone() == (0,)
        conn.execute("SELECT 'told in the log'")
        reloadable.wait_for_log("told in the log", mark)


def test_a_session_in_the_middle_of_a_request_follows_after_it(reloadable, postgres):
    with RawClient.login(reloadable) as client:
        client.send(query("SELECT pg_sleep(60)"))
        wait_until(lambda: postgres.busy(f"pid = {client.pid}"), "the query to run")
        reloadable.write_conf(client_idle_limit=1)
        mark = reloadable.mark()
        reloadable.reload()
        reloadable.wait_for_log("reload config files", mark)
        time.sleep(1.2)  # longer than the limit: a running statement is not idleness
        postgres.execute(f"SELECT pg_cancel_backend({client.pid})")
        assert [m.fields["C"] for m in client.read_until("Z", 10) if m.kind == "E"] == ["57014"]
        said = [m.fields for m in client.wait_closed(15) if m.kind == "E"]
    assert said[0]["S"] == "DEBUG" and said[0]["C"] == "57000" and said[0]["M"] == "unable to read data"
    assert said[0]["D"] == "child connection forced to terminate due to client_idle_limit:1 is reached"


def test_reload_storm_under_load(reloadable):
    """A reload every 50 ms, every other one of a faulty file: no statement fails, and idleness still ends."""
    stop = threading.Event()
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            with reloadable.connect() as conn:
                while not stop.is_set():
                    assert conn.execute("SELECT %s::int", [number]).fetchone() == (number,)
                    with conn.transaction():
                        conn.execute("SELECT 1")
            with reloadable.connect() as conn:
                conn.execute("SELECT 1")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    before = {p.pid for p in reloadable.family()}
    with reloadable.connect() as idle:
        idle.execute("PGPOOL SET client_idle_limit TO 1")
        for thread in threads:
            thread.start()
        for number in range(50):
            extra = {"max_spare_children": 0} if number % 2 else {"max_spare_children": 10}
            reloadable.write_conf(client_idle_limit=100 + number, **extra)
            reloadable.reload()
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not failed, failed
        with pytest.raises(psycopg.Error):  # the signals did not keep it alive
            idle.execute("SELECT 1")
    assert {p.pid for p in reloadable.family()} == before


def test_what_needs_a_restart_is_named_and_what_is_wrong_keeps_its_place(reloadable):
    mark = reloadable.mark()
    reloadable.write_conf(num_init_children=9, max_pool=9, child_life_time=9, client_idle_limit=77)
    reloadable.reload()
    for name in ("num_init_children", "max_pool", "child_life_time"):
        pattern = rf'WARNING:  \S+pgpool.conf:\d+: parameter "{name}" cannot be changed without restarting pgpool'
        reloadable.wait_for_log(pattern, mark)
    with reloadable.connect() as conn:
        wait_until(lambda: setting(conn, "client_idle_limit") == "77s", "the rest to be applied")
    mark = reloadable.mark()
    reloadable.write_conf(process_management_mode="dynamic", min_spare_children=5, max_spare_children=5)
    reloadable.reload()
    text = r"pgpool.conf:\d+: invalid configuration, max_spare_children:5 must be greater than min_spare_children:5"
    reloadable.wait_for_log(text, mark)


def test_weights_for_new_sessions_and_a_backend_in_a_free_slot(reloadable, cluster):
    """The added backend is down until it is attached; pool_passwd is read again though pool_hba is off."""
    (reloadable.place / "pool_passwd").write_text("nobody\n")
    mark = reloadable.mark()
    standby = cluster.nodes[1]
    new = {"backend_hostname2": standby.host, "backend_port2": standby.port, "backend_weight2": 1}
    reloadable.write_conf(backend_weight0=0, backend_weight1=3, **new)
    reloadable.reload()
    reloadable.wait_for_log("backend 2 was added, it is down until it is attached", mark)
    reloadable.wait_for_log(r"pool_passwd:1", mark)

    def weights() -> list[str]:
        return [row["lb_weight"] for row in reloadable.show("pool_nodes")]

    wait_until(lambda: weights()[0] == "0.000000", "the weights")
    rows = reloadable.show("pool_nodes")
    assert rows[2]["status"] == "down"
    assert rows[1]["load_balance_node"] == "true"


def test_an_idle_link_expires_in_a_child_with_a_client(make_pgpool, cluster):
    """connection_life_time is kept even while the child serves somebody else, busy or idle."""
    pgpool = make_pgpool({"num_init_children": 1, "max_pool": 2, "connection_life_time": 2, "health_check_period": 0})
    with pgpool.connect(application_name="left behind") as conn:
        pid = conn.execute("SELECT pg_backend_pid()").fetchone()[0]
    with pgpool.connect("postgres") as conn:
        end = time.monotonic() + 20
        while cluster.primary.backends(f"pid = {pid}"):
            assert time.monotonic() < end, "the link is still there"
            conn.execute("SELECT 1")


def test_authentication_timeout_is_silent_and_the_child_lives(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1, "authentication_timeout": 1})
    child = pgpool.show("pool_processes")[0]["pool_pid"]
    with RawClient(pgpool.host, pgpool.port) as client:
        assert [m.kind for m in client.wait_closed(15)] == []
    assert pgpool.show("pool_processes")[0]["pool_pid"] == child
