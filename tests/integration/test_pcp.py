"""PCP: reports, nodes going and coming, stop and reload, hostile clients; online recovery with the extension."""

import contextlib
import itertools
import socket
import threading

import pytest

from pgpool.errors import PgpoolError
from pgpool.pcp.client import Broken, Client, CommandRefused, LoginRefused
from pgpool.wire import pcp as wire
from pgpool.wire.messages import message
from tests.support.pcp import client, ours
from tests.support.places import pg_bin, run, server_user, wait_until

pytestmark = pytest.mark.needs_pgpool


def test_reports_tell_what_show_tells(pgpool):
    with pgpool.connect() as conn, client(pgpool) as admin:
        conn.execute("SELECT 1")
        nodes = pgpool.show("pool_nodes")
        assert admin.node_count() == len(nodes)
        for info, shown in zip(admin.node_info(), nodes, strict=True):
            assert (info.hostname, str(info.port), info.pg_role) == (shown["hostname"], shown["port"], shown["pg_role"])
            assert f"{info.weight:.6f}" == shown["lb_weight"]
        pids = admin.process_pids()
        assert {row["pool_pid"] for row in pgpool.show("pool_processes")} == {str(pid) for pid in pids}
        mine = [row for row in admin.process_info() if row.get("pool_connected") == "1"]
        assert str(conn.info.backend_pid) in {row.get("pool_backendpid") for row in mine}
        assert len(admin.process_info(pids[0])) == 2 * len(nodes)
        assert {n: v for n, v, _ in admin.pool_status()}["port"] == str(pgpool.port)
        assert len(admin.health_check_stats(1)) == 20


def test_a_refusal_leaves_the_connection_usable(pgpool):
    with client(pgpool) as admin:
        for ask in (
            lambda: admin.node_info(7),
            lambda: admin.health_check_stats(9),
            lambda: admin.process_info(1),
            lambda: admin.watchdog_info(),
            lambda: admin.attach(9),
            lambda: admin.detach(9),
            lambda: admin.recover(0),
            lambda: admin.recover(1),
            lambda: admin.invalidate_query_cache(),
            lambda: admin.rotate_log(),
            lambda: admin.set_parameter("port", "1"),
        ):
            with pytest.raises(CommandRefused):
                ask()
        admin.set_parameter("client_min_messages", "error")
        assert admin.node_count() == 2


def test_the_unix_socket_and_the_older_generation(make_pgpool):
    made = make_pgpool({"pcp_protocol_version": "4.3", "pcp_listen_addresses": ""})
    with Client(str(made.place), made.pcp_port, timeout=30) as admin:
        admin.login("postgres", "postgres")
        assert admin.process_info()[0].get("statement") is None
        assert [node.port for node in admin.node_info()] == [node.port for node in made.nodes]


def test_detach_attach_reload_stop(make_pgpool):
    """Without a client slot free, and seen by sessions at once."""
    made = make_pgpool({"num_init_children": 2, "delay_threshold": 7})

    def states() -> list[int]:
        with client(made) as admin:
            return [info.status for info in admin.node_info()]

    with made.connect(), made.connect():
        assert ours(made, "pcp_detach_node", "1") == (0, "pcp_detach_node -- Command Successful\n", "")
        wait_until(lambda: states()[1] == 3, "node 1 to be down")
        code, out, err = ours(made, "pcp_detach_node", "1")
        assert (code, out) == (0, "") and "status: [3] is not valid for failover" in err
        assert ours(made, "pcp_attach_node", "-n", "1")[1]
        wait_until(lambda: states()[1] != 3, "node 1 to be back")
    made.write_conf(delay_threshold=8)
    with client(made) as admin:
        admin.reload_config()
        wait_until(lambda: ("delay_threshold", "8") in [row[:2] for row in admin.pool_status()], "the reload to be seen")
    assert ours(made, "pcp_stop_pgpool", "-m", "fast")[0] == 0
    assert made.process.wait(30) == 0


@pytest.mark.parametrize("mode", ["smart", "fast"])
def test_an_idle_client_holds_no_shutdown_up(make_pgpool, mode):
    """And a PCP process that was killed is replaced; its clients end with it."""
    made = make_pgpool({"num_init_children": 1})
    [main] = [p for p in made.family() if "PCP: wait" in " ".join(p.cmdline())]
    with client(made) as before:
        assert before.node_count() == 2
        main.kill()
        wait_until(lambda: not main.is_running() or main.status() == "zombie", "the PCP process to end")

        def served() -> bool:
            try:
                with client(made) as admin:
                    return admin.node_count() == 2
            except PgpoolError:
                return False

        wait_until(served, "another PCP process")
        with pytest.raises(Broken):
            before.node_count()
    with client(made) as idle:
        assert idle.node_count() == 2
        assert made.stop(mode) == 0


