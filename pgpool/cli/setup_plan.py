"""What pgpool_setup is going to make: paths, ports, users. No action here."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FIRST_PORT = 11000
DEMO_PORT = 9999
MODES = {
    "s": ("streaming_replication", "streaming replication"),
    "n": ("raw", "raw"),
    "r": ("native_replication", "native replication"),
    "l": ("logical_replication", "logical replication"),
    "i": ("snapshot_isolation", "snapshot isolation"),
}
"""Letter of -m -> (backend_clustering_mode, words in messages)."""
MODES_NOT_YET = ("r", "i")


class SetupFailed(Exception):
    """The set-up cannot go on. ``log`` is the file that tells more, when there is one."""

    def __init__(self, message: str, log: str | Path = ""):
        super().__init__(message)
        self.log = str(log)


@dataclass(frozen=True)
class Owner:
    """The user that servers run as. ``switch`` is that user's name when we are root and must change to it, else ''."""

    name: str
    uid: int
    gid: int
    switch: str


@dataclass(frozen=True)
class Plan:
    """One cluster: ``nodes`` PostgreSQL servers and a pgpool below the directory ``base``."""

    base: Path
    mode: str
    nodes: int
    port: int
    pg_port: int
    pgbin: Path
    pgpool: Path
    owner: Owner
    superuser: str
    socket_dir: str = "/tmp"
    initdb_args: tuple[str, ...] = ("--no-locale", "-E", "UTF8", "-k")
    slots: bool = False
    rewind: bool = False
    debug: bool = False
    demo: bool = False
    pgpool_as_owner: bool = True

    def __post_init__(self) -> None:
        # The path goes into shell commands inside quoted values of two configuration languages.
        if any(char in str(self.base) for char in "'\"\\$`\n%"):
            raise SetupFailed(f"{self.base}: the name has a character that commands in pgpool.conf cannot carry")
        if self.nodes < 1:
            raise SetupFailed("-n needs a number of 1 or more")
        ports = [self.port, self.pcp_port, *self.pg_ports]
        if min(ports) < 1024 or max(ports) > 65535:
            raise SetupFailed(f"ports {min(ports)} to {max(ports)} are needed, but only 1024 to 65535 can be used")
        if len(set(ports)) < len(ports):
            raise SetupFailed(f"the ports of PostgreSQL (-pg {self.pg_port}) and of pgpool (-p {self.port}) overlap")

    @property
    def pgpool_as_root(self) -> bool:
        """Root makes the cluster, and the user who runs the servers cannot run pgpool."""
        return bool(self.owner.switch) and not self.pgpool_as_owner

    @property
    def pcp_port(self) -> int:
        return self.port + 1

    @property
    def pg_ports(self) -> list[int]:
        return [self.pg_port + node for node in range(self.nodes)]

    @property
    def streaming(self) -> bool:
        return self.mode == "s"

    @property
    def clustering_mode(self) -> str:
        return MODES[self.mode][0]

    @property
    def mode_words(self) -> str:
        return MODES[self.mode][1]

    @property
    def setup_log(self) -> Path:
        return self.base / "pgpool_setup.log"

    @property
    def pgpool_log(self) -> Path:
        return self.base / "log" / "pgpool.log"

    def data(self, node: int) -> Path:
        return self.base / f"data{node}"

    def archive(self, node: int) -> Path:
        return self.base / "archivedir" / f"data{node}"

    def server_log(self, node: int) -> Path:
        return self.base / "log" / f"data{node}.log"

    def tool(self, name: str) -> str:
        """Path of a PostgreSQL program."""
        return str(self.pgbin / name)

    def environment(self) -> dict[str, str]:
        """For every program we run: nothing of the caller's PG* settings, messages in English."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG") and key != "LANGUAGE"}
        if libraries := os.environ.get("PGLIB"):
            kept["LD_LIBRARY_PATH"] = libraries
        return {**kept, "LC_ALL": "C", "HOME": str(self.base)}


def plan_from(options: argparse.Namespace, environment: Mapping[str, str], **found: object) -> Plan:
    """The plan of a command line; ``found`` holds what the machine gives: base, pgbin, pgpool, owner, superuser."""
    port = options.port if options.port is not None else DEMO_PORT if options.demo else FIRST_PORT
    facts: dict = {
        "mode": options.mode,
        "nodes": options.nodes,
        "port": port,
        "pg_port": options.pg_port if options.pg_port is not None else port + 2,
        "socket_dir": environment.get("PGSOCKET_DIR") or "/tmp",
        "slots": options.slots or environment.get("USE_REPLICATION_SLOT") == "true",
        "rewind": options.rewind or environment.get("USE_PG_REWIND") == "true",
        "debug": options.debug,
        "demo": options.demo,
    }
    if environment.get("INITDBARG"):
        facts["initdb_args"] = tuple(shlex.split(environment["INITDBARG"]))
    return Plan(**facts, **found)


def psql_line(plan: Plan) -> str:
    """The line to type to get a psql through pgpool; psql's path where the name alone would not find it."""
    psql = "psql" if _in_path("psql") else plan.tool("psql")
    return f"{psql} -h localhost -p {plan.port} -U {plan.superuser} test"


def pgbench_lines(plan: Plan) -> list[str]:
    """Lines to type for a first pgbench through pgpool."""
    pgbench = "pgbench" if _in_path("pgbench") else plan.tool("pgbench")
    target = f"-h localhost -p {plan.port} -U {plan.superuser}"
    return [f"{pgbench} {target} -i test", f"{pgbench} {target} -S -c 4 -T 10 test"]


def _in_path(program: str) -> bool:
    return any(os.access(os.path.join(place, program), os.X_OK) for place in os.get_exec_path())
