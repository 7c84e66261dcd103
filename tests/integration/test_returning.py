"""Clients that come again: they are served from what was decided the last time, and notice nothing of it."""

import os
import shutil
import socket
import subprocess
import threading
import time

import psycopg
import pytest

from bench.targets import tls_settings
from tests.support import pcp
from tests.support.pgpool import show
from tests.support.places import free_port, pg_bin, short_dir, wait_until
from tests.support.postgres import Cluster
from tests.support.wire import RawClient, msg, query, startup

from .test_metrics import get, values
from .test_tls import Authority

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture
def watched(make_pgpool, proxy_kind):
    """watched(**settings): one child, with the metrics that tell who was known."""
    if proxy_kind != "ours":
        pytest.skip("the metrics are ours")

    def make(files=None, start=True, **settings):
        base = {"num_init_children": 1, "metrics_port": free_port(), "metrics_listen_addresses": "127.0.0.1"}
        made = make_pgpool({**base, **settings}, files=files, start=start)
        if not start:  # the one who asks whether it serves may not come in
            made.start(wait=False)
        wait_until(lambda: get(made, "/livez")[0] == 200, "the monitoring endpoint")
        return made

    return make


def known(pgpool) -> float:
    return values(pgpool, "pgpool_returning_clients_total")


def read(pgpool, sql: str = "SELECT inet_server_port()", **kw):
    with pgpool.connect(**kw) as conn:
        return conn.execute(sql).fetchone()[0]


def come_again(pgpool, sql: str = "SELECT inet_server_port()", **kw) -> set:
    """Sessions until one of them was known already (a client that is slow to speak is not); what they have read."""
    before = known(pgpool)
    seen = set()
    wait_until(lambda: seen.add(read(pgpool, sql, **kw)) or known(pgpool) > before, "a client to be known")
    return seen


def test_the_second_session_needs_no_decision(watched, cluster: Cluster):
    pgpool = watched(backend_weight0=0)
    assert come_again(pgpool) == {cluster.standby.port}
    assert come_again(pgpool) == {cluster.standby.port}


def test_it_is_seen_like_any_other(watched):
    pgpool = watched()
    come_again(pgpool)
    for _ in range(50):
        before = known(pgpool)
        with pgpool.connect() as conn:
            if known(pgpool) == before:
                continue  # this one was slow
            row = next(row for row in show(conn, "pool_pools") if row["pool_connected"] == "1")
            with socket.socket(fileno=os.dup(conn.fileno())) as sock:
                port = sock.getsockname()[1]
            assert (row["username"], row["database"], row["client_host"]) == ("postgres", "app", "127.0.0.1")
            assert row["client_port"] == str(port)
            assert int(row["pool_counter"]) >= 2
            title = f"pgpool: postgres app 127.0.0.1({port}) idle"
            wait_until(lambda title=title: title in {" ".join(p.cmdline()).strip() for p in pgpool.family()}, title)
            return
    raise AssertionError("nobody was known")


@pytest.fixture
def place():
    made = short_dir("tls")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_who_encrypts_is_known_too_and_nobody_else_for_him(watched, cluster: Cluster, place):
    """The rules let in only who encrypts; that one is known changes nothing for another who does not."""
    rules = "hostssl all all all trust\nhostnossl all all all reject\n"
    pgpool = watched(files={"pool_hba.conf": rules}, enable_pool_hba=True, backend_weight0=0, **tls_settings(place))
    for _ in range(3):
        assert come_again(pgpool, sslmode="require") == {cluster.standby.port}
        with pgpool.connect(sslmode="require", autocommit=True) as conn:
            assert conn.pgconn.ssl_in_use
            conn.execute("CREATE TEMP TABLE mine AS SELECT generate_series(1, 20000) AS i")
            assert conn.execute("SELECT sum(i) FROM mine").fetchone() == (200010000,)
        before = known(pgpool)
        with pytest.raises(psycopg.OperationalError, match=r"no pool_hba\.conf entry"):
            read(pgpool, sslmode="disable")
        assert known(pgpool) == before


