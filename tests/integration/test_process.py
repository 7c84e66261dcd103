"""Parent and children as processes: birth, death, shutdown, reload, the files they keep."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import psutil
import psycopg
import pytest

from tests.support.pgpool import Pgpool
from tests.support.places import free_port, wait_until

pytestmark = [pytest.mark.needs_pgpool]

STARTED = "pgpool-II successfully started"


@pytest.fixture
def make_pgpool(make_pgpool):
    """The common one; what it starts has forked all its processes."""

    def make(*args, **kw) -> Pgpool:
        pgpool = make_pgpool(*args, **kw)
        if pgpool.process is not None:
            pgpool.wait_for_log(STARTED)
        return pgpool

    return make


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def children(pgpool: Pgpool) -> list[psutil.Process]:
    """The processes that serve clients, idle or not."""
    found = []
    for process in pgpool.family():
        try:
            title = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        others = ("worker process", "check process", "PCP: ")
        if title.startswith("pgpool: ") and not any(other in title for other in others):
            found.append(process)
    return found


def titles(pgpool: Pgpool) -> list[str]:
    found = []
    for process in pgpool.family():
        try:
            found.append(" ".join(process.cmdline()).strip())
        except psutil.NoSuchProcess:  # gone meanwhile, or not waited for yet
            continue
    return sorted(found)


def refused(pgpool: Pgpool) -> bool:
    try:
        socket.create_connection((pgpool.host, pgpool.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


# -- what runs -------------------------------------------------------------------------------------------------------


def test_processes_and_their_titles(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 3})
    assert titles(pgpool) == [
        "pgpool: PCP: wait for connection request",
        "pgpool: health check process(0)",
        "pgpool: health check process(1)",
        *["pgpool: wait for connection request"] * 3,
        "pgpool: worker process",
    ]


def test_log_of_a_start(make_pgpool):
    pgpool = make_pgpool({"listen_addresses": "*", "log_line_prefix": ""})
    pgpool.wait_for_log(r"node status\[1\]")
    lines = pgpool.log_text().splitlines()
    expected = [
        f"LOG:  Setting up socket for {pgpool.place}/.s.PGSQL.{pgpool.port}",
        f"LOG:  Setting up socket for 0.0.0.0:{pgpool.port}",
        f"LOG:  Backend status file {pgpool.place}/pgpool_status does not exist",
        "LOG:  find_primary_node_repeatedly: waiting for finding a primary node",
        "LOG:  find_primary_node: checking backend no 0",
        "LOG:  find_primary_node: checking backend no 1",
        "LOG:  find_primary_node: standby node is 1",
        "LOG:  find_primary_node: primary node id is 0",
    ]
    assert [line for line in lines if line in expected] == expected
    assert "LOG:  node status[0]: 1" in lines
    assert "LOG:  node status[1]: 2" in lines


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "unix"])
def test_every_door_is_open(make_pgpool, host):
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    pgpool = make_pgpool({"listen_addresses": "*", "unix_socket_permissions": "0770"})
    address = str(pgpool.place) if host == "unix" else host
    try:
        with psycopg.connect(pgpool.dsn("postgres"), host=address) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError as err:
        if host == "::1" and "Cannot assign" in str(err):
            pytest.skip("no IPv6 here")
        raise
    mode = os.stat(pgpool.place / f".s.PGSQL.{pgpool.port}").st_mode
    assert mode & 0o777 == 0o770


def test_backlog(make_pgpool):
    """num_init_children * listen_backlog_multiplier clients wait in the queue; the kernel shows the length."""
    if shutil.which("ss") is None:
        pytest.skip("needs ss (iproute2)")
    pgpool = make_pgpool({"num_init_children": 3, "listen_backlog_multiplier": 7})
    out = subprocess.run(["ss", "-Hltn", f"sport = :{pgpool.port}"], capture_output=True, text=True, check=True)
    assert out.stdout.split()[2] == "21"


# -- death and birth -------------------------------------------------------------------------------------------------


def test_a_killed_child_is_replaced_and_its_cells_are_cleaned(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 2})
    with pgpool.connect("postgres") as conn:
        victim = pgpool.child_of(conn)
        mark = pgpool.mark()
        victim.kill()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    pgpool.wait_for_log(rf"WARNING:  child process with pid: {victim.pid} was terminated by sigkill", mark)
    pgpool.wait_for_log(r"LOG:  fork a new child process with pid: \d+", mark)
    wait_until(lambda: len(children(pgpool)) == 2, "two children")
    with pgpool.connect("postgres") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        rows = pgpool.show("pool_processes")
    assert str(victim.pid) not in [row["pool_pid"] for row in rows]
    others = [row for row in pgpool.show("pool_pools") if row["pool_connected"] == "1"]
    assert {row["pool_pid"] for row in others} <= {str(p.pid) for p in children(pgpool)}


def test_every_worker_is_replaced(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 2})
    # each process names itself a moment after it was forked
    wait_until(lambda: all(title.startswith("pgpool: ") for title in titles(pgpool)), "all titles")
    before = titles(pgpool)
    assert before.count("pgpool: wait for connection request") == 2
    for process in pgpool.family():
        process.kill()
    wait_until(lambda: titles(pgpool) == before, "everybody to be back")
    wait_until(pgpool._ready, "service")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_child_told_to_end_exits_with_0_and_is_not_replaced(make_pgpool, signum):
    pgpool = make_pgpool({"num_init_children": 3})
    [victim, *_] = children(pgpool)
    mark = pgpool.mark()
    victim.send_signal(signum)
    pgpool.wait_for_log(rf"child process with pid: {victim.pid} exited with success and will not be restarted", mark)
    time.sleep(0.2)
    assert len(children(pgpool)) == 2


def test_nobody_serves_when_the_parent_was_killed(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 3, "health_check_period": 1})
    conn = pgpool.connect("postgres")
    conn.execute("SELECT 1")
    family = pgpool.family()
    assert len(family) >= 5
    pgpool.kill()
    wait_until(lambda: not any(alive(p) for p in family), "all processes to end", 10)
    assert refused(pgpool)
    with pytest.raises(psycopg.OperationalError):
        conn.execute("SELECT 1")
    conn.close()
    pgpool.start()  # the pid file and the unix socket that were left do not hinder
    assert "NOTICE: pid file found but it seems bogus" in pgpool.log_text()


ODD_CHILD = """
import sys
from pgpool.roles import child
def live(self, index):
    {body}
