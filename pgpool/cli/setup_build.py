"""Makes and starts what a Plan says: directories, files, servers. Every step is told to the user as it happens."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from pgpool.cli import setup_files
from pgpool.cli.setup_plan import Plan, SetupFailed
from pgpool.system import process, sockets

EXTENSION = "pgpool_recovery"
"""What pcp_recovery_node calls in the main node; created where the PostgreSQL installation has it."""


def say(text: str, end: str = "\n") -> None:
    """Tell the user. One who is gone (closed terminal, broken pipe) must not keep us from stopping servers."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of this process)


@contextmanager
def step(text: str) -> Iterator[None]:
    """``text...`` before, ``done.`` after, ``failed.`` when the step raises."""
    say(f"{text}...", end="")
    try:
        yield
    except BaseException:
        say("failed.")
        raise
    say("done.")


def build(plan: Plan, version: int) -> None:
    """Make all files and data directories, and the databases in them. Leaves all servers stopped."""
    say(f"Starting set up in {plan.mode_words} mode")
    _check_ports(plan)
    _make_directories(plan)
    say("creating startall and shutdownall")
    if plan.streaming:
        say("creating failover script")
        say("creating follow primary script")
    write_top_files(plan)
    own_data = [0] if plan.streaming else range(plan.nodes)
    for node in own_data:
        _make_cluster(plan, node, version)
    for node in own_data:
        with step(f"temporarily start data{node} cluster to create extensions"):
            _start_server(plan, node)
            _create_databases(plan, node)
    if plan.streaming:
        for node in range(1, plan.nodes):
            with step(f"creating database cluster {plan.data(node)} as a standby"):
                _make_standby(plan, node)
    for node in own_data:
        _stop_server(plan, node)


def start(plan: Plan) -> None:
    """Run startall; returns when PostgreSQL and pgpool answer and all standbys stream."""
    _check_ports(plan)
    with step("start all"):
        command(plan, [str(plan.base / "startall")], "startall", as_owner=False, log=_log_named_by_startall)
    if plan.streaming and plan.nodes > 1:
        with step("waiting for the standbys to stream"):
            _wait_for_standbys(plan)
    with step("waiting for pgpool coming up"):
        _wait_for_pgpool(plan)


def stop(plan: Plan) -> None:
    """Run shutdownall."""
    with step("shutdown all"):
        command(plan, [str(plan.base / "shutdownall")], "shutdownall", as_owner=False)


def stop_after_failure(plan: Plan) -> None:
    """Stop what runs, in silence: the failure itself is what the user shall read."""
    with suppress(OSError, TimeoutError):
        process.run([str(plan.base / "shutdownall")], cwd="/", timeout=120)


def show_nodes(plan: Plan) -> None:
    """What pgpool says of its nodes, as psql prints it."""
    argv = [plan.tool("psql"), "-X", "-h", "localhost", "-p", str(plan.port), "-U", plan.superuser]
    code, text = process.run([*argv, "-c", "SHOW pool_nodes", "postgres"], env=plan.environment(), timeout=60)
    if code != 0:
        raise SetupFailed(f"SHOW pool_nodes failed:\n{text}", plan.pgpool_log)
    say(text)


def write_top_files(plan: Plan, only: tuple[str, ...] = ()) -> None:
    """Write the files outside the data directories; ``only`` limits it to these names."""
    for name, (text, mode) in setup_files.top_files(plan).items():
        if not only or name in only:
            _write(plan, plan.base / name, text, mode)


def let_root(plan: Plan) -> None:
    """In an older cluster: root may have to run pgpool now, where the user who runs the servers did before."""
    conf = plan.base / "etc" / "pgpool.conf"
    if plan.pgpool_as_root and "\nallow_root" not in (text := conf.read_text()):
        _write(plan, conf, f"{text}\n\n{setup_files.root_section(plan)}\n", 0o644)


def command(
    plan: Plan, argv: list[str], what: str, *, as_owner: bool = True, log: Path | Callable[[Plan], Path] | None = None
) -> None:
    """Run a program, its output to pgpool_setup.log; a failure names ``log`` (that file, unless given)."""
    code, _ = process.run(
        argv,
        user=plan.owner.switch if as_owner else "",
        env=plan.environment(),
        cwd=str(plan.base),
        output=str(plan.setup_log),
        timeout=600,
    )
    if code != 0:
        where = log(plan) if callable(log) else log
        raise SetupFailed(f"{what} failed with exit code {code}", where or plan.setup_log)


def _make_directories(plan: Plan) -> None:
    nodes = range(plan.nodes)
    archives = [] if plan.demo else ["archivedir", *(f"archivedir/data{node}" for node in nodes)]
    for name in ("etc", "log", "log/pgpool", "log/pgpool/oiddir", "run", *archives):
        _make_directory(plan, plan.base / name, 0o755)
    _write(plan, plan.setup_log, "", 0o644)
    # Made now, so that it is the owner's and not root's, whoever starts pgpool first.
    _write(plan, plan.pgpool_log, "", 0o644)


def _make_directory(plan: Plan, path: Path, mode: int) -> None:
    path.mkdir(mode=mode, exist_ok=True)
    _give(plan, path)


