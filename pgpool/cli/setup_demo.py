"""pgpool_setup --demo: a primary, a streaming standby and pgpool on port 9999, started from nothing and watched."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from pgpool.cli import setup_build
from pgpool.cli.setup_build import say
from pgpool.cli.setup_find import find_owner, find_pgpool, find_postgres, from_wheel, reachable, runs_as
from pgpool.cli.setup_plan import Owner, Plan, SetupFailed, pgbench_lines, plan_from, psql_line
from pgpool.system import process, signals, sockets

MARK = ".pgpool_setup"
"""A file in the base directory: what this demonstration is, and whether it was made to its end."""
FALLBACK = Path("/var/tmp/pgpool-demo")


def demo(options: argparse.Namespace) -> int:
    """Make the cluster, or take the one made before, start it, and wait for Ctrl-C (or leave it running: --detach)."""
    owner = find_owner()
    base = _base(options.dir, owner)
    _refuse_running(base)
    pgbin, version = find_postgres()
    plan = _plan(options, base, owner, pgbin)
    say(f"PostgreSQL {version} from {plan.pgbin}")
    if owner.switch:
        also = " (pgpool itself as root: that user may not read where it is installed)" if plan.pgpool_as_root else ""
        say(f"Servers run as user {owner.name}{also}")
    say(f"Everything is made below {base}")
    try:
        _make(plan, version)
        setup_build.start(plan)
        setup_build.show_nodes(plan)
    except BaseException:
        setup_build.stop_after_failure(plan)
        raise
    _tell_how_to_use(plan)
    if options.detach:
        say(f"It goes on running. To stop it:\n\n    {_stop_line(plan)}\n")
        return 0
    say("To stop it, press Ctrl-C here, or type elsewhere:\n\n    " + _stop_line(plan) + "\n")
    return _watch(plan)


def stop(place: Path | None) -> int:
    """Stop the demonstration cluster that runs in ``place`` (default: where --demo puts it)."""
    owner = find_owner()
    base = _base(place, owner)
    if not (base / "shutdownall").exists() or not (base / MARK).exists():
        raise SetupFailed(f"there is no demonstration cluster in {base}; name its directory with --dir")
    with setup_build.step(f"stopping the cluster in {base}"):
        code, text = process.run([str(base / "shutdownall")], cwd=str(base), timeout=600)
        if code != 0:
            raise SetupFailed(f"shutdownall failed with exit code {code}:\n{text}", base / "log" / "pgpool.log")
    say(f"Its data stay in {base}: the next --demo goes on with them, or remove that directory.")
    return 0


def _base(place: Path | None, owner: Owner) -> Path:
    """``place``, else ./demo; for root, if the user who runs the servers cannot come there, a place where it can."""
    wanted = (place or Path("demo")).absolute()
    if not owner.switch or reachable(owner, wanted if wanted.exists() else _existing_parent(wanted)):
        return wanted
    if place:
        raise SetupFailed(f"servers will run as user {owner.name}, who cannot enter {wanted}")
    with suppress(FileNotFoundError):
        if FALLBACK.is_symlink() or FALLBACK.stat().st_uid not in (0, owner.uid):
            raise SetupFailed(f"{FALLBACK} belongs to somebody else: name another directory with --dir")
    return FALLBACK


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


def _refuse_running(base: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int((base / "run" / "pgpool.pid").read_text().rstrip("\0\n"))
        if process.alive(pid):
            raise SetupFailed(f"the cluster in {base} is running already (pgpool is process {pid}); --stop stops it")


def _plan(options: argparse.Namespace, base: Path, owner: Owner, pgbin: Path) -> Plan:
    if not reachable(owner, pgbin / "postgres"):
        if not from_wheel(pgbin):
            raise SetupFailed(f"servers will run as user {owner.name}, who cannot run {pgbin / 'postgres'}: set PGBIN")
        _prepare_base(base, owner)
        with setup_build.step(f"copying PostgreSQL's programs to {base} (user {owner.name} cannot enter {pgbin})"):
            pgbin = setup_build.copy_programs(base, pgbin)
    pgpool = find_pgpool()
    return plan_from(
        options, os.environ, base=base, pgbin=pgbin, pgpool=pgpool, owner=owner, superuser="postgres",
        pgpool_as_owner=runs_as(owner, pgpool),
    )  # fmt: skip


def _prepare_base(base: Path, owner: Owner) -> None:
    """Make the base directory, or take it over: only an empty one, or one that an earlier --demo made."""
    base.mkdir(parents=True, exist_ok=True)
    if not (base / MARK).exists():
        if any(base.iterdir()):
            raise SetupFailed(f"{base} is not empty, and not made by --demo: name another directory with --dir")
        (base / MARK).write_text("")
    if owner.switch:
        os.chown(base, owner.uid, owner.gid)
        base.chmod(0o755)


def _make(plan: Plan, version: int) -> None:
    mark = plan.base / MARK
    words = (
        f"mode {plan.mode}, {plan.nodes} servers of PostgreSQL {version} from port {plan.pg_port}, "
        f"pgpool on port {plan.port}, servers run as {plan.owner.name}\n"
    )
    _prepare_base(plan.base, plan.owner)
    if mark.read_text() == words:
        say("Going on with the cluster that an earlier --demo made")
        # The programs may have moved since (a new venv, another minor version).
        setup_build.write_top_files(plan, ("startall", "shutdownall", "pgpool_reload"))
        setup_build.let_root(plan)
        return
    if other := mark.read_text().strip():
        raise SetupFailed(f"{plan.base} holds another demonstration ({other}): remove it, or use --dir")
    for left in plan.base.iterdir():  # a first try that did not come to its end
        if left.name not in (MARK, "postgresql"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    setup_build.build(plan, version)
    mark.write_text(words)


def _tell_how_to_use(plan: Plan) -> None:
    lines = "\n".join(f"    {line}" for line in [psql_line(plan), *pgbench_lines(plan)])
    say(f"Ready. To try it:\n\n{lines}\n")
    say(f"Configuration: {plan.base}/etc/pgpool.conf   Log: {plan.pgpool_log}")


def _stop_line(plan: Plan) -> str:
    program = Path(sys.argv[0]).absolute()
    place = "" if plan.base == Path("demo").absolute() else f" --dir {plan.base}"
    return f"{program} --stop{place}"


def _watch(plan: Plan) -> int:
    """Wait for Ctrl-C or SIGTERM, then stop everything; a pgpool that ends by itself is a failure, unless somebody
    else stopped it."""
    caught = signals.install([signals.SIGINT, signals.SIGTERM, signals.SIGHUP])
    pid_file = plan.base / "run" / "pgpool.pid"
    try:
        while not caught.drain():
            sockets.wait([caught.wakeup_fd], timeout=1.0)
            if not pid_file.exists():
                say("pgpool was stopped from elsewhere")
                break
            with suppress(ValueError):
                if not process.alive(int(pid_file.read_text().rstrip("\0\n"))):
                    raise SetupFailed("pgpool ended unexpectedly", plan.pgpool_log)
        say("")
    finally:
        # Also after --stop from elsewhere: it waits for the servers there, and so do we.
        setup_build.stop(plan)
    return 0

