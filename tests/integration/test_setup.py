"""pgpool_setup on real servers: what it makes starts, serves, fails over and stops."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil
import psycopg
import pytest

from pgpool.cli.setup_find import find_owner, find_postgres
from pgpool.pcp.client import Client
from tests.support.places import as_user, free_port, pg_bin, python_env, short_dir, wait_until

PORTS = 8
"""How many ports in a row a cluster of these tests may take."""


@pytest.fixture
def place():
    """A directory for a cluster; whatever still runs there at the end is ended, and makes the test fail."""
    made = short_dir("pgs")
    yield made
    left = processes_of(made)
    for process in left:
        process.kill()
    subprocess.run(["rm", "-rf", made], check=True)
    assert not left, f"processes left behind: {left}"


@pytest.fixture(scope="session")
def environment(proxy_kind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of pgpool_setup. Where the package is not installed, a pgpool program is made for it."""
    env = {**python_env(), "PYTHONUNBUFFERED": "1"}
    for name in ("PGBIN", "PGLIB", "PGSOCKET_DIR", "INITDBARG", "USE_REPLICATION_SLOT", "USE_PG_REWIND"):
        env.pop(name, None)
    if pg_bin() != find_postgres()[0] and "PG_BIN" not in os.environ:
        env["PGBIN"] = str(pg_bin())  # the wheel's are where the servers' user may not look: a copy
    if proxy_kind == "debian":
        env["PGPOOL_INSTALL_DIR"] = "/usr"
    elif not Path(sysconfig.get_path("scripts"), "pgpool").exists():
        program = tmp_path_factory.mktemp("install") / "bin" / "pgpool"
        program.parent.mkdir()
        program.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(env['PYTHONPATH'])}\nexec {sys.executable} -m pgpool \"$@\"\n"
        )
        program.chmod(0o755)
        env["PGPOOL_INSTALL_DIR"] = str(program.parent.parent)
    elif "PGPOOL_INSTALL_DIR" in env:
        del env["PGPOOL_INSTALL_DIR"]
    return env


@pytest.fixture
def setup(environment: dict[str, str], place: Path, proxy_kind: str):
    """setup(argument...): run pgpool_setup in the place, return it ended; extra environment as keywords."""
    if proxy_kind == "direct":
        pytest.skip("needs a pgpool")

    def run(*arguments: object, **extra: str) -> subprocess.CompletedProcess:
        env = {**environment, **extra}
        return subprocess.run(
            setup_command(*arguments), cwd=place, env=env, capture_output=True, text=True, timeout=120
        )

    return run


def setup_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pgpool.cli.setup", *map(str, arguments)]


