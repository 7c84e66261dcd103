"""pgpool_setup: what the command line and the environment ask for."""

from pathlib import Path

import pytest

from pgpool.cli import setup
from pgpool.cli.setup_plan import Owner, Plan, SetupFailed, plan_from

FOUND = {
    "base": Path("/srv/try"),
    "pgbin": Path("/opt/pg/bin"),
    "pgpool": Path("/opt/venv/bin/pgpool"),
    "owner": Owner("postgres", 101, 104, switch=""),
    "superuser": "postgres",
}


def plan(*argv: str, **environment: str) -> Plan:
    return plan_from(setup._parser().parse_args(argv), environment, **FOUND)


def test_defaults_are_the_incumbents():
    made = plan()
    assert (made.mode, made.nodes, made.port, made.pcp_port, made.pg_ports) == ("s", 2, 11000, 11001, [11002, 11003])
    assert made.clustering_mode == "streaming_replication"
    assert not (made.slots or made.rewind or made.debug or made.demo)


@pytest.mark.parametrize(
    ("argv", "port", "pcp_port", "pg_ports"),
    [
        (["-p", "12000"], 12000, 12001, [12002, 12003]),
        (["-p12000"], 12000, 12001, [12002, 12003]),
        (["-pg", "5500", "-n", "3"], 11000, 11001, [5500, 5501, 5502]),
        (["-p", "12000", "-pg", "12500", "-n", "1"], 12000, 12001, [12500]),
        (["--demo"], 9999, 10000, [10001, 10002]),
        (["--demo", "-p", "19999"], 19999, 20000, [20001, 20002]),
    ],
)
def test_ports(argv, port, pcp_port, pg_ports):
    made = plan(*argv)
    assert (made.port, made.pcp_port, made.pg_ports) == (port, pcp_port, pg_ports)


def test_switches():
    made = plan("-m", "n", "-s", "-r", "-d")
    assert (made.mode, made.clustering_mode, made.slots, made.rewind, made.debug) == ("n", "raw", True, True, True)


def test_environment():
    made = plan(
        PGSOCKET_DIR="/run/pg", USE_REPLICATION_SLOT="true", USE_PG_REWIND="true", INITDBARG="--locale 'de DE' -E LATIN1"
    )
    assert made.socket_dir == "/run/pg"
    assert made.slots and made.rewind
    assert made.initdb_args == ("--locale", "de DE", "-E", "LATIN1")
    off = plan(PGSOCKET_DIR="", USE_REPLICATION_SLOT="false", INITDBARG="")
    assert off.socket_dir == "/tmp" and not off.slots and "-k" in off.initdb_args


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-n", "0"], "1 or more"),
        (["-p", "1023"], "only 1024 to 65535"),
        (["-p", "65534"], "only 1024 to 65535"),
        (["-pg", "11001"], "overlap"),
        (["-pg", "10999", "-n", "2"], "overlap"),
    ],
)
def test_impossible_plans(argv, words):
    with pytest.raises(SetupFailed, match=words):
        plan(*argv)


@pytest.mark.parametrize("name", ["with 'quote", 'with "quote', "dollar$", "back\\slash", "per%cent", "new\nline"])
def test_directory_names_that_commands_cannot_carry(name):
    options = setup._parser().parse_args([])
    with pytest.raises(SetupFailed, match="cannot carry"):
        plan_from(options, {}, **{**FOUND, "base": Path("/srv", name)})


@pytest.mark.parametrize("argv", [["-m", "x"], ["-n", "two"], ["--nonsense"], ["word"], ["-p"]])
def test_a_wrong_command_line_prints_the_usage_and_exits_1(argv, capsys):
    assert setup.main(argv) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pgpool_setup: ") and "usage: pgpool_setup" in printed.err


@pytest.mark.parametrize(("letter", "words"), [("r", "native"), ("i", "snapshot")])
def test_modes_that_are_not_there_yet(letter, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert setup.main(["-m", letter]) == 1
    printed = capsys.readouterr().err
    assert words in printed and "not available yet" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_files_is_refused(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path)
    assert setup.main([]) == 1
    assert "Current directory is not empty. Please remove files and directories" in capsys.readouterr().err


def test_stop_without_a_demo(capsys, tmp_path):
    tmp_path.chmod(0o755)
    assert setup.main(["--stop", "--dir", "/tmp/there-is-no-such-demo"]) == 1
    assert "there is no demonstration cluster in /tmp/there-is-no-such-demo" in capsys.readouterr().err


def test_help_exits_0(capsys):
    with pytest.raises(SystemExit) as stop:
        setup.main(["--help"])
    assert stop.value.code == 0
    assert "INITDBARG" in capsys.readouterr().out
