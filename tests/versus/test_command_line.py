"""The command line of Debian's pgpool and of ours: exit codes, stdout and stderr."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.places import as_user, python_env, python_user, server_user
from tests.support.servers import DEBIAN

from .differences import check

pytestmark = pytest.mark.versus

#: name -> arguments; {dir} is a directory with pgpool.conf, pcp.conf, pool_hba.conf.
CALLS = {
    "version": ["--version"],
    "version_short": ["-v"],
    "help": ["--help"],
    "help_short": ["-h"],
    "unknown_option": ["--nosuch"],
    "unknown_short": ["-Z"],
    "missing_argument": ["-f"],
    "unknown_word": ["dance"],
    "two_words": ["stop", "reload"],
    "bad_mode": ["-m", "x", "stop"],
    "stop_without_pid_file": ["-f", "{dir}/pgpool.conf", "stop"],
    "stop_fast_without_pid_file": ["-f", "{dir}/pgpool.conf", "-m", "fast", "stop"],
    "reload_without_pid_file": ["-f", "{dir}/pgpool.conf", "reload"],
    "syntax_error": ["-f", "{dir}/syntax.conf", "-n"],
    "bad_value": ["-f", "{dir}/value.conf", "-n"],
    "bad_enum": ["-f", "{dir}/enum.conf", "-n"],
    "out_of_range": ["-f", "{dir}/range.conf", "-n"],
}

FILES = {
    "pgpool.conf": "pid_file_name = '{dir}/pgpool.pid'\nlogdir = '{dir}'\n",
    "syntax.conf": "port = \nthis is not a setting\n",
    "value.conf": "num_init_children = many\n",
    "enum.conf": "backend_clustering_mode = 'sideways'\n",
    "range.conf": "port = 99\n",
    "pcp.conf": "",
    "pool_hba.conf": "local all all trust\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    from tests.support.places import give, short_dir

    made = short_dir("vsc")
    for name, text in FILES.items():
        (made / name).write_text(text.replace("{dir}", str(made)))
    give(made)
    yield made
    import shutil

    shutil.rmtree(made)


def call(binary: str, arguments: list[str], place) -> str:
    """Exit code, stdout, stderr; times, pids and directories masked."""
    program = [str(DEBIAN)] if binary == "debian" else [sys.executable, "-m", "pgpool"]
    user = server_user() if binary == "debian" else python_user()
    env = None if binary == "debian" else python_env()
    argv = [*program, *(a.replace("{dir}", str(place)) for a in arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, cwd=place, env=env, **as_user(user))
    text = f"exit {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    text = text.replace(str(place), "<dir>")
    text = re.sub(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?: (\S+ )?pid \d+: ", "", text)
    return re.sub(r"pid:? ?\d+", "pid <pid>", text)


@pytest.mark.parametrize("name", CALLS)
def test_call(proxy_kind, place, name):
    if not DEBIAN.exists() or proxy_kind != "ours":
        pytest.skip("compares ours with Debian's")
    theirs, ours = (call(binary, CALLS[name], place) for binary in ("debian", "ours"))
    check(f"cli/{name}", theirs, ours)
