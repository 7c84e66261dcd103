"""The pgpool command with real processes: start, stop, reload, check; exit codes and messages beside Debian's."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.places import as_user, free_port, give, python_env, python_user, server_user, short_dir, wait_until
from tests.support.servers import DEBIAN

pytestmark = [pytest.mark.needs_pgpool]

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}: main pid \d+: "


class Place:
    """A directory with a pgpool.conf of its own, and the command run there; no backends."""

    def __init__(self, binary: str = "ours"):
        self.binary = binary
        self.dir = short_dir("cli")
        self.pid_file = self.dir / "pgpool.pid"
        self.port = free_port()
        sockets, work = ("socket_dir", "logdir") if binary == "debian" else ("unix_socket_directories", "work_dir")
        self.conf = self.write(
            "pgpool.conf",
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\n{sockets} = '{self.dir}'\npcp_port = {free_port()}\n"
            f"pcp_socket_dir = '{self.dir}'\npid_file_name = '{self.pid_file}'\n{work} = '{self.dir}'\n"
            "num_init_children = 2\nsr_check_period = 0\n"
            + ("allow_root = on\n" if binary == "ours" and os.geteuid() == 0 else ""),
        )

    def write(self, name: str, text: str) -> Path:
        path = self.dir / name
        path.write_text(text)
        give(self.dir)
        return path

    def command(self, *argv: object) -> list[str]:
        program = [str(DEBIAN)] if self.binary == "debian" else [sys.executable, "-m", "pgpool"]
        return [*program, *map(str, argv)]

    def run(self, *argv: object, timeout: float = 30) -> subprocess.CompletedProcess:
        user = server_user() if self.binary == "debian" else python_user()
        return subprocess.run(
            self.command(*argv),
            cwd=self.dir,
            env=python_env(),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            **as_user(user),
        )

    def pid(self) -> int:
        """The pid in the pid file, 0 while there is none."""
        text = self.pid_file.read_text().rstrip("\0") if self.pid_file.exists() else ""
        return int(text) if text.isdigit() else 0

    def leave(self) -> None:
        """Stop what runs here, for good."""
        pid = self.pid()
        if pid and os.path.exists(f"/proc/{pid}"):
            os.kill(pid, 3)
            wait_until(lambda: gone(pid), "pgpool to end", 15)
        subprocess.run(["rm", "-rf", str(self.dir)], check=True)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def place():
    made = Place()
    yield made
    made.leave()


@pytest.fixture
def both(need_debian):
    """The same directory twice: ours and Debian's."""
    made = (Place("ours"), Place("debian"))
    yield made
    for one in made:
        one.leave()


# -- beside Debian's --------------------------------------------------------------------------------------------


@pytest.mark.versus
@pytest.mark.parametrize(
    "argv",
    [
        ["-v"],
        ["--version"],
        ["-h"],
        ["--help"],
        ["-Z"],
        ["-nZ"],
        ["--foo"],
        ["--vers"],
        ["-f"],
        ["--config-file"],
        ["start"],
        ["stop", "now"],
        ["stop", "-m", "fast"],
        ["-m", "x", "stop"],
        ["--", "-n"],
        ["-v", "stop"],
        ["-f", "pgpool.conf", "stop"],
        ["-f", "pgpool.conf", "-m", "immediate", "stop"],
        ["-f", "pgpool.conf", "reload"],
        ["-f", "wrong.conf", "-n"],
        ["-f", "wrong.conf", "stop"],
        ["-f", "wrong.conf", "reload"],
        ["-f", "nopid.conf", "-n"],
        ["-f", "nosocket.conf", "-n"],
    ],
)
def test_exit_code_and_streams_as_debians(both, argv):
    codes = {}
    for one in both:
        text = one.conf.read_text()
        one.write("wrong.conf", text + "port = 99\n")
        one.write("nopid.conf", text + "pid_file_name = '/nonexistent/pgpool.pid'\n")
        one.write("nosocket.conf", re.sub(r"(socket_dir|unix_socket_directories) = \S+", r"\1 = '/nonexistent'", text))
        done = one.run(*argv)
        assert done.stdout == ""
        complaint = re.search(r"^\S+: ((illegal|option).*)$", done.stderr, re.M)
        fatal = re.search(STAMP + r"FATAL:  (could not \w+ pid file|failed to bind a socket)", done.stderr)
        codes[one.binary] = (done.returncode, "Usage:" in done.stderr, complaint and complaint[1], fatal and fatal[1])
    assert codes["ours"] == codes["debian"]


