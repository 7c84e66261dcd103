"""Real PostgreSQL servers: one of them, or a primary with streaming standbys."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from .places import free_port, pg_bin, run, server_user, short_dir, spawn, wait_until

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "500",
    "max_prepared_transactions": "20",
    "max_wal_senders": "10",
    "wal_level": "replica",
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %u@%d %a: ",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@functools.cache
def _template() -> Path:
    """A data directory made by initdb once per test run; everybody copies it."""
    place = short_dir("pgtpl")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    run(
        [pg_bin() / "initdb", "-D", place / "data", "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
        user=server_user(),
    )
    return place / "data"


class Postgres:
    """One server with its own data directory, TCP port and unix socket directory.

    `start` and `stop` may be called many times; `remove` ends it for good. User `postgres` may do everything (trust).
    """

    host = "127.0.0.1"

    def __init__(self, name: str = "pg", settings: dict[str, str] | None = None):
        self.name = name
        self.port = free_port()
        self.place = short_dir("pgt")
        self.data = self.place / "data"
        self.log = self.place / "log"
        self.log.touch()
        self.settings = {**SETTINGS, **(settings or {})}
        self.process: subprocess.Popen | None = None
        self._control: psycopg.Connection | None = None

    def create(self, databases: tuple[str, ...] = ("app",)) -> Postgres:
        """Make the data directory from the template, start, and create the databases and the `sr` role."""
        run(["cp", "-a", "--reflink=auto", _template(), self.data], user=server_user())
        self.configure()
        self.start()
        with self.connect("postgres") as conn:
            conn.execute("CREATE ROLE sr LOGIN IN ROLE pg_monitor")
            for database in databases:
                conn.execute(f'CREATE DATABASE "{database}"')
        return self

    def configure(self, **settings: str) -> None:
        """Write the settings (a later line wins) into the file which postgresql.conf includes; no reload."""
        self.settings.update(settings)
        lines = [f"{key} = '{value}'\n" for key, value in self.settings.items()]
        lines += [f"port = {self.port}\n", f"unix_socket_directories = '{self.place}'\n"]
        (self.data / "tests.conf").write_text("".join(lines))
        main = self.data / "postgresql.conf"
        if "tests.conf" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'tests.conf'\n")

    def start(self, wait: bool = True) -> None:
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self.process = self._spawn()
        if wait:
            wait_until(self._ready, f"{self.name} to answer on port {self.port} (log {self.log})")

    def _spawn(self) -> subprocess.Popen:
        return spawn([pg_bin() / "postgres", "-D", self.data], user=server_user(), log=self.log)

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        """Stop: smart, fast (default) or immediate; waits for the end."""
        self._hang_up()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self._signal_all(signal.SIGCONT)  # a process that was frozen, and forked meanwhile, keeps it from ending
            self._signal_all(signal.SIGKILL)
            self.process.wait(30)

    def stop_anybodys(self, mode: str = "fast") -> None:
        """Stop the server whoever has started it: pgpool does so in an online recovery."""
        self._hang_up()
        if (self.data / "postmaster.pid").exists():
            run([pg_bin() / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-s", "stop"], user=server_user())

    def kill(self) -> None:
        """SIGKILL the postmaster: no goodbye to anybody."""
        self._hang_up()
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def freeze(self) -> None:
        """SIGSTOP postmaster and backends: connections are accepted by the kernel, nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, signum: int) -> None:
        import psutil

        assert self.process is not None
        postmaster = psutil.Process(self.process.pid)
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend may end at any time
                process.send_signal(signum)

    def restart(self) -> None:
        self.stop()
        self.start()

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def change_hba(self, text: str) -> None:
        """Write pg_hba.conf, and return when new connections are judged by it."""
        (self.data / "pg_hba.conf").write_text(text)
        before = self.value("SELECT pg_conf_load_time()", "postgres")
        self.reload()
        wait_until(lambda: self.value("SELECT pg_conf_load_time()", "postgres") != before, f"{self.name} to reload")

    def promote(self) -> None:
        """End recovery and wait until the server takes writes."""
        self.execute("SELECT pg_promote(true, 30)")
        wait_until(lambda: not self.in_recovery(), f"{self.name} to be promoted")

    def in_recovery(self) -> bool:
        return self.value("SELECT pg_is_in_recovery()")

    def dsn(self, database: str = "app", user: str = "postgres", **options) -> str:
        options.setdefault("host", self.host)
        return psycopg.conninfo.make_conninfo(
            port=self.port, dbname=database, user=user, connect_timeout=10, **options
        )

    def url(self, database: str = "app", user: str = "postgres", driver: str = "postgresql") -> str:
        return f"{driver}://{user}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "app", *, autocommit: bool = True, **options) -> psycopg.Connection:
        """A direct connection, autocommit unless said otherwise."""
        return psycopg.connect(self.dsn(database, **options), autocommit=autocommit)

    def execute(self, sql: str, database: str = "app") -> list[tuple]:
        """Run on a new connection; gives up after 30 s (a test that left locks behind must not hang the next)."""
        with self.connect(database, options="-c statement_timeout=30s -c lock_timeout=10s") as conn:
            cursor = conn.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def quick(self, sql: str):
        """One value by a connection that is kept open (not seen by `backends`): for polling."""
        for attempt in (1, 2):
            try:
                if self._control is None or self._control.closed:
                    self._control = self.connect("postgres", application_name="control")
                return self._control.execute(sql, prepare=False).fetchone()[0]
            except psycopg.OperationalError:
                self._hang_up()
                if attempt == 2:
                    raise

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def value(self, sql: str, database: str = "app"):
        """The first column of the first row."""
        return self.execute(sql, database)[0][0]

    def knows_tls(self) -> bool:
        """Was this PostgreSQL built with TLS?"""
        return bool(self.value("SELECT setting FROM pg_settings WHERE name = 'ssl_library'"))

    def backends(self, where: str = "true") -> list[dict]:
        """Client backends of pg_stat_activity other than our own, as dicts."""
        with self.connect("postgres") as conn:
            cursor = conn.cursor(row_factory=psycopg.rows.dict_row)
            cursor.execute(
                "SELECT pid, datname, usename, application_name, state, query, backend_type, xact_start"
                f" FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " AND application_name <> 'control'"
                f" AND ({where})"
            )
            return cursor.fetchall()

    def busy(self, where: str) -> list[dict]:
        """backends() that run a client's statement: pgpool's look-ups, all of which name pg_catalog, come before it."""
        return self.backends(f"state = 'active' AND query NOT LIKE '%pg_catalog%' AND {where}")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.place, ignore_errors=True)


