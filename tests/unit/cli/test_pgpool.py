"""The command line of pgpool: options and words (commands.md section 1)."""

import os

import pytest

from pgpool.cli import pgpool
from pgpool.cli.pgpool import UsageError, parse_command
from pgpool.system import signals


@pytest.fixture(autouse=True)
def own_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("PGPOOL_SYSCONFDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults(own_directory):
    command = parse_command([])
    assert command.word == "start"
    assert command.options.config_file == str(own_directory / "pgpool.conf")
    assert command.options.hba_file == str(own_directory / "pool_hba.conf")
    assert command.options.pcp_file == str(own_directory / "pcp.conf")
    assert command.options.key_file == ""
    assert not command.options.foreground


def test_without_the_variable_it_is_debians_directory_or_our_own(monkeypatch):
    monkeypatch.delenv("PGPOOL_SYSCONFDIR")
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/etc/pgpool2")
    assert pgpool.sysconfdir() == "/etc/pgpool2"
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert pgpool.sysconfdir().endswith("/etc")


@pytest.mark.parametrize(
    "argv",
    [
        ["-a", "h", "-f", "c", "-F", "p", "-k", "k", "-n", "-D", "-C", "-x", "-d"],
        ["-ah", "-fc", "-Fp", "-kk", "-nDCxd"],
        ["--hba-file=h", "--config-file=c", "--pcp-file=p", "--key-file=k", "--dont-detach", "--discard-status",
         "--clear-oidmaps", "--debug-assertions", "--debug"],
        ["--hba-file", "h", "--config-file", "c", "--pcp-file", "p", "--key-file", "k", "-nDCxd"],
    ],
)  # fmt: skip
def test_every_option_in_every_form(argv, own_directory):
    o = parse_command(argv).options
    files = [o.hba_file, o.config_file, o.pcp_file, o.key_file]
    assert files == [str(own_directory / name) for name in ("h", "c", "p", "k")]
    assert o.foreground
    assert o.discard_status
    assert o.clear_oidmaps
    assert o.assertions
    assert o.debug


@pytest.mark.parametrize(
    ("mode", "signum"),
    [
        ("smart", signals.SIGTERM),
        ("s", signals.SIGTERM),
        ("fast", signals.SIGINT),
        ("foo", signals.SIGINT),  # only the first letter counts
        ("immediate", signals.SIGQUIT),
        ("i", signals.SIGQUIT),
    ],
)
def test_stop_modes(mode, signum):
    command = parse_command(["-m", mode, "stop"])
    assert (command.word, command.stop_signal) == ("stop", signum)


def test_smart_is_the_default():
    assert parse_command(["stop"]).stop_signal == signals.SIGTERM


def test_words():
    assert parse_command(["reload"]).word == "reload"
    assert parse_command(["-n", "--check"]).word == "check"
    assert parse_command(["-v", "stop"]).word == "version"
    assert parse_command(["-h", "-Z"]).word == "help"
    assert parse_command(["-nv"]).word == "version"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["-Z"], "illegal option -- Z"),
        (["-nZ"], "illegal option -- Z"),
        (["-c"], "illegal option -- c"),
        (["--foo"], "illegal option -- foo"),
        (["--conf"], "illegal option -- conf"),
        (["-f"], "option requires an argument -- f"),
        (["--mode"], "option requires an argument -- mode"),
        (["-m", "x", "stop"], ""),
        (["-m", "", "stop"], ""),
        (["start"], ""),
        (["stop", "now"], ""),
        (["stop", "-m", "fast"], ""),
        (["--", "-n"], ""),
    ],
)
def test_wrong_command_lines(argv, complaint, capsys):
    with pytest.raises(UsageError) as caught:
        parse_command(argv)
    assert str(caught.value) == complaint
    assert pgpool.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage:" in err
    assert complaint in err


def test_version_and_help_go_to_stderr(capsys):
    assert pgpool.main(["--version"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pgpool version 4.7.2 (")
    assert pgpool.main(["-h"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    for _, name, _ in pgpool._OPTIONS:
        assert f"--{name}" in err


@pytest.mark.parametrize(
    ("ids", "allowed", "starts"),
    [
        ((999, 999, 999), "off", True),
        ((0, 0, 0), "off", False),
        ((999, 999, 0), "off", False),  # it could become root again
        ((0, 999, 999), "off", False),
        ((0, 0, 0), "on", True),
    ],
)
def test_root_starts_it_only_when_allowed(monkeypatch, tmp_path, capfd, ids, allowed, starts):
    """Whoever may start it comes as far as the pid file of one that runs already: ours."""
    running = tmp_path / "pid"
    running.write_text(str(os.getppid()))
    conf = tmp_path / "pgpool.conf"
    conf.write_text(f"allow_root = {allowed}\npid_file_name = '{running}'\n")
    monkeypatch.setattr(os, "getresuid", lambda: ids)
    code = pgpool.main(["-f", str(conf)])
    said = capfd.readouterr().err
    assert (code, "is another pgpool" in said, "must not be run as root" in said) == (
        (1, True, False) if starts else (3, False, True)
    )