# -- hostile clients --------------------------------------------------------------------------------------------------


HOSTS = itertools.count(2)


def talk(pgpool, data: bytes) -> bytes:
    """Send bytes, read until the server hangs up. Each time from another address: failed logins make a host slow."""
    source = (f"127.0.0.{next(HOSTS)}", 0)
    with socket.create_connection((pgpool.host, pgpool.pcp_port), 30, source) as sock:
        sock.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(4096):
                got += chunk
        return got


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"I\0\0\0\x07-1\0", b"connection not authorized"),
        (b"T\0\0\0\x05f", b"connection not authorized"),
        (b"X\0\0\0\x04", b"connection not authorized"),
        (b"M\0\0\0\0", b"incorrect packet length (0)"),
        (b"M\xff\xff\xff\xff", b"incorrect packet length (-1)"),
        (b"M\x7f\xff\xff\xff", b"incorrect packet length (2147483647)"),
        (b"R\0\0\x01\x04", b"incorrect packet length (260)"),
        (wire.login("postgres", "0" * 32), b"username and/or password does not match"),
        (message(b"M") + message(b"R", b"postgres"), b"invalid PCP packet"),
        (message(b"M") + message(b"R", b"\0" * 40), b"invalid PCP packet"),
        (message(b"M") + message(b"R", b"joe\0" + b"0" * 32 + b"\0") + message(b"L"), b'failed for user "joe"'),
    ],
)
def test_nobody_comes_in_by_odd_bytes(make_hostile, data, text):
    got = talk(make_hostile, data)
    assert text in got and b"CommandComplete" not in got and b"AuthenticationOK" not in got


@pytest.fixture(scope="module")
def make_hostile(shared):
    """A pgpool that only these clients talk to."""
    return shared(pcp_protocol_version="4.3", num_init_children=2)


