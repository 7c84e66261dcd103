"""PCP both ways: Debian's clients and ours print the same, of Debian's server and of ours speaking 4.3; pg_md5, pg_enc."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pgpool.cli import tools_secrets
from tests.support import pcp
from tests.support.places import wait_until

from . import differences
from .conftest import SETTINGS

pytestmark = pytest.mark.versus

ASKS = [
    ["pcp_node_count"],
    ["pcp_node_count", "-v"],
    ["pcp_node_count", "-d"],
    ["pcp_node_count", "extra"],
    ["pcp_node_count", "-q"],
    ["pcp_node_count", "--nope"],
    ["pcp_node_count", "-p", "70000"],
    ["pcp_node_info"],
    ["pcp_node_info", "-v", "-a"],
    ["pcp_node_info", "0"],
    ["pcp_node_info", "-n", "7"],
    ["pcp_node_info", "-n", "200"],
    ["pcp_health_check_stats", "-n", "0"],
    ["pcp_health_check_stats", "-v", "-n", "1"],
    ["pcp_health_check_stats", "-n", "9"],
    ["pcp_health_check_stats"],
    ["pcp_pool_status"],
    ["pcp_pool_status", "-v"],
    ["pcp_proc_count"],
    ["pcp_proc_count", "-v"],
    ["pcp_proc_info", "-a"],
    ["pcp_proc_info", "-v"],
    ["pcp_proc_info", "-P", "1"],
    ["pcp_watchdog_info"],
    ["pcp_promote_node", "-n", "0"],
    ["pcp_promote_node", "-n", "9"],
    ["pcp_promote_node"],
    ["pcp_recovery_node", "-n", "0"],
    ["pcp_recovery_node", "-n", "9"],
    ["pcp_attach_node"],
    ["pcp_attach_node", "-n", "300"],
    ["pcp_detach_node", "-n", "300"],
    ["pcp_reload_config", "-s", "x"],
    ["pcp_stop_pgpool", "-m", "x"],
    ["pcp_stop_pgpool", "-s", "x"],
]
SAME_OF_BOTH_SERVERS = [ask for ask in ASKS if ask[0] in ("pcp_promote_node", "pcp_recovery_node", "pcp_watchdog_info")]


@pytest.fixture(scope="module")
def servers(cluster, shared, debian_pgpool):
    made = shared(**SETTINGS, pcp_protocol_version="4.3")
    if getattr(made, "binary", "") != "ours":
        pytest.skip("needs our pgpool")
    return {"theirs": debian_pgpool, "ours": made}


@pytest.mark.parametrize("which", ["theirs", "ours"])
@pytest.mark.parametrize("ask", ASKS, ids=" ".join)
def test_both_clients_print_the_same(servers, which, ask):
    server = servers[which]

    def same() -> bool:
        """What is measured may change between two asks: then both are asked again."""
        nonlocal theirs, ours
        theirs = pcp.debian(server, *ask)
        ours = pcp.ours(server, *ask, program=f"/usr/sbin/{ask[0]}")
        return ours == theirs

    theirs = ours = None
    for _ in range(5):
        if same():
            return
    assert ours == theirs


@pytest.mark.parametrize("ask", SAME_OF_BOTH_SERVERS, ids=" ".join)
def test_both_servers_refuse_with_the_same_words(servers, ask):
    answers = [pcp.debian(servers[which], *ask) for which in ("theirs", "ours")]
    differences.check(f"pcp/{'_'.join(ask)}", *[f"{code}\n{out}{err}" for code, out, err in answers])


def test_a_wrong_password(servers):
    """Debian's client at our server: exit code 1 and its own words."""
    words = []
    for server in servers.values():
        path = pcp.pass_file(server)
        right = path.read_text()
        path.write_text(right.replace(":postgres\n", ":wrong\n"))
        try:
            words.append(pcp.debian(server, "pcp_node_count"))
            assert pcp.ours(server, "pcp_node_count") == words[-1]
        finally:
            path.write_text(right)
    assert words[0] == words[1] and words[0][0] == 1


def test_detach_and_attach_by_debians_clients(servers, make_pgpool):
    made = make_pgpool({**SETTINGS, "pcp_protocol_version": "4.3"})

    def status() -> str:
        return pcp.debian(made, "pcp_node_info", "1")[1].split()[2]

    for tool, wanted in (("pcp_detach_node", "3"), ("pcp_attach_node", "12")):
        assert pcp.debian(made, tool, "-n", "1") == (0, f"{tool} -- Command Successful\n", "")
        wait_until(lambda wanted=wanted: status() in wanted, f"{tool} to be done")
    assert pcp.debian(made, "pcp_stop_pgpool", "-m", "f")[:2] == (0, "pcp_stop_pgpool -- Command Successful\n")
    assert made.process.wait(30) == 0


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("pg_md5", ["secret"]),
        ("pg_md5", [""]),
        ("pg_md5", ["-h"]),
        ("pg_md5", []),
        ("pg_md5", ["-z"]),
        ("pg_md5", ["-i", "FILE"]),
        ("pg_md5", ["-i", "/none"]),
        ("pg_enc", ["-K", "key", "päss"]),
        ("pg_enc", ["-K", "key", "-i", "FILE"]),
        ("pg_enc", ["-h"]),
        ("pg_enc", ["-k", "/none", "x"]),
        ("pg_enc", []),
    ],
)
def test_secrets(need_debian, tool, words, tmp_path, capsys, monkeypatch):
    (tmp_path / "in").write_text("a:b\nc\nd:e:f\n")
    words = [word.replace("FILE", str(tmp_path / "in")) for word in words]
    program = [f"/usr/sbin/{tool}", *words]
    done = subprocess.run(program, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    monkeypatch.setattr(sys, "argv", [f"/usr/sbin/{tool}"])
    with open("/dev/null") as null:
        monkeypatch.setattr(sys, "stdin", null)
        code = getattr(tools_secrets, tool)(words)
    captured = capsys.readouterr()
    version = r"^pgpool-II version .*,$"
    theirs, ours = (re.sub(version, "<version>,", text, flags=re.M) for text in (done.stdout, captured.out))
    assert (code, ours, captured.err) == (done.returncode, theirs, done.stderr)