def port_range() -> int:
    """The first of PORTS free ports in a row."""
    while True:
        first = free_port()
        if not any(listens(port) for port in range(first, first + PORTS)):
            return first


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_of(place: Path) -> list[psutil.Process]:
    """Everything that runs with this place on its command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if any(str(place) in word for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def script(place: Path, name: str, *arguments: object, as_owner: bool = False) -> str:
    """Run one of the scripts that were made; returns what it printed."""
    user = find_owner().switch if as_owner else None
    argv = [str(place / name), *map(str, arguments)]
    output = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(argv, cwd="/", timeout=120, **output, **as_user(user or None))
    assert done.returncode == 0, f"{name}: {done.returncode}\n{done.stdout}\n{logs(place)}"
    return done.stdout


def logs(place: Path) -> str:
    return "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in sorted((place / "log").glob("*.log")))


def superuser() -> str:
    return find_owner().name


def ask(port: int, sql: str, user: str = "", database: str = "test") -> list[tuple]:
    with psycopg.connect(
        host="localhost", port=port, user=user or superuser(), dbname=database, connect_timeout=10, autocommit=True
    ) as conn:
        cursor = conn.execute(sql)
        return cursor.fetchall() if cursor.description else []


def roles(port: int, user: str = "") -> list[tuple[str, str, str]]:
    """Id, status and role of each node, as pgpool tells them. `waiting` (nobody used the node yet) counts as up."""
    with psycopg.connect(host="localhost", port=port, user=user or superuser(), dbname="test") as conn:
        result = conn.pgconn.exec_(b"SHOW pool_nodes")
        names = [result.fname(column) for column in range(result.nfields)]
        columns = [names.index(name) for name in (b"node_id", b"status", b"role")]
        rows = [[result.get_value(row, column).decode() for column in columns] for row in range(result.ntuples)]
    return [(node, "up" if status == "waiting" else status, role) for node, status, role in rows]


def closing_words(place: Path, port: int, words: str, nodes: int) -> str:
    servers = "".join(f"#{n + 1} port is {port + 2 + n}\n" for n in range(nodes))
    return (
        f"\npgpool-II setting for {words} mode is done.\n"
        f"To start the whole system, use {place}/startall.\n"
        f"To shutdown the whole system, use {place}/shutdownall.\n"
        f'pcp command user name is "{superuser()}", password is "{superuser()}".\n'
        "Each PostgreSQL, pgpool-II and pcp port is as follows:\n"
        f"{servers}pgpool port is {port}\npcp port is {port + 1}\n"
        "The info above is in README.port.\n"
    )


def test_streaming_mode(setup, place):
    port = port_range()
    made = setup("-m", "s", "-p", port)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.endswith(closing_words(place, port, "streaming replication", 2))
    assert "Starting set up in streaming replication mode" in made.stdout
    assert re.search(rf"^ 0 +\| localhost \| {port + 2} +\| (up|waiting) ", made.stdout, re.MULTILINE), made.stdout
    for name in ("startall", "shutdownall", "pgpool_reload", "bashrc.ports", "README.port", "pcppass", "data0", "data1",
                 "etc/pgpool.conf", "etc/pcp.conf", "etc/pool_passwd", "etc/failover.sh", "etc/follow_primary.sh",
                 "data0/basebackup.sh", "data0/pgpool_remote_start"):  # fmt: skip
        assert (place / name).exists(), name
    assert not processes_of(place), "everything is stopped at the end"

    script(place, "startall")
    assert roles(port) == [("0", "up", "primary"), ("1", "up", "standby")]
    ask(port, "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
    wait_until(lambda: ask(port + 3, "SELECT to_regclass('t')::text") == [("t",)], "the standby to have the table")
    assert ask(port + 3, "SELECT pg_is_in_recovery(), count(*) FROM t") == [(True, 10)]
    assert ask(port + 2, "SELECT application_name, state FROM pg_stat_replication") == [("server1", "streaming")]
    script(place, "pgpool_reload")
    assert ask(port, "SELECT sum(i) FROM t") == [(55,)]
    script(place, "shutdownall")
    assert not processes_of(place)
    assert not any(listens(p) for p in range(port, port + 4))


def test_raw_mode(setup, place):
    port = port_range()
    made = setup("-m", "n", "-p", port, "-n", 2)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.endswith(closing_words(place, port, "raw", 2))
    assert not processes_of(place)

    script(place, "startall")
    assert [row[2] for row in roles(port)] == ["main", "replica"]
    ask(port, "CREATE TABLE only_on_main(i int)")
    assert ask(port + 2, "SELECT to_regclass('only_on_main')::text") == [("only_on_main",)]
    assert ask(port + 3, "SELECT to_regclass('only_on_main')::text, pg_is_in_recovery()") == [(None, False)]
    script(place, "shutdownall")


def test_logical_mode(setup, place):
    """Two servers of their own, joined here by a publication and a subscription: reads may go to either."""
    port = port_range()
    made = setup("-m", "l", "-d", "-p", port, "--no-stop")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "pgpool-II setting for logical replication mode is done.\n" in made.stdout
    assert [row[2] for row in roles(port)] == ["primary", "standby"]
    for server in (port + 2, port + 3):
        ask(server, "CREATE TABLE t (i int PRIMARY KEY)")
    ask(port + 2, "CREATE PUBLICATION p FOR TABLE t")
    source = f"host=localhost port={port + 2} user={superuser()} dbname=test"
    ask(port + 3, f"CREATE SUBSCRIPTION s CONNECTION '{source}' PUBLICATION p")
    ask(port, "INSERT INTO t VALUES (1)")
    wait_until(lambda: ask(port + 3, "SELECT i FROM t") == [(1,)], "the row to be replicated")
    script(place, "shutdownall")


@pytest.mark.parametrize("option", ["", "-r"], ids=["copy", "rewind"])
def test_the_scripts_fail_over_and_bring_the_old_primary_back(setup, place, option):
    """By hand, as pgpool would call them: the scripts need no pgpool to be right."""
    port = port_range()
    made = setup("-p", port, "-s", "--no-stop", *([option] if option else []))
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.endswith("CAUTION: whole system is still running.\n")
    assert ask(port + 2, "SELECT slot_name, active FROM pg_replication_slots") == [("server1", True)]
    stop_pgpool(place)
    stop_server(place, 0)

    node0 = ["0", "localhost", port + 2, place / "data0"]
    node1 = ["1", "localhost", "0", "0", port + 3, place / "data1", "localhost", port + 2]
    script(place, "etc/failover.sh", *node0, *node1)
    assert ask(port + 3, "SELECT pg_is_in_recovery()") == [(False,)]
    ask(port + 3, "CREATE TABLE after_failover(i int)")

    recovery = [place / "data1", "localhost", place / "data0", port + 3, "0", port + 2, "localhost"]
    script(place, "data1/basebackup.sh", *recovery, as_owner=True)
    script(place, "data1/pgpool_remote_start", "localhost", place / "data0", as_owner=True)
    assert ("pg_rewind: Done!" in logs(place)) is (option == "-r")
    streaming = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
    wait_until(lambda: ask(port + 3, streaming) == [("server0",)], "the old primary to follow the new one")
    seen = "SELECT to_regclass('after_failover')::text"
    wait_until(lambda: ask(port + 2, seen) == [("after_failover",)], "the old primary to have the new table")
    script(place, "shutdownall")


def test_a_lost_standby_comes_back_by_pcp_recovery_node(setup, place, proxy_kind):
    """What pgpool_setup makes is all that detach and online recovery need."""
    if proxy_kind != "ours":
        pytest.skip("needs our PCP clients")
    port = port_range()
    made = setup("-m", "s", "-p", port, "--no-stop")
    assert made.returncode == 0, made.stdout + made.stderr
    if not ask(port + 2, "SELECT 1 FROM pg_extension WHERE extname = 'pgpool_recovery'", database="postgres"):
        script(place, "shutdownall")
        pytest.skip("the extension pgpool_recovery is not installed")
    with Client("localhost", port + 1, timeout=60) as admin:
        admin.login(superuser(), superuser())
        admin.detach(1)
        wait_until(lambda: admin.node_info(1)[0].status == 3, "node 1 to be down")
        stop_server(place, 1)
        admin.recover(1)
        wait_until(lambda: admin.node_info(1)[0].status in (1, 2), "node 1 to be attached")
    assert roles(port) == [("0", "up", "primary"), ("1", "up", "standby")]
    streaming = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
    wait_until(lambda: ask(port + 2, streaming) == [("server1",)], "the standby to stream again")
    script(place, "shutdownall")


def stop_server(place: Path, node: int) -> None:
    """At once, as in a crash of the machine."""
    pg_ctl = re.search(r"^PGBIN=(.*)$", (place / "startall").read_text(), re.MULTILINE)[1] + "/pg_ctl"
    subprocess.run(
        [pg_ctl, "-s", "-w", "-m", "immediate", "-D", place / f"data{node}", "stop"],
        check=True, cwd="/", **as_user(find_owner().switch or None),
    )  # fmt: skip


def stop_pgpool(place: Path) -> None:
    pid = int((place / "run" / "pgpool.pid").read_text().rstrip("\0"))
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: not psutil.pid_exists(pid), "pgpool to end")


def test_failover_script_leaves_the_primary_alone_when_a_standby_is_gone(setup, place):
    port = port_range()
    made = setup("-p", port, "--no-stop")
    assert made.returncode == 0, made.stdout + made.stderr
    node1 = ["1", "localhost", port + 3, place / "data1"]
    node0 = ["0", "localhost", "0", "0", port + 2, place / "data0", "localhost", port + 2]
    script(place, "etc/failover.sh", *node1, *node0)
    assert ask(port + 3, "SELECT pg_is_in_recovery()") == [(True,)]
    nobody_left = ["-1", "", "0", "0", "", "", "localhost", port + 2]
    script(place, "etc/failover.sh", "0", "localhost", port + 2, place / "data0", *nobody_left)
    assert ask(port + 3, "SELECT pg_is_in_recovery()") == [(True,)]
    script(place, "shutdownall")


def test_a_used_port_is_named(setup, place):
    port = port_range()
    with socket.create_server(("127.0.0.1", port + 3)):
        made = setup("-p", port)
    assert made.returncode == 1
    assert f"port {port + 3} is in use" in made.stderr


def test_a_failure_names_the_log_and_shows_its_end(setup, place):
    made = setup("-p", port_range(), INITDBARG="--no-such-option")
    assert made.returncode == 1
    assert "initdb failed with exit code 1" in made.stderr
    assert f"See {place}/pgpool_setup.log; its last lines:" in made.stderr
    assert "no-such-option" in made.stderr


def test_a_failure_of_pgpool_names_its_log_and_leaves_nothing_running(setup, place, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pgpool").write_text("#!/bin/sh\necho 'I cannot start' >&2\nexit 3\n")
    (tmp_path / "bin" / "pgpool").chmod(0o755)
    made = setup("-p", port_range(), PGPOOL_INSTALL_DIR=str(tmp_path))
    assert made.returncode == 1
    assert "startall failed" in made.stderr and f"See {place}/log/pgpool.log" in made.stderr
    assert "    I cannot start" in made.stderr
    assert not processes_of(place)


def test_demo_in_the_foreground(environment, place, proxy_kind):
    """Started, tried with the very psql line it prints, stopped with Ctrl-C."""
    if proxy_kind == "direct":
        pytest.skip("needs a pgpool")
    port = port_range()
    argv = setup_command("--demo", "-p", port, "--dir", place / "demo")
    with subprocess.Popen(argv, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        try:
            said = ""
            for line in demo.stdout:
                said += line
                if "To stop it, press Ctrl-C" in line:
                    break
            psql = re.search(r"^    (\S*psql -h localhost .*)$", said, re.MULTILINE)
            assert psql, said + logs(place / "demo")
            done = subprocess.run(
                [*shlex.split(psql[1]), "-Xtc", "SELECT 6 * 7"], capture_output=True, text=True, timeout=30
            )
            assert done.stdout.strip() == "42", done.stderr
            assert roles(port, "postgres") == [("0", "up", "primary"), ("1", "up", "standby")]
        finally:
            demo.send_signal(signal.SIGINT)
            rest = demo.stdout.read()
        assert demo.wait(60) == 0
    assert "shutdown all...done." in rest
    assert not processes_of(place / "demo")


def test_demo_detached_twice(setup, place):
    """The second start goes on with the data of the first."""
    port = port_range()
    where = ["-p", port, "--dir", place / "demo"]
    first = setup("--demo", "--detach", *where)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "To stop it" in first.stdout
    again = setup("--demo", "--detach", *where)
    assert again.returncode == 1 and "is running already" in again.stderr
    ask(port, "CREATE TABLE kept(i int)", user="postgres")
    stopped = setup("--stop", "--dir", place / "demo")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert not processes_of(place / "demo")

    second = setup("--demo", "--detach", *where)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Going on with the cluster" in second.stdout
    assert ask(port, "SELECT to_regclass('kept')::text", user="postgres") == [("kept",)]
    other = setup("--demo", "-p", port + 1, "--dir", place / "demo")
    assert other.returncode == 1
    assert setup("--stop", "--dir", place / "demo").returncode == 0


def test_demo_does_not_touch_a_directory_of_others(setup, place):
    (place / "mine").mkdir()
    (place / "mine" / "precious").touch()
    made = setup("--demo", "--detach", "-p", port_range(), "--dir", place / "mine")
    assert made.returncode == 1 and "is not empty, and not made by --demo" in made.stderr
    assert [file.name for file in (place / "mine").iterdir()] == ["precious"]
