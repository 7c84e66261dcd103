"""The texts of the files that pgpool_setup makes: pure functions from a Plan, and the scripts in setup_templates/."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from pgpool.cli.setup_plan import Plan

TEMPLATES = Path(__file__).with_name("setup_templates")
MARK = "@SETTINGS@"
AS_OWNER = """

# as_owner PROGRAM ARGUMENTS: in the place of this shell, or of a ( subshell ), run by the user who owns the data;
# PostgreSQL refuses to be run by root.
as_owner() {
    if [ "$(id -u)" = 0 ]; then
        HOME=$BASE exec setpriv --reuid "$OWNER" --regid "$(id -g "$OWNER")" --clear-groups "$@"
    else
        exec "$@"
    fi
}"""


def top_files(plan: Plan) -> dict[str, tuple[str, int]]:
    """Files below the base directory: relative name -> (text, mode)."""
    files = {
        "startall": (script(plan, "startall"), 0o755),
        "shutdownall": (script(plan, "shutdownall"), 0o755),
        "pgpool_reload": (script(plan, "pgpool_reload"), 0o755),
        "bashrc.ports": (bashrc_ports(plan), 0o755),
        "README.port": (readme_port(plan), 0o644),
        "pcppass": (f"localhost:{plan.pcp_port}:{plan.superuser}:{plan.superuser}\n", 0o600),
        "etc/pgpool.conf": (pgpool_conf(plan), 0o644),
        "etc/pcp.conf": (pcp_conf(plan), 0o600),
        "etc/pool_passwd": (pool_passwd(plan), 0o600),
        "etc/pool_hba.conf": (pool_hba_conf(), 0o644),
    }
    if plan.streaming:
        files["etc/failover.sh"] = (script(plan, "failover.sh"), 0o755)
        files["etc/follow_primary.sh"] = (script(plan, "follow_primary.sh"), 0o755)
    return files


def script(plan: Plan, name: str) -> str:
    """A shell script out of setup_templates/, with the plan's facts as shell variables in the place of @SETTINGS@."""
    return (TEMPLATES / name).read_text().replace(MARK, shell_settings(plan), 1)


def shell_settings(plan: Plan) -> str:
    """What every script begins with: assignments, and the function as_owner."""
    facts = {
        "BASE": plan.base,
        "PGBIN": plan.pgbin,
        "PGPOOL": plan.pgpool,
        "OWNER": plan.owner.name,
        "PGPOOL_AS_OWNER": int(plan.pgpool_as_owner),
        "SUPERUSER": plan.superuser,
        "PGPOOL_PORT": plan.port,
        "PCP_PORT": plan.pcp_port,
        "NODES": " ".join(str(node) for node in range(plan.nodes)),
        "USE_SLOTS": int(plan.slots),
        "USE_REWIND": int(plan.rewind),
        "USE_ARCHIVE": int(not plan.demo),
        "PGPOOL_OPTIONS": "-d" if plan.debug else "",
    }
    return "\n".join(f"{name}={shlex.quote(str(value))}" for name, value in facts.items()) + AS_OWNER


def bashrc_ports(plan: Plan) -> str:
    return (
        f"export PGPOOL_PORT={plan.port}\n"
        f"export PCP_PORT={plan.pcp_port}\n"
        f"export PCPPASSFILE={shlex.quote(str(plan.base / 'pcppass'))}\n"
    )


def readme_port(plan: Plan) -> str:
    servers = "".join(f"#{node + 1} port is {port}\n" for node, port in enumerate(plan.pg_ports))
    return f"{servers}pgpool port is {plan.port}\npcp port is {plan.pcp_port}\n"


def pcp_conf(plan: Plan) -> str:
    """The PCP user has the superuser's name, and that name as password."""
    digest = hashlib.md5(plan.superuser.encode()).hexdigest()
    return f"# USERID:MD5PASSWD (pg_md5 makes the second part)\n{plan.superuser}:{digest}\n"


def pool_passwd(plan: Plan) -> str:
    digest = hashlib.md5((plan.superuser + plan.superuser).encode()).hexdigest()
    return f"{plan.superuser}:md5{digest}\n"


def pool_hba_conf() -> str:
    return (
        "# Used when enable_pool_hba = on in pgpool.conf.\n"
        "# TYPE  DATABASE  USER        ADDRESS       METHOD\n"
        "host    all       scram_user  0.0.0.0/0     scram-sha-256\n"
        "host    all       md5_user    0.0.0.0/0     md5\n"
        "local   all       scram_user                scram-sha-256\n"
        "local   all       md5_user                  md5\n"
        "local   all       all                       trust\n"
        "host    all       all         127.0.0.1/32  trust\n"
        "host    all       all         ::1/128       trust\n"
    )


def pg_hba_conf() -> str:
    """pg_hba.conf: passwords for the two users whose names say so, everybody else on this host is trusted."""
    lines = ["# Made by pgpool_setup for trying things out: whoever is on this host may be whoever they say they are."]
    for kind, where in (("local", ""), ("host", "127.0.0.1/32"), ("host", "::1/128")):
        for database, user, method in (
            ("all", "scram_user", "scram-sha-256"),
            ("all", "md5_user", "md5"),
            ("all", "all", "trust"),
            ("replication", "all", "trust"),
        ):
            lines.append(f"{kind:7} {database:11} {user:11} {where:13} {method}")
    return "\n".join(lines) + "\n"


