"""PCP clients under test: ours called in this process, Debian's as programs; both as (exit code, stdout, stderr)."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from pgpool.cli import tools
from pgpool.pcp.client import Client

Result = tuple[int, str, str]


def address(pgpool) -> list[str]:
    return ["-h", pgpool.host, "-p", str(pgpool.pcp_port), "-U", "postgres", "-w"]


def pass_file(pgpool) -> Path:
    path = pgpool.place / "pcppass"
    if not path.exists():
        path.write_text(f"127.0.0.1:{pgpool.pcp_port}:postgres:postgres\n")
        path.chmod(0o600)
    return path


def ours(pgpool, name: str, *words: str, program: str = "") -> Result:
    """One of our clients, logged in by password file."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, PCPPASSFILE=str(pass_file(pgpool))),
        mock.patch.object(sys, "argv", [program or name]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = tools.run(name, [*address(pgpool), *words])
    return code, out.getvalue(), err.getvalue()


def debian(pgpool, name: str, *words: str) -> Result:
    done = subprocess.run(
        [f"/usr/sbin/{name}", *address(pgpool), *words],
        env={**os.environ, "PCPPASSFILE": str(pass_file(pgpool))},
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def client(pgpool, **options) -> Client:
    """A connection of our client library, logged in."""
    options.setdefault("timeout", 30)
    made = Client(pgpool.host, pgpool.pcp_port, **options)
    made.login("postgres", "postgres")
    return made
