"""The package: sdist, wheel built from it, and what the wheel holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel built out of it (not out of this tree: a file the sdist lacks shows)."""
    place = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--outdir", place, ROOT]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PGPOOL_WERROR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_sdist_has_all_sources(built: Path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs git and a git checkout")
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    files = {name for name in tracked.stdout.split("\0") if name and (ROOT / name).exists()}
    needed = {name for name in files if name.startswith(("pgpool/", "etc/")) or "/" not in name} - {".gitignore"}
    assert needed - held == set()
    assert not [name for name in held if name.endswith((".so", "_fastpath.c", ".pyc"))]


def test_wheel_runs(built: Path, tmp_path: Path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
        scripts = next(archive.read(name).decode() for name in held if name.endswith("entry_points.txt"))
        archive.extractall(tmp_path)
    assert {"pgpool = pgpool.cli.pgpool:main", "pgpool_setup = pgpool.cli.setup:main"} <= set(scripts.splitlines())
    assert "pgpool/cli/setup_templates/startall" in held
    assert not [name for name in held if name.endswith((".pyx", ".pxi", ".c"))]

    where = "import pgpool._fastpath as f; print(f.__file__)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", where], cwd="/", env=env, capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path}/pgpool/_fastpath."), done.stdout + done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "pgpool.cli.pgpool", "--version"], cwd="/", env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "4.7.2" in done.stderr, done.stdout + done.stderr