def postgresql_conf(plan: Plan, version: int) -> str:
    """What is added to postgresql.conf; the same on all nodes, so that a copy of the primary needs no editing."""
    settings: list[tuple[str, str | int]] = [
        ("listen_addresses", "localhost"),
        ("unix_socket_directories", plan.socket_dir),
        # 32 children x 4 pooled connections of the default pgpool.conf, and room beside them.
        ("max_connections", 200),
        ("max_prepared_transactions", 10),
        ("max_wal_senders", 12),
        ("max_replication_slots", 12),
        ("wal_level", "logical" if plan.mode == "l" else "replica"),
        ("hot_standby", "on"),
        ("wal_log_hints", "on"),
        ("logging_collector", "off"),
        ("log_line_prefix", "%m [%p] %a "),
        ("wal_keep_size" if version >= 13 else "wal_keep_segments", "128MB" if version >= 13 else 8),
    ]
    if not plan.demo:
        settings += [("archive_mode", "on"), ("log_statement", "all")]
    lines = [f"{name} = {_quoted(value)}" for name, value in settings]
    return "\n# Added by pgpool_setup\n" + "\n".join(lines) + "\ninclude_if_exists = 'node.conf'\n"


def node_conf(plan: Plan, node: int) -> str:
    """node.conf: what differs between the servers. basebackup.sh writes the same for a standby."""
    text = f"port = {plan.pg_ports[node]}\n"
    if not plan.demo:
        text += f"archive_command = 'cp \"%p\" \"{plan.archive(node)}/%f\"'\n"
    return text


def pgpool_conf(plan: Plan) -> str:
    """pgpool.conf: only what differs from the defaults."""
    parts = [
        "# Made by pgpool_setup. Parameters which are not here have their defaults.",
        f"backend_clustering_mode = {_quoted(plan.clustering_mode)}",
        _section(
            "Connections",
            [
                ("listen_addresses", "localhost"),
                ("port", plan.port),
                ("unix_socket_directories", plan.socket_dir),
                ("pcp_listen_addresses", "localhost"),
                ("pcp_port", plan.pcp_port),
                ("pcp_socket_dir", plan.socket_dir),
            ],
        ),
        *(_backend(plan, node) for node in range(plan.nodes)),
        _section("Health check", _health_check(plan)),
    ]
    if plan.streaming:
        checks = [("sr_check_period", 10), ("sr_check_user", plan.superuser)]
        parts.append(_section("Streaming replication check", checks))
        parts.append(_section("Failover and recovery", _failover(plan)))
    parts.append(
        _section(
            "Files and log",
            [
                ("pid_file_name", plan.base / "run" / "pgpool.pid"),
                ("work_dir", plan.base / "log"),
                ("memqcache_oiddir", plan.base / "log" / "pgpool" / "oiddir"),
                ("logging_collector", "off"),
                ("log_line_prefix", "%m: %a pid %p: "),
                ("log_per_node_statement", "off" if plan.demo else "on"),
            ],
        )
    )
    if plan.pgpool_as_root:
        parts.append(root_section(plan))
    return "\n\n".join(parts) + "\n"


def root_section(plan: Plan) -> str:
    """The part of pgpool.conf without which pgpool does not run as root."""
    return _section(f"User {plan.owner.name} may not read where pgpool is installed", [("allow_root", "on")])


def _backend(plan: Plan, node: int) -> str:
    # As the incumbent's set-up: in logical mode the first node is the primary whatever happens.
    flag = [("backend_flag0", "ALWAYS_PRIMARY")] if plan.mode == "l" and node == 0 else []
    return _section(
        f"Node {node}",
        [
            (f"backend_hostname{node}", "localhost"),
            (f"backend_port{node}", plan.pg_ports[node]),
            (f"backend_weight{node}", 1),
            (f"backend_data_directory{node}", plan.data(node)),
            (f"backend_application_name{node}", f"server{node}"),
            *flag,
        ],
    )


def _health_check(plan: Plan) -> list[tuple[str, object]]:
    """The per-node forms, as the incumbent's set-up writes them: scripts change one node's line."""
    rows: list[tuple[str, object]] = []
    for node in range(plan.nodes):
        rows += [
            (f"health_check_period{node}", 10),
            (f"health_check_timeout{node}", 20),
            (f"health_check_user{node}", plan.superuser),
            (f"health_check_password{node}", ""),
            (f"health_check_database{node}", "postgres"),
            (f"health_check_max_retries{node}", 3),
            (f"health_check_retry_delay{node}", 1),
            (f"connect_timeout{node}", 1000),
        ]
    return rows


def _failover(plan: Plan) -> list[tuple[str, object]]:
    """Values are in double quotes for the shell: a host may be empty, a directory may hold blanks."""
    etc = plan.base / "etc"
    common = '%d "%h" %p "%D" %m "%H" %M %P "%r" "%R"'
    return [
        ("failover_command", f'"{etc}/failover.sh" {common} "%N" "%S"'),
        ("follow_primary_command", f'"{etc}/follow_primary.sh" {common}'),
        ("recovery_user", plan.superuser),
        ("recovery_password", ""),
        ("recovery_1st_stage_command", "basebackup.sh"),
    ]


def _section(title: str, rows: list[tuple[str, object]]) -> str:
    return "\n".join([f"# {title}", *(f"{name} = {_quoted(value)}" for name, value in rows)])


def _quoted(value: object) -> str:
    """A value of pgpool.conf or postgresql.conf: numbers bare, text in single quotes."""
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"