child.Child.live = live
from pgpool.cli.pgpool import main
sys.exit(main(sys.argv[1:]))
"""


class OddPgpool(Pgpool):
    """Ours, with a child that does only what the test says."""

    body = "return 1"

    @property
    def command(self) -> list[str]:
        program = [sys.executable, "-c", ODD_CHILD.format(body=self.body)]
        return [*program, *super().command[3:]]


@pytest.fixture
def odd(cluster):
    made: list[OddPgpool] = []

    def make(body: str, **settings) -> OddPgpool:
        pgpool = OddPgpool(cluster.nodes, {"num_init_children": 4, **settings})
        pgpool.body = body
        made.append(pgpool)
        return pgpool.start(wait=False)

    yield make
    for pgpool in made:
        pgpool.remove()


def test_children_that_die_of_their_start_do_not_eat_the_machine(odd):
    pgpool = odd("return 1")
    pgpool.wait_for_log("child processes keep ending right after their start: the next ones are forked in 1 s")
    pgpool.wait_for_log("the next ones are forked in 2 s")
    time.sleep(1)
    births = len(re.findall("fork a new child process", pgpool.log_text()))
    assert births < 40, "it would be hundreds"
    assert pgpool.process is not None
    spent = psutil.Process(pgpool.process.pid).cpu_times()
    before = spent.user + spent.system
    time.sleep(0.5)
    spent = psutil.Process(pgpool.process.pid).cpu_times()
    assert spent.user + spent.system - before < 0.1
    assert pgpool.stop("fast") == 0


def test_exit_code_3_stops_everything(odd):
    pgpool = odd("return 3 if index == 2 else __import__('time').sleep(60)")
    assert pgpool.process is not None
    assert pgpool.process.wait(20) == 3
    assert "FATAL:  a process asked to stop everything" in pgpool.log_text()
    assert not (pgpool.place / "pgpool.pid").exists()


def test_a_child_that_does_not_end_is_killed(odd):
    """It has not even let signals in: fast shutdown takes its patience and then kills."""
    pgpool = odd("__import__('time').sleep(600)")
    pgpool.wait_for_log(STARTED)
    began = time.monotonic()
    assert pgpool.stop("immediate", timeout=30) == 0
    assert 3 < time.monotonic() - began < 15
    assert "did not end when told to, killing it" in pgpool.log_text()


# -- shutdown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_shutdown_without_clients(make_pgpool, mode):
    pgpool = make_pgpool()
    pgpool.family()
    began = time.monotonic()
    assert pgpool.stop(mode) == 0
    assert time.monotonic() - began < 5
    assert not (pgpool.place / "pgpool.pid").exists()
    assert not (pgpool.place / f".s.PGSQL.{pgpool.port}").exists()
    assert refused(pgpool)
    assert "Pgpool-II system is shutdown" in pgpool.log_text()


def test_smart_shutdown_waits_for_the_session_and_takes_no_new_one(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 2})
    conn = pgpool.connect("postgres")
    conn.execute("SELECT 1")
    server = pgpool.child_of(conn)
    assert pgpool.process is not None
    pgpool.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refused(pgpool), "new clients to be refused")
    wait_until(lambda: [p.pid for p in children(pgpool)] == [server.pid], "idle children to end")
    assert conn.execute("SELECT 2").fetchone() == (2,)
    pgpool.process.send_signal(signal.SIGTERM)  # once more changes nothing
    time.sleep(0.3)
    assert conn.execute("SELECT 3").fetchone() == (3,)
    assert pgpool.process.poll() is None
    conn.close()
    assert pgpool.process.wait(10) == 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_fast_shutdown_ends_sessions(make_pgpool, mode):
    pgpool = make_pgpool()
    conn = pgpool.connect("postgres")
    conn.execute("BEGIN")
    began = time.monotonic()
    assert pgpool.stop(mode) == 0
    assert time.monotonic() - began < 5
    with pytest.raises(psycopg.OperationalError):
        conn.execute("SELECT 1")
    conn.close()


def test_a_smart_shutdown_becomes_a_fast_one(make_pgpool):
    pgpool = make_pgpool()
    conn = pgpool.connect("postgres")
    conn.execute("SELECT 1")
    assert pgpool.process is not None
    pgpool.process.send_signal(signal.SIGTERM)
    pgpool.wait_for_log("shutting down by signal 15")
    pgpool.process.send_signal(signal.SIGINT)
    assert pgpool.process.wait(10) == 0
    conn.close()


def test_shutdown_does_not_wait_for_a_silent_backend(make_pgpool, fault_proxy, postgres):
    """The parent asks a backend which takes the connection and says nothing."""
    proxy = fault_proxy(postgres)
    proxy.hold = True
    pgpool = make_pgpool({"connect_timeout": 60000}, nodes=[postgres], ports=[proxy.port], start=False)
    pgpool.start(wait=False)
    pgpool.wait_for_log("Setting up socket")
    time.sleep(0.5)
    began = time.monotonic()
    assert pgpool.stop("fast") == 0
    assert time.monotonic() - began < 2


# -- reload ----------------------------------------------------------------------------------------------------------


def test_reload(make_pgpool):
    pgpool = make_pgpool({"client_idle_limit": 0})
    before = [p.pid for p in pgpool.family()]
    mark = pgpool.mark()
    pgpool.write_conf(client_idle_limit=77, num_init_children=50)
    pgpool.reload()
    pgpool.wait_for_log("LOG:  reload config files.", mark)
    message = r'WARNING:  .*pgpool.conf:\d+: parameter "num_init_children" cannot be changed without restarting'
    pgpool.wait_for_log(message, mark)
    wait_until(lambda: "LOG:  reloading config file" in pgpool.log_since(mark), "workers to reload")
    with pgpool.connect("postgres") as conn:
        assert conn.execute("PGPOOL SHOW client_idle_limit").fetchone() == ("77s",)
    assert [p.pid for p in pgpool.family()] == before
    [victim, *_] = children(pgpool)
    victim.kill()
    wait_until(lambda: len(pgpool.family()) == len(before) and not alive(victim), "a new child")
    with pgpool.connect("postgres") as conn:
        assert conn.execute("PGPOOL SHOW client_idle_limit").fetchone() == ("77s",)


def test_reload_of_a_faulty_file_changes_nothing(make_pgpool):
    pgpool = make_pgpool({"client_idle_limit": 55})
    mark = pgpool.mark()
    good = pgpool.conf.read_text()
    pgpool.conf.write_text(good.replace("client_idle_limit = 55", "client_idle_limit = 66") + "max_pool = many\n?\n")
    pgpool.reload()
    pgpool.wait_for_log("the configuration was not reloaded, the old values stay in force", mark)
    lines = good.count("\n")
    assert re.search(rf"WARNING:  \S+pgpool.conf:{lines + 1}: ", pgpool.log_since(mark))
    assert re.search(rf"WARNING:  \S+pgpool.conf:{lines + 2}: ", pgpool.log_since(mark))
    with pgpool.connect("postgres") as conn:
        assert conn.execute("PGPOOL SHOW client_idle_limit").fetchone() == ("55s",)


def test_a_bare_sigusr1_does_nothing(make_pgpool):
    pgpool = make_pgpool()
    before = [p.pid for p in pgpool.family()]
    assert pgpool.process is not None
    pgpool.process.send_signal(signal.SIGUSR1)
    pgpool.process.send_signal(signal.SIGUSR2)
    time.sleep(0.3)
    assert pgpool._ready()
    assert [p.pid for p in pgpool.family()] == before


# -- the status file -------------------------------------------------------------------------------------------------


def status(pgpool: Pgpool) -> dict[str, str]:
    return {row["node_id"]: row["status"] for row in pgpool.show("pool_nodes")}


def prepare(make_pgpool, content: bytes, options: tuple[str, ...] = (), **settings) -> Pgpool:
    pgpool = make_pgpool({"num_init_children": 2, **settings}, start=False, options=options)
    (pgpool.place / "pgpool_status").write_bytes(content)
    os.chmod(pgpool.place / "pgpool_status", 0o666)
    pgpool.start()
    pgpool.wait_for_log(STARTED)
    return pgpool


def test_a_node_stored_down_stays_down(make_pgpool):
    pgpool = prepare(make_pgpool, b"up\ndown\n")
    assert "reading status file: 1 th backend is set to down status" in pgpool.log_text()
    assert status(pgpool)["1"] == "down"
    pgpool.stop()
    assert (pgpool.place / "pgpool_status").read_text() == "up\ndown\n"


def test_upper_case_and_nonsense_in_the_status_file(make_pgpool):
    pgpool = prepare(make_pgpool, b"UP\nDown\nwhat\n")
    assert status(pgpool)["1"] == "down"
    assert 'backend:2 status is invalid: "what"' in pgpool.log_text()


def test_old_binary_status_file(make_pgpool):
    pgpool = prepare(make_pgpool, struct.pack("=128i", 2, 3, *[0] * 126))
    assert status(pgpool)["1"] == "down"


def test_a_status_file_without_a_node_that_is_up_is_not_believed(make_pgpool):
    pgpool = prepare(make_pgpool, b"down\ndown\n")
    assert set(status(pgpool).values()) <= {"up", "waiting"}


def test_discarding_the_status_file(make_pgpool):
    pgpool = prepare(make_pgpool, b"up\ndown\n", ("-D",))
    assert f"Backend status file {pgpool.place}/pgpool_status discarded" in pgpool.log_text()
    assert status(pgpool)["1"] != "down"


def test_status_file_in_a_relative_work_dir(make_pgpool):
    pgpool = make_pgpool({"work_dir": "."})
    pgpool.stop()
    assert (pgpool.place / "pgpool_status").read_text() == "up\nup\n"


def test_an_unwritable_work_dir_is_told_and_survived(make_pgpool):
    pgpool = make_pgpool({"work_dir": "/nonexistent"})
    assert pgpool.stop() == 0
    assert "WARNING:  could not write status file" in pgpool.log_text()


def test_ports_do_not_matter_to_an_unused_slot(make_pgpool, cluster):
    """A gap in the numbering of the backends."""
    standby = cluster.nodes[1]
    settings = {"backend_hostname3": standby.host, "backend_port3": standby.port, "backend_weight3": 1}
    pgpool = make_pgpool(settings, nodes=cluster.nodes[:1])
    assert status(pgpool)["3"] in ("up", "waiting")
    pgpool.stop()
    assert (pgpool.place / "pgpool_status").read_text() == "up\nunused\nunused\nup\n"
    assert free_port()
