"""No secret in a log, a report, a process title or the environment of a process."""

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support.pgpool import Pgpool
from tests.support.places import wait_until

pytestmark = pytest.mark.needs_pgpool

METHODS = {"clear": "password", "hashed": "md5", "scrammed": "scram-sha-256"}


def test_no_secret_anywhere(make_pgpool, cluster):
    with cluster.primary.connect("postgres") as conn:
        for name in METHODS:
            conn.execute(f"DROP ROLE IF EXISTS secret_{name}")
            conn.execute(f"CREATE ROLE secret_{name} LOGIN")
    cluster.wait_for_catchup()
    pgpool = make_pgpool(
        {
            "enable_pool_hba": True, "pool_passwd": "pool_passwd", "log_min_messages": "debug5",
            "log_error_verbosity": "verbose", "log_connections": True, "log_client_messages": True, "log_statement": True,
            "sr_check_password": "S3CRET_sr", "health_check_password": "S3CRET_health", "num_init_children": 2,
            "wd_authkey": "S3CRET_wd", "wd_lifecheck_password": "S3CRET_life", "health_check_period": 1,
        },
        files={
            "pool_hba.conf": "".join(f"host all secret_{n} all {m}\n" for n, m in METHODS.items())
            + "host all all all trust\n",
            "pool_passwd": "".join(f"secret_{n}:TEXTS3CRET_{n}\n" for n in METHODS),
        },
    )  # fmt: skip
    for name in METHODS:
        with pgpool.connect(user=f"secret_{name}", password=f"S3CRET_{name}") as conn:
            conn.execute("SELECT 1")
        with contextlib.suppress(psycopg.OperationalError):
            pgpool.connect(user=f"secret_{name}", password="S3CRET_wrong").close()
            raise AssertionError("a wrong password lets nobody in")
    with pgpool.connect() as conn:
        rows = conn.pgconn.exec_(b"SHOW pool_status"), conn.pgconn.exec_(b"PGPOOL SHOW ALL")
        shown = [r.get_value(i, c) or b"" for r in rows for i in range(r.ntuples) for c in range(r.nfields)]
        assert len(shown) > 300 and not [value for value in shown if b"S3CRET" in value]
        for name in ("sr_check_password", "health_check_password", "wd_authkey", "wd_lifecheck_password"):
            one = conn.pgconn.exec_(f"PGPOOL SHOW {name}".encode())
            assert b"S3CRET" not in (one.get_value(0, 0) or b"") if one.ntuples else one.error_message
        environs = [psutil.Process(pgpool.process.pid), *pgpool.family()]
        for process in environs:
            text = " ".join(process.cmdline()) + repr(process.environ())
            assert "S3CRET" not in text, process
    good = pgpool.conf.read_text()
    for line in ("sr_check_password = \"S3CRET_new\"", "health_check_password S3CRET_x y", "wd_authkey = 'S3CRET_open",
                 "sr_check_password = S3CRET!", "pool_passwdd='S3CRET' S3CRET"):  # fmt: skip
        mark = pgpool.mark()
        pgpool.conf.write_text(good + line + "\n")
        pgpool.reload()
        pgpool.wait_for_log("the configuration was not reloaded", mark)
    assert "S3CRET" not in pgpool.log_text()
    with cluster.primary.connect("postgres") as conn:
        for name in METHODS:
            conn.execute(f"DROP ROLE secret_{name}")