def _write(plan: Plan, path: Path, text: str, mode: int) -> None:
    """Write anew, so that neither an old file's owner nor its mode stays."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    _give(plan, path)


def _give(plan: Plan, path: Path) -> None:
    if plan.owner.switch:
        os.chown(path, plan.owner.uid, plan.owner.gid)


def _check_ports(plan: Plan) -> None:
    for port in (plan.port, plan.pcp_port, *plan.pg_ports):
        try:
            fd = sockets.connect("localhost", port, 2000)
        except OSError:
            continue
        os.close(fd)
        raise SetupFailed(f"port {port} is in use: stop what listens there, or choose other ports with -p and -pg")


def _make_cluster(plan: Plan, node: int, version: int) -> None:
    data = plan.data(node)
    _make_directory(plan, data, 0o700)
    with step(f"creating database cluster {data}"):
        argv = [plan.tool("initdb"), "-D", str(data), "-U", plan.superuser, "-A", "trust", *plan.initdb_args]
        command(plan, argv, "initdb")
    say("update postgresql.conf")
    with open(data / "postgresql.conf", "a") as file:
        file.write(setup_files.postgresql_conf(plan, version))
    _write(plan, data / "node.conf", setup_files.node_conf(plan, node), 0o600)
    _write(plan, data / "pg_hba.conf", setup_files.pg_hba_conf(), 0o600)
    for name in ("pgpool_remote_start", "basebackup.sh"):
        say(f"creating {name}")
        _write(plan, data / name, setup_files.script(plan, name), 0o755)


def _make_standby(plan: Plan, node: int) -> None:
    """With the script that pcp_recovery_node will use too: it is proven at once."""
    _make_directory(plan, plan.data(node), 0o700)
    primary, target = str(plan.data(0)), str(plan.data(node))
    ports = [str(plan.pg_ports[0]), str(node), str(plan.pg_ports[node])]
    argv = [f"{primary}/basebackup.sh", primary, "localhost", target, *ports, "localhost"]
    command(plan, argv, "basebackup.sh", log=plan.base / "log" / "basebackup.log")


def _start_server(plan: Plan, node: int) -> None:
    log = plan.server_log(node)
    argv = [plan.tool("pg_ctl"), "-w", "-s", "-D", str(plan.data(node)), "-l", str(log), "start"]
    command(plan, argv, f"start of data{node}", log=log)


def _stop_server(plan: Plan, node: int) -> None:
    argv = [plan.tool("pg_ctl"), "-w", "-s", "-m", "fast", "-D", str(plan.data(node)), "stop"]
    command(plan, argv, f"stop of data{node}", log=plan.server_log(node))


def _create_databases(plan: Plan, node: int) -> None:
    """The database ``test``, and pgpool_recovery where this PostgreSQL has it (template1: new databases get it too)."""
    try:
        for database in ("template1", "postgres"):
            with _connect(plan.pg_ports[node], plan.superuser, database) as conn:
                if conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", (EXTENSION,)).fetchone():
                    conn.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
        with _connect(plan.pg_ports[node], plan.superuser, "postgres") as conn:
            conn.execute("CREATE DATABASE test")
    except psycopg.Error as err:
        raise SetupFailed(f"could not create the databases: {err}", plan.server_log(node)) from err


def _wait_for_standbys(plan: Plan) -> None:
    def all_stream() -> bool:
        with _connect(plan.pg_ports[0], plan.superuser, "postgres") as conn:
            rows = conn.execute("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'").fetchall()
        return {f"server{node}" for node in range(1, plan.nodes)} <= {row[0] for row in rows}

    if not _wait(all_stream, 60):
        raise SetupFailed("not all standbys stream from the primary", plan.server_log(1))


def _wait_for_pgpool(plan: Plan) -> None:
    def answers() -> bool:
        with _connect(plan.port, plan.superuser, "postgres") as conn:
            return conn.execute("SELECT 1").fetchone() == (1,)

    if not _wait(answers, 60):
        raise SetupFailed(f"pgpool gives no answer on port {plan.port}", plan.pgpool_log)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(psycopg.Error):
            if condition():
                return True
        if time.monotonic() > deadline:
            return False
        process.sleep(0.2)


def _connect(port: int, user: str, database: str) -> psycopg.Connection:
    return psycopg.connect(host="localhost", port=port, user=user, dbname=database, connect_timeout=10, autocommit=True)


def _log_named_by_startall(plan: Plan) -> Path:
    """After a failed startall: its last message, in pgpool_setup.log, names the log of what did not start."""
    named = re.findall(r"^startall: .*, see (/.*):$", plan.setup_log.read_text(errors="replace"), re.MULTILINE)
    return Path(named[-1]) if named else plan.setup_log


def tell_failure(error: SetupFailed) -> None:
    """The reason on stderr, with the log to read and its last lines."""
    print(f"pgpool_setup: {error}", file=sys.stderr)
    if not error.log:
        return
    print(f"See {error.log}", end="", file=sys.stderr)
    with suppress(OSError):
        lines = Path(error.log).read_text(errors="replace").splitlines()[-15:]
        print("; its last lines:" if lines else " (empty)", file=sys.stderr)
        for line in lines:
            print(f"    {line}", file=sys.stderr)
        return
    print(file=sys.stderr)


def copy_programs(base: Path, pgbin: Path) -> Path:
    """Copy a wheel's PostgreSQL below the base directory, for an owner who cannot enter the wheel; returns its bin.

    pgbin is SITE-PACKAGES/PACKAGE/pginstall/bin; the programs find their libraries in SITE-PACKAGES/PACKAGE.libs.
    """
    package = pgbin.parent.parent
    target = base / "postgresql"
    if not (target / package.name / "pginstall" / "bin" / "postgres").exists():
        for part in (f"{package.name}.libs", f"{package.name}/pginstall"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, target / part, symlinks=True, dirs_exist_ok=True)
    return target / package.name / "pginstall" / "bin"