@pytest.mark.versus
def test_stale_pid_files_as_debians(both):
    for word, code, text in (
        ("stop", 3, "could not stop process with pid: 4194303"),
        ("reload", 1, "could not reload configuration file pid: 4194303"),
    ):
        for one in both:
            one.pid_file.write_text("4194303")
            give(one.dir)
            done = one.run("-f", "pgpool.conf", word)
            assert done.returncode == code
            assert re.search(STAMP + f"FATAL:  {text}\n{STAMP}DETAIL:  No such process", done.stderr)
    for one in both:
        one.pid_file.unlink()


@pytest.mark.versus
def test_a_daemons_life_as_debians(both):
    """Start, pid file, second start, reload, stop: same codes, streams, texts, files."""
    for one in both:
        done = one.run("-f", "pgpool.conf")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        pid = wait_until(one.pid, "the pid file")
        assert one.pid_file.read_bytes() == b"%d\0" % pid
        assert one.pid_file.stat().st_mode & 0o777 == 0o600
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
        assert os.getsid(pid) != os.getsid(0)
        wait_until(lambda one=one: (one.dir / f".s.PGSQL.{one.port}").exists(), "the socket")
        done = one.run("-f", "pgpool.conf")
        assert done.returncode == 1
        assert f"ERROR: pid file found. is another pgpool({pid}) is running?\n" in done.stderr
        done = one.run("-f", "pgpool.conf", "reload")
        assert (done.returncode, done.stdout) == (0, "")
        assert not gone(pid)
        done = one.run("-f", "pgpool.conf", "stop")
        assert (done.returncode, done.stdout) == (0, "")
        stopping = rf"{STAMP}LOG:  stop request sent to pgpool \(pid: {pid}\). waiting for termination...\n\.+done\.\n"
        assert re.search(stopping, done.stderr), done.stderr
        assert gone(pid)
        assert not one.pid_file.exists()
        assert not (one.dir / f".s.PGSQL.{one.port}").exists()


# -- ours ------------------------------------------------------------------------------------------------------------


def test_version_has_number_and_name(place):
    assert re.fullmatch(r"pgpool version \d+\.\d+\.\d+ \(.+\)\n", place.run("-v").stderr)


