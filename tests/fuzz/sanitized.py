"""`python -m tests.fuzz.sanitized [pytest options]`: the tests with AddressSanitizer and UBSan in the compiled unit.

Builds a copy of the repository (gcc; a minute) with the checks of the debug build, and runs pytest there: what a test
starts is the copy, too, so integration tests are as good a check as the unit tests, which are the default. The first fault
ends the process that has it, with a report on stderr. Exit code: that of pytest.

Debian's PostgreSQL does not start under the library of ASan: that of the `demo` extra is used, which has no TLS (clients of
pgpool may have, as in test_fuzz). Tests that bound memory fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[2]
PARTS = ("pgpool", "tests", "bench", "docs", "etc", "pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in")
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
DEFAULT = ["tests/unit/fastpath", "tests/unit/auth", "tests/unit/backend", "tests/unit/session", "tests/unit/system"]


def copy(place: Path) -> None:
    """The sources, without anything built, readable for the user that servers run as."""
    built = shutil.ignore_patterns("*.so", "_fastpath.c", "__pycache__", "results")
    for name in PARTS:
        source = TOP / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=built)
        else:
            shutil.copy(source, place / name)


def library(name: str) -> str:
    return subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()


def main(argv: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="pgsan") as made:
        place = Path(made)
        place.chmod(0o755)
        copy(place)
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(build, check=True, cwd=place, env={**os.environ, "CFLAGS": FLAGS, "PGPOOL_DEBUG_BUILD": "1"})
        env = {
            **os.environ,
            # libstdc++: what a wheel throws must be caught by the one that ASan has wrapped
            "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter never frees everything
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(argv or DEFAULT)]
        return subprocess.run(pytest, cwd=place, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