class Cluster:
    """A primary (node 0) and streaming standbys (1 ...); the application_name of node N is serverN.

    `make(name, settings)` makes a server.
    """

    def __init__(
        self,
        standbys: int = 1,
        settings: dict[str, str] | None = None,
        databases: tuple[str, ...] = ("app",),
        make: Callable[[str, dict[str, str] | None], Postgres] = Postgres,
    ):
        self.nodes: list[Postgres] = []
        self.settings = settings
        self._make = make
        self.databases = databases
        self._standbys = standbys

    def create(self) -> Cluster:
        self.nodes.append(self._make("server0", self.settings).create(self.databases))
        for number in range(1, self._standbys + 1):
            self.add_standby(f"server{number}")
        return self

    def add_standby(self, name: str) -> Postgres:
        """A new standby copied from the primary by pg_basebackup -R, started and streaming."""
        node = self._make(name, self.settings)
        self.nodes.append(node)
        run(
            [
                pg_bin() / "pg_basebackup", "-D", node.data, "-R", "-X", "stream", "-c", "fast",
                "-d", f"host={self.primary.host} port={self.primary.port} user=postgres application_name={name}",
            ],
            user=server_user(),
        )  # fmt: skip
        node.configure()
        node.start()
        wait_until(lambda: name in self.streaming(), f"{name} to stream")
        return node

    @property
    def primary(self) -> Postgres:
        return self.nodes[0]

    @property
    def standby(self) -> Postgres:
        return self.nodes[1]

    def streaming(self) -> set[str]:
        """Application names of the standbys which stream from the primary now."""
        rows = self.primary.execute("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")
        return {row[0] for row in rows}

    def make_synchronous(self, *names: str) -> None:
        """What is acknowledged is on these standbys too; returns when the primary waits for all of them.

        It is told again until then: once (PostgreSQL 18) it went on for 30 s as if it had not been told."""
        self.primary.configure(synchronous_standby_names=f"{len(names)} ({', '.join(names)})")
        states = "SELECT string_agg(application_name || ' ' || sync_state, ', ') FROM pg_stat_replication"

        def told() -> bool:
            self.primary.reload()
            return all(f"{name} sync" in (self.primary.quick(states) or "") for name in names)

        try:
            wait_until(told, f"{', '.join(names)} to be synchronous", pause=0.2)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it says: {self.primary.quick(states)}") from None

    def wait_for_catchup(self) -> None:
        """Return when every running standby has replayed what the primary has written until now."""
        lsn = self.primary.quick("SELECT pg_current_wal_flush_lsn()")
        for node in self.nodes[1:]:
            if node.process is not None and node.process.poll() is None:
                wait_until(
                    lambda node=node: node.quick(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), f"{node.name} at {lsn}"
                )

    @contextlib.contextmanager
    def asking(self, lines: str) -> Iterator[None]:
        """With these lines in front of every node's pg_hba.conf; in the end it is as it was."""
        before = [(node, (node.data / "pg_hba.conf").read_text()) for node in self.nodes]
        try:
            for node, text in before:
                node.change_hba(lines + text)
            yield
        finally:
            for node, text in before:
                node.change_hba(text)

    def execute(self, sql: str, database: str = "app") -> list[tuple]:
        """Run on the primary, straight, and wait until the standbys have it."""
        rows = self.primary.execute(sql, database)
        self.wait_for_catchup()
        return rows

    def remove(self) -> None:
        for node in reversed(self.nodes):
            node.remove()
