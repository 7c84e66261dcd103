"""Online recovery without the extension (recovery_method = pg_basebackup or pg_rewind, ours): pgpool itself runs
PostgreSQL's programs, where the data directory of the node can be reached from its host.

They run as the OS user who owns the data directory. Nothing is touched before it is certain that the directory belongs
to this cluster and that no server runs on it; a full copy takes its place only when it is complete.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config.settings import BackendConf
from ..errors import StatementError
from ..system import process
from .desk import Desk

NEW, OLD = ".recovery", ".replaced"
"""The copy while it is made, and the old directory while it makes room: names beside the data directory."""
_IDENTIFIER = re.compile(r"^Database system identifier:\s+(\d+)$", re.MULTILINE)


class Unfit(StatementError):
    """The step cannot be done; ``detail`` says why."""

    def __init__(self, reason: str, hint: str = ""):
        super().__init__("", detail=reason, hint=hint)


@dataclass(slots=True)
class Source:
    """Where the copy comes from: the primary, how to log in there, what it says of itself."""

    backend: BackendConf
    user: str
    password: str
    database: str
    identifier: str
    bindir: str


class Directory:
    """The data directory of the node that is recovered."""

    def __init__(self, desk: Desk, target: BackendConf, source: Source):
        self.desk = desk
        self.target = target
        self.source = source
        self.path = Path(target.data_directory.rstrip("/") or "/")
        self.log = desk.settings.resolve(os.path.join(desk.settings.work_dir, f"recovery_node{target.id}.log"))
        self.uid = self.gid = -1
        self.user = ""
        """Whom to change to; '' when we are that user."""

    # -- looking ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """May this directory be replaced? Raises Unfit."""
        path = self.path
        if not self.target.data_directory.startswith("/") or len(path.parts) < 3:
            raise Unfit(f"backend_data_directory{self.target.id} is no absolute path below another directory")
        if not path.exists() and path.with_name(path.name + OLD).is_dir():
            path.with_name(path.name + OLD).rename(path)  # a recovery that was killed had just moved it away
        try:
            info = path.lstat()
        except OSError as err:
            raise Unfit(f"{path}: {err.strerror}", "the directory must be reachable from the host of pgpool") from None
        if not stat.S_ISDIR(info.st_mode):
            raise Unfit(f"{path} is not a directory")
        self._become(info)
        names = os.listdir(path)
        if names and "PG_VERSION" not in names:
            raise Unfit(f"{path} is neither empty nor a data directory of PostgreSQL")
        for backend in self.desk.settings.backends:
            other = Path(backend.data_directory) if backend.id != self.target.id else None
            if other and backend.hostname == self.target.hostname and other.resolve() == path.resolve():
                raise Unfit(f"{path} is the data directory of node {backend.id} as well")
        self._check_no_server()
        if names:
            self._check_identifier()

    def _become(self, info: os.stat_result) -> None:
        self.uid, self.gid = info.st_uid, info.st_gid
        if os.geteuid() == self.uid:
            if self.uid == 0:
                raise Unfit(f"{self.path} belongs to root, and PostgreSQL cannot run as root")
            return
        try:
            self.user = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            raise Unfit(f"{self.path} belongs to user {self.uid}, who has no name") from None
        if os.geteuid() != 0:
            raise Unfit(f"{self.path} belongs to user {self.user}, and pgpool runs neither as that user nor as root")

    def _check_no_server(self) -> None:
        try:
            first = (self.path / "postmaster.pid").read_text().split("\n", 1)[0]
        except FileNotFoundError:
            return
        if first.strip().isdigit() and process.alive(int(first)):
            raise Unfit(f"a server (pid {first.strip()}) runs on {self.path}", "stop it first")

    def _check_identifier(self) -> None:
        code, text = process.run([self._tool("pg_controldata"), str(self.path)], user=self.user, env=_environment())
        found = _IDENTIFIER.search(text)
        if code or found is None:
            raise Unfit(f"{self.path}: pg_controldata cannot read it")
        if found[1] != self.source.identifier:
            raise Unfit(f"{self.path} holds another cluster: its system identifier is not that of the primary")

    # -- acting -------------------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """A full copy by pg_basebackup; the node's own *.conf files stay."""
        path = self.path
        new, old = (path.with_name(path.name + ending) for ending in (NEW, OLD))
        try:
            for leftover in (new, old):
                if leftover.exists():
                    shutil.rmtree(leftover)
            new.mkdir(mode=0o700)
            os.chown(new, self.uid, self.gid, follow_symlinks=False)
            self._run("pg_basebackup", "-D", str(new), "-d", self._conninfo(), "-R", "-X", "stream", "-c", "fast")
            own = self._keep_conf(path, new)
            if not own:
                append = 'printf "port = %s\\n" "$1" >>"$2"'
                self._as_owner("/bin/sh", "-c", append, "sh", str(self.target.port), str(new / "postgresql.auto.conf"))
            path.rename(old)
            new.rename(path)
            shutil.rmtree(old)
        except OSError as err:
            raise Unfit(f"{err.filename or path}: {err.strerror}") from None

    def rewind(self) -> None:
        """pg_rewind; it brings the primary's configuration along, so the node's own *.conf files are put back."""
        if not (self.path / "PG_VERSION").exists():
            raise Unfit(f"{self.path} is empty: there is nothing to rewind", "recovery_method = pg_basebackup copies all")
        kept = self.path.with_name(self.path.name + NEW)
        try:
            if kept.exists():
                shutil.rmtree(kept)
            kept.mkdir(mode=0o700)
            os.chown(kept, self.uid, self.gid, follow_symlinks=False)
            self._keep_conf(self.path, kept)
            try:
                hint = "recovery_method = pg_basebackup makes a full copy"
                source = f"--source-server={self._conninfo()}"
                self._run("pg_rewind", "-D", str(self.path), source, "-R", hint=hint)
            finally:
                self._keep_conf(kept, self.path)
                shutil.rmtree(kept)
        except OSError as err:
            raise Unfit(f"{err.filename or self.path}: {err.strerror}") from None

    def _keep_conf(self, old: Path, new: Path) -> bool:
        """Copy what an administrator writes; False when there is nothing."""
        found = [str(file) for file in old.glob("*.conf") if file.name != "postgresql.auto.conf" and file.is_file()]
        if found:
            self._as_owner("cp", "-a", "--remove-destination", *found, f"{new}/")
        return bool(found)

    def _as_owner(self, *argv: str) -> None:
        """Files in a directory of the owner's are never touched as root: a link there could lead anywhere."""
        code, text = process.run(argv, user=self.user, env=_environment())
        if code:
            raise Unfit(f"{argv[0]}: {text.strip()}")

    def start(self) -> None:
        """Start the server; what it writes before it has a log of its own goes to the log of the recovery."""
        self._run("pg_ctl", "-w", "-s", "-t", str(self.desk.settings.recovery_timeout), "-D", str(self.path), "start")

    def _conninfo(self) -> str:
        source = self.source
        facts = {
            "host": source.backend.hostname or "/tmp",
            "port": str(source.backend.port),
            "user": source.user,
            "dbname": source.database,
            "application_name": self.target.application_name,
        }
        quoted = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in facts.items() if value}
        return " ".join(f"{key}='{value}'" for key, value in quoted.items())

    def _tool(self, name: str) -> str:
        """PostgreSQL's program: where the primary has it, else in PATH."""
        beside = os.path.join(self.source.bindir, name)
        found = beside if os.access(beside, os.X_OK) else shutil.which(name)
        if found is None:
            raise Unfit(f"{name} is not on the host of pgpool (looked for in {self.source.bindir} and in PATH)")
        return found

    def _run(self, name: str, *arguments: str, hint: str = "") -> None:
        environment = _environment()
        if self.source.password and name != "pg_ctl":
            environment["PGPASSWORD"] = self.source.password
        code = process.run_watched(
            [self._tool(name), *arguments], self.desk.pause, output=self.log, user=self.user, env=environment
        )
        if code:
            raise Unfit(f"{name} ended with exit code {code}; its output is in {self.log}", hint)


def _environment() -> dict[str, str]:
    """Nothing of pgpool's own PG* variables; messages in English."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


METHODS: dict[str, tuple[str, Callable[[Directory], None]]] = {
    "pg_basebackup": ("pg_basebackup", Directory.copy),
    "pg_rewind": ("pg_rewind", Directory.rewind),
}
"""recovery_method -> (what is done, in words, and the function)."""