def test_who_shows_a_certificate_shows_it_each_time(watched, place):
    """What was decided about him was decided by it: another one without it, or with another one, is not he."""
    pki = Authority(place)
    for name in ("postgres", "sr"):
        pki.issue(name)
    pgpool = watched(
        files={"pool_hba.conf": "host all sr all trust\nhostssl all postgres all cert\n"}, start=False,
        enable_pool_hba=True, **{**tls_settings(place), "ssl_ca_cert": pki["ca.crt"]},
    )  # fmt: skip
    mine = {"sslmode": "require", "sslcert": pki["postgres.crt"], "sslkey": pki["postgres.key"]}
    wait_until(lambda: logs_in(pgpool, **mine), "pgpool to serve")
    before = known(pgpool)
    for _ in range(4):
        assert logs_in(pgpool, **mine)
        assert not logs_in(pgpool, sslmode="require", sslcert="", sslkey="/nonexistent")
        assert not logs_in(pgpool, sslmode="require", sslcert=pki["sr.crt"], sslkey=pki["sr.key"])
    assert known(pgpool) == before


def logs_in(pgpool, **options) -> bool:
    try:
        return read(pgpool, "SELECT 1", **options) == 1
    except psycopg.OperationalError:
        return False


def test_a_client_that_takes_his_time_is_known(watched):
    """The door waits 50 ms for the first packet, then he is Python's; a later one of his kind still needs no decision."""
    pgpool = watched()
    packet = startup(user="postgres", database="app")

    def slow() -> None:
        with RawClient(pgpool.host, pgpool.port) as client:
            client.send(packet[:10])
            time.sleep(0.1)
            client.send(packet[10:])
            client.read_until("Z")
            assert [m.kind for m in client.ask(query("SELECT 1"))] == ["T", "D", "C", "Z"]
            client.send(msg("X"))
            assert client.wait_closed() == []

    slow()
    assert known(pgpool) == 0
    for count in (1, 2):  # he is not known while the backend of the one before is still being reset
        wait_until(lambda count=count: slow() or known(pgpool) >= count, "him to be known")


def test_nothing_is_left_for_the_next(watched, cluster: Cluster):
    """Settings, temporary tables, prepared statements and transactions of one do not reach the other."""
    pgpool = watched(backend_weight0=0)
    come_again(pgpool)
    for _ in range(4):
        with pgpool.connect(autocommit=True) as conn:
            assert conn.execute("SHOW work_mem").fetchone()[0] == "4MB"
            conn.execute("SET work_mem = '5MB'")
            assert conn.execute("SELECT current_setting('work_mem'), inet_server_port()").fetchone() == (
                "5MB", cluster.standby.port,
            )  # fmt: skip
            conn.execute("CREATE TEMP TABLE leftover (i int)")
            conn.execute("PREPARE mine AS SELECT 1")
            conn.execute("BEGIN")
            conn.execute("INSERT INTO leftover VALUES (1)")
        come_again(pgpool)


def test_prepared_copy_and_errors_in_known_sessions(watched):
    pgpool = watched()
    for round_ in range(4):
        with pgpool.connect(autocommit=True) as conn:
            for number in range(8):  # psycopg prepares from the sixth time on
                assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute("SELECT 1/0")
            conn.execute("CREATE TEMP TABLE c (i int)")
            with conn.cursor().copy("COPY c FROM STDIN") as copy:
                copy.write("1\n2\n")
            assert conn.execute("SELECT sum(i) FROM c").fetchone() == (3,), round_
        come_again(pgpool)


def test_links_that_died_are_replaced(watched, cluster: Cluster):
    pgpool = watched(backend_weight0=0)
    come_again(pgpool)
    for server in cluster.nodes:
        ours = "datname = 'app' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        wait_until(lambda server=server, ours=ours: not server.backends(ours), "the backends to end")
        assert come_again(pgpool) == {cluster.standby.port}


def test_a_node_that_is_detached_is_not_used(watched, cluster: Cluster):
    pgpool = watched(backend_weight0=0)
    assert come_again(pgpool) == {cluster.standby.port}
    assert pcp.ours(pgpool, "pcp_detach_node", "1")[0] == 0
    wait_until(lambda: pgpool.show("pool_nodes")[1]["status"] == "down", "node 1 to be down")
    assert [read(pgpool) for _ in range(3)] == [cluster.primary.port] * 3


