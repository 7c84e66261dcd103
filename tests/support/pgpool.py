"""A pgpool under test: ours, or Debian's (the living oracle), on a directory of configuration files of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg

from .places import free_port, give, python_env, python_user, server_user, short_dir, spawn, wait_until
from .postgres import Postgres

DEBIAN = Path("/usr/sbin/pgpool")

#: What a log must never contain; a test that provokes one says so with `pgpool.forgiven`.
BAD_WORDS = re.compile(
    r"Traceback|PANIC|segfault|[Ss]egmentation fault|core dumped|Exception ignored|double free|MemoryError"
)

PCP_MD5 = "e8a48653851e28c69d0506508fb27fc5"  # md5 of "postgres"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


class Pgpool:
    """One pgpool in front of `nodes`.

    `binary` is 'ours' or 'debian'. `settings` are added to (and win over) the base ones; `files` are more files for
    the configuration directory (name -> text), pool_hba.conf among them. `start` waits until a client is served.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        nodes: list[Postgres],
        settings: dict[str, object] | None = None,
        *,
        binary: str = "ours",
        files: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
        ports: list[int] | None = None,
    ):
        self.binary = binary
        self.nodes = nodes
        self.backend_ports = ports or [node.port for node in nodes]
        self.port = free_port()
        self.pcp_port = free_port()
        self.place = short_dir("pgp")
        self.conf = self.place / "pgpool.conf"
        self.log = self.place / "log"
        self.log.touch()
        self.options = options
        self.process: subprocess.Popen | None = None
        self.forgiven: tuple[str, ...] = ()
        self.settings = {**self._base(), **(settings or {})}
        self._seen: dict[int, psutil.Process] = {}
        defaults = {
            "pcp.conf": f"postgres:{PCP_MD5}\n",
            "pool_hba.conf": "local all all trust\nhost all all all trust\n",
            "pool_passwd": "",
        }
        for name, text in {**defaults, **(files or {})}.items():
            (self.place / name).write_text(text)
            (self.place / name).chmod(0o600)
        self.write_conf()

    def _base(self) -> dict[str, object]:
        # 4.3 names for Debian's; the names of today for ours (the old ones have tests of their own)
        sockets, work = ("socket_dir", "logdir") if self.binary == "debian" else ("unix_socket_directories", "work_dir")
        base: dict[str, object] = {
            "backend_clustering_mode": "streaming_replication",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            sockets: self.place,
            "pcp_listen_addresses": "127.0.0.1",
            "pcp_port": self.pcp_port,
            "pcp_socket_dir": self.place,
            "pid_file_name": self.place / "pgpool.pid",
            work: self.place,
            "num_init_children": 8,
            "max_pool": 2,
            "child_life_time": 0,
            "sr_check_user": "sr",
            "sr_check_database": "postgres",
            "health_check_user": "sr",
            "search_primary_node_timeout": 10,
            "failover_on_backend_error": "off",  # a test that kills a backend must not take the node from the next
            "authentication_timeout": 20,
            "log_line_prefix": "%m: pid %p: ",
        }
        if self.binary == "ours" and os.geteuid() == 0:  # where the server user may not read this package
            base["allow_root"] = True
        for number, (node, port) in enumerate(zip(self.nodes, self.backend_ports, strict=True)):
            base[f"backend_hostname{number}"] = node.host
            base[f"backend_port{number}"] = port
            base[f"backend_weight{number}"] = 1
            base[f"backend_data_directory{number}"] = node.data
            base[f"backend_flag{number}"] = "ALLOW_TO_FAILOVER"
            base[f"backend_application_name{number}"] = node.name
        return base

    def write_conf(self, **changes: object) -> None:
        """Write pgpool.conf from the settings, after `changes` (None removes one)."""
        self.settings.update(changes)
        lines = [f"{key} = {_text(value)}\n" for key, value in self.settings.items() if value is not None]
        whole = self.conf.with_suffix(".whole")  # a child that is slow to reload shall not read a half of it
        whole.write_text("".join(lines))
        give(self.place)
        whole.replace(self.conf)

    @property
    def command(self) -> list[str]:
        """The program and its file options, without -n."""
        program = [str(DEBIAN)] if self.binary == "debian" else [sys.executable, "-m", "pgpool"]
        files = ["-f", self.conf, "-F", self.place / "pcp.conf", "-a", self.place / "pool_hba.conf"]
        return [*program, *map(str, files)]

    def start(self, wait: bool = True, timeout: float = 30) -> Pgpool:
        user = server_user() if self.binary == "debian" else python_user()
        env = None if self.binary == "debian" else python_env()
        self.process = spawn([*self.command, "-n", *self.options], user=user, log=self.log, env=env, cwd=self.place)
        if wait:
            wait_until(self._ready, f"pgpool to serve on port {self.port}", timeout)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"pgpool ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
        try:
            with self.connect("postgres") as conn:
                conn.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def stop(self, mode: str = "fast", timeout: float = 30) -> int | None:
        """Stop by signal (smart, fast, immediate), wait, return the exit code; None when it was not running."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.family()
        self.process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL the parent."""
        assert self.process is not None
        self.family()
        self.process.kill()
        self.process.wait(10)

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        self.stop()
        self.start()

    def family(self) -> list[psutil.Process]:
        """All processes below the parent now (parent not included); they are remembered for the check at the end."""
        assert self.process is not None
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen.update({process.pid: process for process in found})
        return found

    def leftovers(self) -> list[psutil.Process]:
        """Processes once seen below the parent which are still alive (zombies do not count)."""
        return [p for p in self._seen.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def child_of(self, conn: psycopg.Connection) -> psutil.Process:
        """The child which serves this client connection (found by the client's TCP port)."""
        with socket.socket(fileno=os.dup(conn.fileno())) as sock:
            ours = sock.getsockname()[1]
        for process in self.family():
            for link in process.net_connections("tcp"):
                if link.laddr and link.raddr and link.laddr.port == self.port and link.raddr.port == ours:
                    return process
        raise LookupError(f"no process below pgpool holds the connection from port {ours}")

    def dsn(self, database: str = "app", user: str = "postgres", **options) -> str:
        options.setdefault("connect_timeout", 10)
        return psycopg.conninfo.make_conninfo(host=self.host, port=self.port, dbname=database, user=user, **options)

    def url(self, database: str = "app", user: str = "postgres", driver: str = "postgresql") -> str:
        return f"{driver}://{user}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "app", *, autocommit: bool = True, **options) -> psycopg.Connection:
        """A client connection through pgpool, autocommit unless said otherwise."""
        return psycopg.connect(self.dsn(database, **options), autocommit=autocommit)

    def show(self, what: str) -> list[dict[str, str]]:
        """Rows of a SHOW (simple protocol), as dicts."""
        with self.connect("postgres") as conn:
            return show(conn, what)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def mark(self) -> int:
        """Where the log ends now; give it to `log_since`."""
        return self.log.stat().st_size

    def log_since(self, mark: int) -> str:
        with self.log.open("rb") as file:
            file.seek(mark)
            return file.read().decode(errors="replace")

    def wait_for_log(self, pattern: str, since: int = 0, timeout: float = 30) -> re.Match:
        return wait_until(lambda: re.search(pattern, self.log_since(since)), f"/{pattern}/ in {self.log}", timeout)

    def check_log(self) -> None:
        """Fail when the log holds a bad word that the test has not forgiven."""
        lines = self.log_text().splitlines()
        forgiven = self.forgiven
        bad = [n for n, line in enumerate(lines) if BAD_WORDS.search(line) and not any(f in line for f in forgiven)]
        assert not bad, "the log holds what must not be there:\n" + "\n".join(lines[max(0, bad[0] - 5) : bad[0] + 40])

    def remove(self, check: bool = True) -> None:
        """Stop, check log and processes, and delete the directory."""
        try:
            if self.process is not None and self.process.poll() is None:
                try:
                    self.stop("fast")
                except subprocess.TimeoutExpired:
                    if check:
                        raise AssertionError(f"pgpool did not stop\n{self.log_text()[-3000:]}") from None
            if check:
                try:
                    wait_until(lambda: not self.leftovers(), "all processes of pgpool to end", 10)
                except TimeoutError:
                    raise AssertionError(f"processes left: {self.leftovers()}\n{self.log_text()[-3000:]}") from None
                self.check_log()
        finally:
            self._end_all()
            shutil.rmtree(self.place, ignore_errors=True)

    def _end_all(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.family()
            self.process.kill()
            self.process.wait(10)
        for process in self.leftovers():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def show(conn: psycopg.Connection, what: str) -> list[dict[str, str]]:
    """Rows of `SHOW what` through the simple query protocol, as dicts of text (libpq's PGresult: no type guessing)."""
    result = conn.pgconn.exec_(f"SHOW {what}".encode())
    if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
    names = [result.fname(column).decode() for column in range(result.nfields)]
    return [
        {name: (result.get_value(row, column) or b"").decode() for column, name in enumerate(names)}
        for row in range(result.ntuples)
    ]