def test_what_clients_say_in_secret(make_pgpool):
    """Passwords in statements, in start-up options, in PGPOOL SET: with all logging on, no report or title has them."""
    pgpool = make_pgpool(
        {
            "log_min_messages": "debug5", "log_error_verbosity": "verbose", "log_connections": True, "log_statement": True,
            "log_disconnections": True, "log_client_messages": True, "log_per_node_statement": True,
            "log_backend_messages": "verbose", "num_init_children": 3,
        }
    )  # fmt: skip
    own = (
        "PGPOOL SET sr_check_password TO 'S3CRET_set'", "PGPOOL SET health_check_password0 = S3CRET_word",
        "PGPOOL SET wd_authkey TO 'S3CRET_key'",
    )  # fmt: skip
    sql = (
        "ALTER ROLE nobody_at_all PASSWORD 'S3CRET_role'", "CREATE ROLE postgres PASSWORD 'S3CRET_create'",
        "SELECT 1 WHERE 'a' = 'b' /* password = 'S3CRET_comment' */",
    )  # fmt: skip
    with pgpool.connect(options="-c app.password=S3CRET_option -c app.b=S3CRET_b") as conn, pgpool.connect() as other:
        assert conn.execute("SHOW app.password").fetchone() == ("S3CRET_option",)
        for text in (*own, *sql):
            with contextlib.suppress(psycopg.Error):
                conn.execute(text)
                assert text == sql[-1], "the others are refused"
            titles = [" ".join(process.cmdline()) for process in pgpool.family()]
            assert "S3CRET" not in " ".join(titles)
            shown = [row for word in ("pool_pools", "pool_processes") for row in pgpool.show(word)]
            assert "S3CRET" not in repr(shown)
        assert any("PASSWORD '*****'" in row["statement"] or "password = '*****'" in row["statement"]
                   for row in pgpool.show("pool_pools"))  # fmt: skip
        with contextlib.suppress(psycopg.Error):
            other.execute("ALTER ROLE nobody_at_all PASSWORD 'S3CRET_extended'", prepare=True)
        assert conn.execute("SELECT %s::text", ("S3CRET_parameter",)).fetchone() == ("S3CRET_parameter",)
    pgpool.wait_for_log("frontend disconnection.*\n(?s:.*)frontend disconnection")
    text = pgpool.log_text()
    assert text.count("PASSWORD '*****'") >= 4 and "PGPOOL SET sr_check_password TO *****" in text
    assert "S3CRET" not in text, [line for line in text.splitlines() if "S3CRET" in line]


@pytest.mark.parametrize("protected", [False, True], ids=["plain", "protected"])
def test_core_files(make_pgpool, protected):
    """protect_memory: no core file of a process that may write one; without it there is one, or this would prove nothing."""
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("core files do not go to the working directory here")
    pgpool = make_pgpool({"protect_memory": protected, "num_init_children": 1})
    with pgpool.connect() as conn:
        victim = pgpool.child_of(conn)
        try:
            victim.rlimit(psutil.RLIMIT_CORE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        except psutil.AccessDenied:
            pytest.skip("the limit of core files cannot be raised here")
        mark = pgpool.mark()
        place = Path(victim.cwd())
        assert place == pgpool.place
        victim.send_signal(signal.SIGABRT)
        pgpool.wait_for_log(rf"with pid: {victim.pid} was terminated", mark)
    assert bool(list(place.glob("core*"))) is not protected


def test_a_client_that_hangs_up_is_no_error(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1, "log_min_messages": "info"})
    mark = pgpool.mark()
    for _ in range(3):
        conn = pgpool.connect()
        conn.execute("SELECT 1")
        with socket.socket(fileno=conn.fileno()) as sock:
            sock.shutdown(socket.SHUT_RDWR)
            sock.detach()
        conn.close()
    with pgpool.connect() as conn:
        conn.execute("SELECT 1")
    text = pgpool.log_since(mark)
    assert "ERROR" not in text and "WARNING" not in text, text


def test_as_process_one_it_reaps_orphans_and_stops(make_pgpool, monkeypatch):
    space = ["unshare", "-p", "-f", "--kill-child"]
    try:
        allowed = subprocess.run([*space, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no process namespaces for us here")
    plain = Pgpool.command.fget
    monkeypatch.setattr(Pgpool, "command", property(lambda self: [*space, *plain(self)]))
    pgpool = make_pgpool({"num_init_children": 2})
    [first] = psutil.Process(pgpool.process.pid).children()
    assert (pgpool.place / "pgpool.pid").read_bytes() == b"1\0"
    orphan = ["nsenter", "-t", str(first.pid), "-p", "sh", "-c", "sleep 0.05 & sleep 0.05 &"]
    pgpool.wait_for_log("successfully started")  # all its processes are there
    before = len(first.children())
    for _ in range(5):
        subprocess.run(orphan, check=True)
    wait_until(
        lambda: len(first.children()) == before
        and not any(child.status() == psutil.STATUS_ZOMBIE for child in first.children()),
        "the orphans to be reaped",
    )  # fmt: skip
    first.terminate()
    assert pgpool.process.wait(30) == 0