def test_commands_that_do_not_start_anything_are_quick(place):
    """They must not import what only the server needs."""
    script = (
        "import sys\nfrom pgpool.cli.pgpool import main\nmain(['-f', 'pgpool.conf', 'stop'])\n"
        "print([name for name in ('sqlglot', 'psycopg', 'pgpool.roles.parent', 'daemon') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place.dir, env=python_env(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_is_refused_unless_allowed(place):
    """Before anything is opened; to stop and to reload what another user runs, and to check, root is welcome."""
    allowed = place.conf.read_text()
    place.write("refused.conf", allowed.replace("allow_root = on\n", ""))

    def root(*argv: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            place.command(*argv), cwd=place.dir, env=python_env(), capture_output=True, text=True, timeout=30
        )

    for options in ([], ["-n"]):
        done = root("-f", "refused.conf", *options)
        assert done.returncode == 3
        assert re.search(STAMP + "FATAL:  pgpool must not be run as root", done.stderr), done.stderr
        assert "allow_root = on" in done.stderr
        assert not place.pid_file.exists()
    assert root("-f", "refused.conf", "--check").returncode == 0
    assert root("-f", "pgpool.conf").returncode == 0
    pid = wait_until(place.pid, "the pid file")
    assert psutil.Process(pid).uids().effective == 0
    assert root("-f", "refused.conf", "reload").returncode == 0
    assert root("-f", "refused.conf", "-m", "fast", "stop").returncode == 0
    assert gone(pid)


def test_all_faults_at_once_with_their_places(place):
    place.write("pgpool.conf", "port = abc\nnum_init_children = 0\n\nmax_pool 4 4\nlog_min_messages = loud\n")
    done = place.run("-f", "pgpool.conf", "-n")
    assert done.returncode == 3
    assert [int(n) for n in re.findall(rf"FATAL:  {place.conf}:(\d+): ", done.stderr)] == [1, 2, 4, 5]


def test_a_missing_configuration_file_means_defaults(place):
    done = place.run("-f", "nothing.conf", "stop")
    assert f'WARNING:  could not open configuration file: "{place.dir}/nothing.conf"' in done.stderr
    assert "DETAIL:  using default configuration parameter values" in done.stderr


def test_files_are_found_in_the_directory_of_the_environment(place, monkeypatch):
    monkeypatch.setenv("PGPOOL_SYSCONFDIR", str(place.dir))
    done = place.run("stop")
    assert done.returncode == 3
    assert f"DETAIL:  {place.pid_file}" in done.stderr


def test_a_stale_pid_file_does_not_hinder_the_start(place):
    place.write("pgpool.pid", "4194303")
    done = place.run("-f", "pgpool.conf")
    assert done.returncode == 0
    assert "NOTICE: pid file found but it seems bogus. Trying to start pgpool anyway...\n" in done.stderr
    wait_until(lambda: place.pid() not in (0, 4194303), "our own pid")


@pytest.mark.parametrize("content", ["", "abc", "0", "-1"])
def test_a_pid_file_without_a_pid_never_signals_anybody(place, content):
    place.write("pgpool.pid", content)
    done = place.run("-f", "pgpool.conf", "stop")
    assert done.returncode == 3
    assert "could not read pid file" in done.stderr


def test_a_relative_pid_file_is_beside_the_configuration(place):
    place.write("pgpool.conf", place.conf.read_text() + "pid_file_name = 'here.pid'\n")
    assert place.run("-f", place.conf).returncode == 0
    place.pid_file = place.dir / "here.pid"
    wait_until(place.pid, "the pid file")
    assert place.run("-f", place.conf, "stop").returncode == 0


def test_a_port_in_use_is_told_before_the_daemon_leaves(place):
    assert place.run("-f", "pgpool.conf").returncode == 0
    pid = wait_until(place.pid, "the pid file")
    other = place.write("other.conf", place.conf.read_text() + "pid_file_name = 'other.pid'\n")
    done = place.run("-f", other)
    assert done.returncode == 3
    assert re.search(STAMP + f'FATAL:  failed to bind a socket: "{place.dir}/.s.PGSQL.{place.port}"', done.stderr)
    assert not (place.dir / "other.pid").exists()
    place.write("other.conf", other.read_text() + f"unix_socket_directories = '{short_dir('x')}'\n")
    done = place.run("-f", other)
    assert done.returncode == 3
    assert f"failed to create INET domain socket for 127.0.0.1:{place.port}" in done.stderr
    assert "Address already in use" in done.stderr
    assert not gone(pid)
    assert (place.dir / f".s.PGSQL.{place.port}").exists(), "the one that runs keeps its socket"


def test_the_pid_file_is_right_when_the_command_returns(place):
    assert place.run("-f", "pgpool.conf").returncode == 0
    pid = place.pid()
    assert not gone(pid)
    assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
    with socket.create_connection(("127.0.0.1", place.port), 5):
        pass


def test_fast_stop_of_a_daemon(place):
    place.run("-f", "pgpool.conf")
    wait_until(place.pid, "the pid file")
    began = time.monotonic()
    assert place.run("-f", "pgpool.conf", "-m", "fast", "stop").returncode == 0
    assert time.monotonic() - began < 5


def test_foreground_keeps_the_terminal(place):
    process = subprocess.Popen(
        place.command("-f", place.conf, "-n"),
        cwd=place.dir,
        env=python_env(),
        stderr=subprocess.PIPE,
        text=True,
        **as_user(python_user()),
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "successfully started" in line:
                break
        assert place.pid() == process.pid
    finally:
        process.terminate()
        rest = process.stderr.read()
    assert process.wait(10) == 0
    process.stderr.close()
    assert "shutting down by signal 15" in rest
    assert rest.rstrip().endswith("Pgpool-II system is shutdown")


def test_debug_option(place):
    place.write("pgpool.conf", place.conf.read_text() + "log_min_messages = error\n")
    for options, shown in (([], False), (["-d"], True)):
        process = subprocess.Popen(
            place.command("-f", place.conf, "-n", *options), cwd=place.dir, env=python_env(), stderr=subprocess.PIPE,
            text=True, **as_user(python_user()),
        )  # fmt: skip
        wait_until(place.pid, "the pid file")
        time.sleep(0.3)
        os.kill(process.pid, 10)
        time.sleep(0.2)
        os.kill(process.pid, 2)
        _, err = process.communicate(timeout=15)
        assert ("DEBUG:  Pgpool-II parent process received SIGUSR1" in err) is shown


# -- check -----------------------------------------------------------------------------------------------------------


def test_check_of_a_good_file(place):
    done = place.run("-f", "pgpool.conf", "-n", "--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{place.conf}: no faults\n"
    assert not place.pid_file.exists()


def test_check_tells_all_faults(place):
    place.write("pgpool.conf", "port = 1\nmax_pool = x\n")
    done = place.run("-f", "pgpool.conf", "--check")
    assert done.returncode == 3
    assert f"{place.conf}:1: " in done.stderr
    assert f"{place.conf}:2: " in done.stderr


def test_check_looks_at_the_other_files(place):
    place.write("pgpool.conf", place.conf.read_text() + "enable_pool_hba = on\npool_passwd = 'pool_passwd'\n")
    place.write("pool_hba.conf", "host all\n")
    place.write("pool_passwd", "nocolon\n")
    done = place.run("-f", "pgpool.conf", "-a", "pool_hba.conf", "--check")
    assert done.returncode == 1
    assert "pool_hba.conf:1: " in done.stderr
    assert "pool_passwd:1: " in done.stderr
    assert done.stdout == f"{place.conf}: 2 fault(s) in other files\n"


def test_check_compares_sizes_with_the_backends(place, postgres):
    limit = int(postgres.value("SHOW max_connections"))
    backend = f"backend_hostname0 = '{postgres.host}'\nbackend_port0 = {postgres.port}\nsr_check_user = 'sr'\n"
    place.write("pgpool.conf", place.conf.read_text() + backend + f"num_init_children = {limit}\nmax_pool = 4\n")
    done = place.run("-f", "pgpool.conf", "--check")
    assert done.returncode == 0
    assert re.search(f"WARNING:  .*max_connections {limit}", done.stderr), done.stderr
    place.write("pgpool.conf", place.conf.read_text() + "num_init_children = 2\n")
    assert "WARNING:  backend" not in place.run("-f", "pgpool.conf", "--check").stderr


def test_check_goes_on_when_no_backend_answers(place):
    place.write(
        "pgpool.conf",
        place.conf.read_text()
        + f"backend_hostname0 = '127.0.0.1'\nbackend_port0 = {free_port()}\nsr_check_user = 'x'\n",
    )
    done = place.run("-f", "pgpool.conf", "--check")
    assert done.returncode == 0
    assert "backend 0 cannot be asked for max_connections" in done.stderr
