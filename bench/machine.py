"""Where and with what it was measured: machine shape and versions, for the results file."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.support.pgpool import DEBIAN
from tests.support.places import pg_bin

TOP = Path(__file__).parent.parent


def _said(*argv: object) -> str:
    """First line of what a command prints (stderr too: Debian's pgpool says its version there), '' without it."""
    try:
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20, cwd=TOP)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = (done.stdout.strip() or done.stderr.strip()) if done.returncode == 0 else ""
    return text.splitlines()[0] if text else ""


def shape() -> dict[str, object]:
    """Cores, memory, processor, kernel, system."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "processor": model.group(1) if model else platform.machine(),
        "virtual": "hypervisor" in info,
        "kernel": platform.release(),
        "system": name.group(1) if name else platform.system(),
    }


def versions() -> dict[str, str]:
    """Versions of everything that was run; ours with the commit, and '+' when pgpool/ has changes not committed."""
    import psycopg

    import pgpool

    commit = _said("git", "rev-parse", "--short", "HEAD")
    changed = "+" if _said("git", "status", "--porcelain", "--", "pgpool") else ""
    return {
        "ours": pgpool.version_text() + (f" {commit}{changed}" if commit else ""),
        "pgpool2": _said(DEBIAN, "--version"),
        "pgbouncer": _said(shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", "--version"),
        "postgresql": _said(pg_bin() / "postgres", "--version"),
        "pgbench": _said(pg_bin() / "pgbench", "--version"),
        "python": sys.version.split()[0],
        "psycopg": psycopg.__version__,
        "compiler": _said(shutil.which("cc") or "cc", "--version"),
    }


def today() -> str:
    """Now, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def facts() -> dict[str, object]:
    """The head of a results file."""
    return {"date": today(), "machine": shape(), "versions": versions()}
