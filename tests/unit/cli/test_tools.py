"""Command lines of the PCP clients, what they print, and pg_md5 and pg_enc."""

import os

import pytest

from pgpool.cli import tools, tools_print, tools_secrets
from pgpool.pcp.client import Broken
from pgpool.wire.pcp import NodeInfo

NODE = NodeInfo("h", 5432, 2, False, "up", 0.5, 3, "standby", False, 3_000_000, "", "", 0)


@pytest.mark.parametrize("name", sorted(tools.TOOLS))
def test_every_client_has_its_script_and_its_help(name, capsys):
    assert callable(getattr(tools, name))
    assert tools.run(name, ["--help"]) == 0
    text = capsys.readouterr().err
    assert text.startswith(f"{name} - ")
    for _, long, _, _ in tools.TOOLS[name].options:
        assert f"--{long}" in text


def test_options():
    wish = tools.read("pcp_proc_info", ["-h", "x", "--port=5000", "-Uu", "--all", "17", "-dv"], "p")
    assert (wish.host, wish.port, wish.user, wish.everything, wish.number) == ("x", 5000, "u", True, 17)
    assert wish.debug and wish.verbose
    assert tools.read("pcp_stop_pgpool", ["-m", "fast", "-s", "c"], "p").mode == "f"
    assert tools.read("pcp_stop_pgpool", ["-a"], "p").cluster
    assert tools.read("pcp_promote_node", ["3", "-s", "-g"], "p").switchover


@pytest.mark.parametrize(
    ("name", "argv", "code"),
    [
        ("pcp_attach_node", [], 1),
        ("pcp_attach_node", ["-n", "300"], 0),
        ("pcp_node_count", ["-p", "80"], 0),
        ("pcp_node_count", ["--nope"], 1),
        ("pcp_node_count", ["-q"], 1),
        ("pcp_node_count", ["-p"], 1),
        ("pcp_node_count", ["-V"], 0),
        ("pcp_stop_pgpool", ["-m", "x"], 1),
        ("pcp_stop_pgpool", ["-s", "x"], 1),
        ("pcp_proc_info", ["-P", "-3"], 0),
    ],
)
def test_exit_codes_without_a_server(name, argv, code, capsys):
    assert tools.run(name, argv) == code
    captured = capsys.readouterr()
    assert captured.err and not captured.out


def test_node_info_words():
    assert tools_print.node_info([NODE], False).startswith("h 5432 2 0.500000 up up standby standby 3000000 none none ")
    by_time = NodeInfo(**{f: getattr(NODE, f) for f in NODE.__slots__} | {"by_time": True, "quarantined": True})
    assert "quarantine up standby standby 3.000000 none" in tools_print.node_info([by_time], False)
    assert "Replication Delay      : 3.000000 seconds\n" in tools_print.node_info([by_time], True)
    assert tools_print.node_info([], False) == "No node information available\n\n"


def test_watchdog_words():
    document = """{"NodeCount": 1, "RemoteNodeCount": 1, "QuorumStatus": 1, "AliveNodeCount": 1, "Escalated": 0,
    "LeaderNodeName": "a", "LeaderHostName": "b", "WatchdogNodes": [{"ID": 0, "NodeName": "a", "HostName": "b",
    "DelegateIP": "", "WdPort": 9000, "PgpoolPort": 9999, "State": 4, "StateName": "LEADER", "Priority": 1,
    "Membership": 0, "MembershipString": "MEMBER"}]}"""
    assert tools_print.watchdog_info(document, False) == "2 2 NO a b\n\na b 9999 9000 4 LEADER 0 MEMBER\n"
    assert "Quorum state              : QUORUM EXIST\n" in tools_print.watchdog_info(document, True)
    with pytest.raises(Broken):
        tools_print.watchdog_info("{}", False)


# -- pg_md5, pg_enc ---------------------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "pgpool.conf"
    path.write_text("pool_passwd = 'pool_passwd'\n")
    (tmp_path / "in").write_text("bob:secret\nalice:pw:x\nbad\n:\n")
    return path


def test_md5_prints(capsys):
    assert tools_secrets.pg_md5(["postgres"]) == 0
    assert capsys.readouterr().out == "e8a48653851e28c69d0506508fb27fc5\n"


def test_md5_entries(conf, capsys):
    """Texts and hashes as Debian's pg_md5 made them."""
    for password in ("pw", "pw2"):
        assert tools_secrets.pg_md5(["-m", "-f", str(conf), "-u", "joe", password]) == 0
    assert tools_secrets.pg_md5(["-m", "-f", str(conf), "-i", str(conf.parent / "in")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "LINE#01: USER: <bob>",
        "LINE#02: USER: <alice>",
        "LINE#03: Invalid username:password pair",
        "LINE#04: Invalid username:password pair",
    ]
    made = conf.with_name("pool_passwd")
    assert made.read_text() == (
        "joe:md5f6c1957c245713e6a16fb4ccbfb97a20\n"
        "bob:md521f3163f8f86fa10bdefbfbd502a8f06\n"
        "alice:md502a0d867c0a1515f86e77fc48cca3ec4\n"
    )
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("key", "password", "text"),
    [
        ("mykey", "postgres", "AESwIPGDiHZZw3JOa4HBKphsg=="),
        ("k", "0123456789abcdef", "AESu4amIvAjqlah7XK6Y5sG7oR2gp/SIqsPvSuDASdv6rY="),
        ("k", "x" * 33, "AESZlNWEZtv8HMx1IR/dhmAOyfHt6z12lSSJDf5T9w3CQczCZ5o7o2EY6Xj+c8OyYbl"),
    ],
)
def test_enc_is_bit_compatible(key, password, text, capsys):
    """Made by Debian's pg_enc."""
    assert tools_secrets.pg_enc(["-K", key, password]) == 0
    assert capsys.readouterr().out == f"\n{text[3:]}\npool_passwd string: {text}\n"


def test_enc_key_file_and_update(conf, tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text("mykey\n")
    assert tools_secrets.pg_enc(["-k", str(key), "postgres"]) == 0
    assert capsys.readouterr().out.startswith(f"trying to read key from file {key}\n\nwIPGDiHZZw3JOa4HBKphsg==\n")
    passwd = tmp_path / "pool_passwd"
    passwd.write_text("# mine\nbob:md5x\n")
    os.chmod(passwd, 0o640)
    assert tools_secrets.pg_enc(["-m", "-K", "k", "-f", str(conf), "-i", str(tmp_path / "in")]) == 0
    assert passwd.read_text() == "# mine\nbob:AESlJlM3wBTcV9aW0Y0BHaXBA==\nalice:AESWihKRblW1WYZJdSdVfiuug==\n"
    assert passwd.stat().st_mode & 0o777 == 0o640
    assert tools_secrets.pg_enc(["-k", str(tmp_path / "none"), "x"]) == 1
    assert capsys.readouterr().err.endswith("encryption key not provided\n")


def test_no_config_file(tmp_path, capsys):
    assert tools_secrets.pg_md5(["-m", "-f", str(tmp_path / "none.conf"), "-u", "a", "pw"]) == 1
    assert capsys.readouterr().err.endswith("Unable to get configuration. Exiting...\n\n")