def test_many_silent_connections_are_bounded_and_end(make_hostile):
    """1000 connections that say nothing cost at most 20 processes, and keep nobody out."""
    idle = []
    try:
        for _ in range(1000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((make_hostile.host, make_hostile.pcp_port))
            idle.append(sock)
        workers = [p for p in make_hostile.family() if "PCP: processing" in " ".join(p.cmdline())]
        assert len(workers) <= 20
        with make_hostile.connect() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        with client(make_hostile) as admin:
            assert admin.node_count() == 2
    finally:
        for sock in idle:
            sock.close()


def test_idle_clients_make_room(make_hostile):
    """20 that are logged in and say nothing: the one that is silent longest goes when another comes."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(client(make_hostile)) for _ in range(20)]
        for admin in idle[1:]:
            assert admin.node_count() == 2
        with client(make_hostile) as another:
            assert another.node_count() == 2
            with pytest.raises((CommandRefused, Broken), match=r"terminating PCP connection|socket"):
                idle[0].node_count()
            assert all(admin.node_count() == 2 for admin in idle[1:])


def test_a_wrong_password_is_refused(make_hostile):
    with Client(make_hostile.host, make_hostile.pcp_port, timeout=30) as admin, pytest.raises(LoginRefused):
        admin.login("postgres", "wrong")


# -- online recovery --------------------------------------------------------------------------------------------------

COPY = """#!/bin/sh
exec >>"{log}" 2>&1
test -e "{fail}" && {{ echo "told to fail"; exit 1; }}
cp "$3/tests.conf" "{saved}"
find "$3" -mindepth 1 -delete
"{bin}/pg_basebackup" -D "$3" -R -X stream -c fast \
    -d "host=$7 port=$4 user=postgres application_name=server$5" || exit 1
cp "{saved}" "$3/tests.conf"
"""
START = """#!/bin/sh
"{bin}/pg_ctl" -w -s -D "$2" -l "{log}" start </dev/null >>"{log}" 2>&1
"""


@pytest.fixture
def recoverable(own_cluster, make_pgpool):
    """A cluster whose primary has the extension and scripts, and a pgpool before it: (pgpool, cluster, file of failure)."""
    primary, standby = own_cluster.nodes
    if not primary.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgpool_recovery'"):
        pytest.skip("the extension pgpool_recovery is not installed")
    primary.execute("CREATE EXTENSION pgpool_recovery", "postgres")
    names = {
        "bin": pg_bin(),
        "log": standby.place / "recovery.log",
        "fail": primary.place / "fail",
        "saved": standby.place / "saved",
    }
    run(["chmod", "777", standby.place], user=server_user())
    for name, text in (("copy.sh", COPY), ("pgpool_remote_start", START)):
        script = primary.data / name
        script.write_text(text.format(**names))
        script.chmod(0o755)
    settings = {"recovery_user": "postgres", "recovery_1st_stage_command": "copy.sh", "recovery_timeout": 60}
    made = make_pgpool(settings, nodes=own_cluster.nodes)
    try:
        yield made, own_cluster, names["fail"]
    finally:
        if (standby.data / "postmaster.pid").exists():
            run([pg_bin() / "pg_ctl", "-D", standby.data, "-m", "immediate", "-w", "stop"], user=server_user())


@pytest.mark.long
def test_detach_stop_recover_attached(recoverable):
    made, cluster, fail = recoverable
    primary, standby = cluster.nodes
    with client(made) as admin:
        with pytest.raises(CommandRefused, match="node id: 1 is alive"):
            admin.recover(1)
        admin.detach(1)
        wait_until(lambda: admin.node_info(1)[0].status == 3, "node 1 to be down")
    standby.stop()
    primary.execute("CREATE TABLE later (n int)")
    fail.touch()
    code, out, err = ours(made, "pcp_recovery_node", "-n", "1")
    assert (code, out) == (0, "")
    assert "node recovery failed, node id: 1" in err and "step 3 of 6" in err and "server log of node 0" in err
    with client(made) as admin:
        assert admin.node_info(1)[0].status == 3
    fail.unlink()
    told = recover_twice(made)
    assert any("step 6 of 6" in text for text in told)
    with client(made) as admin:
        wait_until(lambda: admin.node_info(1)[0].status in (1, 2), "node 1 to be attached")
    wait_until(lambda: "server1" in cluster.streaming(), "the new standby to stream")
    assert standby.value("SELECT count(*) FROM later") == 0 and standby.in_recovery()


@pytest.mark.long
def test_recovery_without_the_extension(own_cluster, make_pgpool):
    """A standby that went its own way is copied anew, and, when it did so again, rewound; its configuration stays."""
    primary, standby = own_cluster.nodes
    for node in own_cluster.nodes:
        node.configure(wal_log_hints="on", full_page_writes="on", wal_keep_size="256MB")
        node.restart()
    made = make_pgpool({"recovery_user": "postgres", "recovery_method": "pg_basebackup"}, nodes=own_cluster.nodes)
    pg_ctl = [pg_bin() / "pg_ctl", "-D", standby.data, "-m", "fast", "-w"]
    try:
        for number, method in enumerate(("pg_basebackup", "pg_rewind")):
            made.write_conf(recovery_method=method, delay_threshold=number + 1)
            with client(made) as admin:
                admin.reload_config()
                seen = ("delay_threshold", str(number + 1))
                wait_until(lambda s=seen, a=admin: s in [row[:2] for row in a.pool_status()], "the reload to be seen")
                admin.detach(1)
                wait_until(lambda a=admin: a.node_info(1)[0].status == 3, "node 1 to be down")
                standby.promote()
                standby.execute(f"CREATE TABLE astray{number} (n int)")
                run([*pg_ctl, "stop"], user=server_user())
                primary.execute(f"CREATE TABLE later{number} (n int)")
                code, out, err = ours(made, "pcp_recovery_node", "-v", "-n", "1")
                assert (code, out) == (0, "pcp_recovery_node -- Command Successful\n"), err + recovery_log(made)
                wait_until(lambda a=admin: a.node_info(1)[0].status in (1, 2), "node 1 to be attached")
            wait_until(lambda: "server1" in own_cluster.streaming(), "the new standby to stream")
            tables = standby.execute("SELECT relname FROM pg_class WHERE relname ~ '^(astray|later)' ORDER BY 1")
            assert tables == [(f"later{n}",) for n in range(number + 1)]
    finally:
        if (standby.data / "postmaster.pid").exists():
            run([*pg_ctl, "stop"], user=server_user())


def recovery_log(made) -> str:
    path = made.place / "recovery_node1.log"
    return path.read_text() if path.exists() else ""


def recover_twice(made) -> list[str]:
    """Recover node 1, and ask for it once more meanwhile: that is refused. The notices of the first."""
    told: list[str] = []
    begun, results = threading.Event(), []

    def heard(report) -> None:
        told.append(report.message)
        begun.set()

    def first() -> None:
        with Client(made.host, made.pcp_port, timeout=120, notice=heard) as admin:
            admin.login("postgres", "postgres")
            admin.recover(1)
            results.append("done")

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert begun.wait(60)
        with client(made) as admin, pytest.raises(CommandRefused, match="already processing another recovery"):
            admin.recover(1)
    finally:
        thread.join(120)
    assert results == ["done"], told
    return told