def test_a_rule_that_changes_counts_at_once(watched):
    pgpool = watched(enable_pool_hba=True)
    come_again(pgpool)
    (pgpool.place / "pool_hba.conf").write_text("host all all all reject\n")
    pgpool.reload()

    def refused() -> bool:
        try:
            read(pgpool)
        except psycopg.OperationalError:
            return True
        return False

    wait_until(refused, "the new rule", 5)
    assert all(refused() for _ in range(3))


def test_a_rule_that_changes_during_his_session_counts_for_the_next(watched):
    """The reload reaches the session; that it ends well makes nobody known under the old rule."""
    pgpool = watched(enable_pool_hba=True, num_init_children=1)
    read(pgpool)
    with pgpool.connect() as conn:
        (pgpool.place / "pool_hba.conf").write_text("host all all all reject\n")
        pgpool.write_conf(client_idle_limit_in_recovery=77)
        pgpool.reload()
        sql = "PGPOOL SHOW client_idle_limit_in_recovery"
        wait_until(lambda: conn.execute(sql).fetchone()[0] == "77s", "the reload")
    with pytest.raises(psycopg.OperationalError, match=r"no pool_hba\.conf entry"):
        read(pgpool)


def test_who_was_asked_for_a_password_is_asked_again(watched):
    hba = "host all all all scram-sha-256\n"
    pgpool = watched(enable_pool_hba=True)
    (pgpool.place / "pool_hba.conf").write_text(hba)
    (pgpool.place / "pool_passwd").write_text("postgres:TEXTsecret\n")
    pgpool.reload()
    wait_until(lambda: wrong(pgpool), "the new rule", 5)
    before = known(pgpool)
    for _ in range(3):
        assert read(pgpool, password="secret")
        assert wrong(pgpool)
    assert known(pgpool) == before


def wrong(pgpool) -> bool:
    try:
        read(pgpool, password="not it")
    except psycopg.OperationalError as error:
        return "authentication failed" in str(error)
    return False


def test_another_application_name_is_another_client(watched):
    pgpool = watched()
    for name in ("one", "two", "one", "one", "two", "two", "one"):
        assert read(pgpool, "SHOW application_name", application_name=name) == name


def test_every_connection_is_logged_when_asked_for(watched):
    pgpool = watched(log_connections=True, log_disconnections=True)
    for _ in range(4):
        read(pgpool)
    wait_until(lambda: pgpool.log_text().count("frontend disconnection: session time") >= 4, "four farewells")
    assert known(pgpool) == 0


def test_a_known_client_that_vanishes(watched):
    pgpool = watched()
    come_again(pgpool)
    for _ in range(3):
        client = RawClient.login(pgpool)
        client.ask(query("BEGIN; CREATE TEMP TABLE v (i int)"))
        client.vanish()
        assert read(pgpool, "SELECT to_regclass('pg_temp.v') IS NULL")


def test_a_cancel_reaches_a_known_session(watched):
    pgpool = watched()
    come_again(pgpool)
    with pgpool.connect() as conn:
        # one child: the cancel request would wait for it, so it goes to the server itself, with the key told by us
        errors = []

        def sleep() -> None:
            try:
                conn.execute("SELECT pg_sleep(60)")
            except psycopg.errors.QueryCanceled as error:
                errors.append(error.sqlstate)

        thread = threading.Thread(target=sleep)
        thread.start()
        server = pgpool.nodes[0]
        pid = conn.info.backend_pid
        wait_until(lambda: server.busy(f"pid = {pid}"), "the query to run")
        server.execute(f"SELECT pg_cancel_backend({pid})")
        thread.join(30)
        assert errors == ["57014"]
        conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_reloads_while_they_come_and_go(watched, tmp_path):
    """pgbench with a connection per transaction, and a reload every tenth of a second: nobody is lost."""
    pgpool = watched(num_init_children=4)
    script = tmp_path / "script"
    script.write_text("SELECT 1;\n")
    where = ["-h", pgpool.host, "-p", str(pgpool.port)]
    argv = [pg_bin() / "pgbench", "-n", "-f", script, "-C", "-c", "3", "-t", "300", *where]
    run = subprocess.Popen([*argv, "-U", "postgres", "app"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reloads = 0
    while run.poll() is None:
        pgpool.reload()
        reloads += 1
        time.sleep(0.1)
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert "number of transactions actually processed: 900/900" in out
    assert known(pgpool) > 0 and reloads
