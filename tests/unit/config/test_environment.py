"""PGPOOL_PARAMS_* -> pgpool.conf, and the command that writes it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.cli.environment import main
from pgpool.config import environment
from pgpool.config.reader import parse_line
from pgpool.config.settings import load
from pgpool.errors import ConfigFaults

ETC = Path(__file__).parents[3] / "etc"


def nothing(path):
    raise FileNotFoundError(2, "No such file or directory", path)


def test_names_indexes_and_old_names():
    made = environment.lines(
        {"PGPOOL_PARAMS_BACKEND_HOSTNAME0": "db0", "PGPOOL_PARAMS_PORT": "5433", "PGPOOL_PARAMS_SOCKET_DIR": "/run"},
        nothing,
    )
    assert made == ["backend_hostname0 = 'db0'\n", "port = '5433'\n", "socket_dir = '/run'\n"]


@given(st.text(st.characters(exclude_characters="\n\0\\", exclude_categories=["Cs"])))
def test_any_value_reads_back(value):
    [line] = environment.lines({"PGPOOL_PARAMS_SR_CHECK_PASSWORD": value}, nothing)
    assert parse_line(line.removesuffix("\n")) == ("sr_check_password", value)


def test_a_value_from_a_file_unless_the_parameter_itself_is_a_file():
    read = {"/run/s": "geheim\n"}.__getitem__
    made = environment.lines(
        {"PGPOOL_PARAMS_SR_CHECK_PASSWORD_FILE": "/run/s", "PGPOOL_PARAMS_SSL_DH_PARAMS_FILE": "/run/dh"}, read
    )
    assert made == ["sr_check_password = 'geheim'\n", "ssl_dh_params_file = '/run/dh'\n"]


def test_all_faults_at_once_and_no_value_in_them():
    with pytest.raises(ConfigFaults) as caught:
        environment.lines(
            {"PGPOOL_PARAMS_PROT": "S3CRET", "PGPOOL_PARAMS_WD_AUTHKEY": "S3CRET\nx", "PGPOOL_PARAMS_PORT_FILE": "/no"},
            nothing,
        )
    texts = [str(fault) for fault in caught.value.faults]
    assert len(texts) == 3 and "S3CRET" not in "".join(texts)


def test_the_command_leaves_nothing_in_the_environment(tmp_path):
    target = tmp_path / "pgpool.conf"
    env = {**os.environ, "PGPOOL_PARAMS_PORT": "7777", "PYTHONPATH": str(ETC.parent)}
    command = [sys.executable, "-m", "pgpool.cli.environment", target, "-b", ETC / "docker" / "pgpool.conf"]
    done = subprocess.run(
        [*command, "cat", "/proc/self/environ"], env=env, capture_output=True, check=True, cwd=tmp_path
    )
    assert b"PATH=" in done.stdout and b"PGPOOL_PARAMS" not in done.stdout
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    settings = load(str(target)).settings
    assert (settings.port, settings.work_dir) == (7777, "/var/lib/pgpool")


def test_a_fault_ends_the_command(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PGPOOL_PARAMS_PROT", "1")
    assert main([str(tmp_path / "x")]) == 3 and not (tmp_path / "x").exists()
    assert capsys.readouterr().err == 'FATAL:  PGPOOL_PARAMS_PROT: there is no parameter "prot"\n'


def test_usage(capsys):
    assert main([]) == 1 and main(["--help"]) == 0 and main(["x", "-b"]) == 1
    assert main(["/nowhere/x"]) == 3
    assert "Usage" in capsys.readouterr().err
