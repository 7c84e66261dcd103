"""pgpool_setup: the texts of the files it makes."""

import hashlib
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from pgpool.cli import setup_build, setup_files
from pgpool.cli.setup_plan import Owner, Plan, psql_line
from pgpool.config.settings import load


def plan(**changes) -> Plan:
    facts = {
        "base": Path("/srv/a cluster"),
        "mode": "s",
        "nodes": 3,
        "port": 11000,
        "pg_port": 11002,
        "pgbin": Path("/opt/pg/bin"),
        "pgpool": Path("/opt/venv/bin/pgpool"),
        "owner": Owner("postgres", 101, 104, switch=""),
        "superuser": "postgres",
    }
    return Plan(**{**facts, **changes})


def settings_of(made: Plan, tmp_path: Path):
    file = tmp_path / "pgpool.conf"
    file.write_text(setup_files.pgpool_conf(made))
    loaded = load(str(file))
    assert loaded.messages == [], "our own file must not make our own reader complain"
    return loaded.settings


def test_files_of_streaming_mode():
    assert set(setup_files.top_files(plan())) == {
        "startall", "shutdownall", "pgpool_reload", "bashrc.ports", "README.port", "pcppass",
        "etc/pgpool.conf", "etc/pcp.conf", "etc/pool_passwd", "etc/pool_hba.conf",
        "etc/failover.sh", "etc/follow_primary.sh",
    }  # fmt: skip


def test_files_of_raw_mode_have_no_failover_scripts():
    assert not any(name.endswith(".sh") for name in setup_files.top_files(plan(mode="n")))


def test_secrets_are_not_for_all():
    modes = {name: mode for name, (_, mode) in setup_files.top_files(plan()).items()}
    assert {name for name, mode in modes.items() if not mode & 0o077} == {"pcppass", "etc/pcp.conf", "etc/pool_passwd"}
    assert modes["startall"] == 0o755


def test_pgpool_conf_says_what_the_plan_says(tmp_path):
    settings = settings_of(plan(), tmp_path)
    assert (settings.port, settings.pcp_port, settings.mode.name) == (11000, 11001, "STREAMING_REPLICATION")
    assert [(b.hostname, b.port, b.data_directory, b.application_name) for b in settings.backends] == [
        ("localhost", 11002 + node, f"/srv/a cluster/data{node}", f"server{node}") for node in range(3)
    ]
    assert [(b.health_check.period, b.health_check.user) for b in settings.backends] == [(10, "postgres")] * 3
    assert settings.sr_check_user == "postgres"
    assert settings.failover_command == (
        '"/srv/a cluster/etc/failover.sh" %d "%h" %p "%D" %m "%H" %M %P "%r" "%R" "%N" "%S"'
    )
    assert settings.pid_file_name == "/srv/a cluster/run/pgpool.pid"
    assert settings.work_dir == "/srv/a cluster/log"
    assert settings.log_per_node_statement is True


def test_pgpool_conf_of_raw_mode_and_of_the_demo(tmp_path):
    raw = settings_of(plan(mode="n"), tmp_path)
    assert (raw.mode.name, raw.failover_command) == ("RAW", "")
    assert settings_of(plan(demo=True), tmp_path).log_per_node_statement is False


def test_root_is_allowed_only_where_nobody_else_can_run_pgpool(tmp_path):
    postgres, own = Owner("postgres", 999, 999, switch="postgres"), Owner("me", 1000, 1000, switch="")
    for owner, as_owner in ((postgres, True), (postgres, False), (own, True), (own, False)):
        settings = settings_of(plan(owner=owner, pgpool_as_owner=as_owner), tmp_path)
        assert settings.allow_root is (owner is postgres and not as_owner)


def test_an_older_cluster_gets_the_permission_once(tmp_path):
    """And so does one whose programs have moved to where only root can read them."""
    me = pwd.getpwuid(os.geteuid())
    made = plan(base=tmp_path, owner=Owner(me.pw_name, me.pw_uid, me.pw_gid, switch=me.pw_name), pgpool_as_owner=False)
    conf = tmp_path / "etc" / "pgpool.conf"
    conf.parent.mkdir()
    conf.write_text("port = 5000\n")
    setup_build.let_root(made)
    setup_build.let_root(made)
    settings = load(str(conf)).settings
    assert (settings.port, settings.allow_root, conf.read_text().count("allow_root")) == (5000, True, 1)


def test_ports_files():
    files = setup_files.top_files(plan())
    assert files["README.port"][0] == (
        "#1 port is 11002\n#2 port is 11003\n#3 port is 11004\npgpool port is 11000\npcp port is 11001\n"
    )
    sourced = subprocess.run(
        ["/bin/sh", "-c", files["bashrc.ports"][0] + 'echo "$PGPOOL_PORT|$PCP_PORT|$PCPPASSFILE"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sourced.stdout == "11000|11001|/srv/a cluster/pcppass\n"


def test_password_files():
    files = setup_files.top_files(plan(superuser="alice"))
    assert files["pcppass"][0] == "localhost:11001:alice:alice\n"
    assert files["etc/pcp.conf"][0].splitlines()[-1] == "alice:" + hashlib.md5(b"alice").hexdigest()
    assert files["etc/pool_passwd"][0] == "alice:md5" + hashlib.md5(b"alicealice").hexdigest() + "\n"


@pytest.mark.parametrize("name", sorted(path.name for path in setup_files.TEMPLATES.iterdir()))
def test_scripts_are_shell_and_know_the_plan(name):
    made = plan(slots=True)
    text = setup_files.script(made, name)
    assert setup_files.MARK not in text
    subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True)
    head = text.partition("as_owner()")[0]
    said = subprocess.run(
        ["/bin/sh", "-c", head + 'echo "$BASE|$PGPOOL|$NODES|$USE_SLOTS|$USE_REWIND"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "/srv/a cluster|/opt/venv/bin/pgpool|0 1 2|1|0\n"


def test_node_conf_keeps_archives_apart():
    assert setup_files.node_conf(plan(), 1) == (
        "port = 11003\narchive_command = 'cp \"%p\" \"/srv/a cluster/archivedir/data1/%f\"'\n"
    )
    assert setup_files.node_conf(plan(demo=True), 1) == "port = 11003\n"


@pytest.mark.parametrize(("version", "name"), [(12, "wal_keep_segments"), (13, "wal_keep_size"), (18, "wal_keep_size")])
def test_postgresql_conf_uses_the_names_of_its_version(version, name):
    names = {line.split(" = ")[0] for line in setup_files.postgresql_conf(plan(), version).splitlines() if " = " in line}
    assert {line for line in names if line.startswith("wal_keep")} == {name}


def test_servers_trust_only_this_host():
    for line in setup_files.pg_hba_conf().splitlines():
        fields = line.split()
        if fields[0] == "host":
            assert fields[3] in ("127.0.0.1/32", "::1/128")


def test_psql_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert psql_line(plan(port=9999)) == "/opt/pg/bin/psql -h localhost -p 9999 -U postgres test"
