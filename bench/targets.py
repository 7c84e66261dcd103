"""What pgbench talks to: PostgreSQL itself, a byte relay, PgBouncer, Debian's pgpool2, ours. All before one cluster."""

from __future__ import annotations

import compileall
import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import psutil
import psycopg

import pgpool
from bench import pgbench, procs
from tests.support.pgpool import DEBIAN, Pgpool
from tests.support.places import free_port, give, pg_bin, server_user, short_dir, spawn, wait_until
from tests.support.postgres import Cluster

CHILDREN = 32
DATABASE = "app"

#: PostgreSQL shall not be the bottleneck: no waiting for disks, everything in memory, no background work in a cell.
POSTGRES = {
    "shared_buffers": "512MB",
    "synchronous_commit": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "wal_buffers": "64MB",
    "jit": "off",
    "max_connections": "900",
}

#: For both pgpools. Parameters whose default changed over the versions are named, so that both run alike.
PGPOOL = {
    "num_init_children": CHILDREN,
    "max_pool": 4,
    "load_balance_mode": True,
    "sr_check_period": 10,
    "health_check_period": 0,
    "log_min_messages": "warning",
}


def make_cluster(scale: int) -> Cluster:
    """A primary and a streaming standby with pgbench's tables on both, read once into memory."""
    cluster = Cluster(settings=POSTGRES)
    try:
        cluster.create()
        primary = cluster.primary
        argv = [str(pg_bin() / "pgbench"), "-i", "-q", "-s", str(scale), "-h", primary.host, "-p", str(primary.port)]
        done = subprocess.run(
            [*argv, "-U", "postgres", DATABASE], capture_output=True, text=True, env=pgbench.clean_env(), cwd="/"
        )
        if done.returncode != 0:
            raise RuntimeError(f"pgbench -i failed: {done.stderr}")
        primary.execute("CHECKPOINT")
        cluster.wait_for_catchup()
        for node in cluster.nodes:
            node.execute("SELECT sum(abalance), count(bid) FROM pgbench_accounts")
    except BaseException:
        cluster.remove()
        raise
    return cluster


def tidy(cluster: Cluster) -> None:
    """What pgbench does before a run unless -n is given (it would go through the proxy); then a quiet standby."""
    for table in ("pgbench_branches", "pgbench_tellers"):
        cluster.primary.execute(f"VACUUM {table}")
    cluster.primary.execute("TRUNCATE pgbench_history")
    cluster.wait_for_catchup()


class Target:
    """Something with host and port. `pid` is the parent of all its processes, None where there is no proxy."""

    name = ""
    host = "127.0.0.1"
    port = 0
    process: subprocess.Popen | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    def start(self) -> None:
        """Start and wait until a query is answered; raises RuntimeError or TimeoutError."""

    def stop(self) -> None:
        """Stop and remove everything; never raises for a server that is gone."""

    def alive(self) -> bool:
        return self.process is None or self.process.poll() is None

    def answers(self) -> bool:
        """A query through it succeeds now."""
        if not self.alive():
            raise RuntimeError(f"{self.name} ended with {self.process.returncode if self.process else None}")
        try:
            with psycopg.connect(
                host=self.host, port=self.port, user="postgres", dbname=DATABASE, connect_timeout=5
            ) as conn:
                conn.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


class Direct(Target):
    name = "direct"

    def __init__(self, cluster: Cluster):
        self.port = cluster.primary.port


class Spawned(Target):
    """A program of which we need a directory, a log and a port."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.port = free_port()
        self.place = short_dir("pgb")
        self.log = self.place / "log"
        self.log.touch()

    def command(self) -> list[str | Path]:
        raise NotImplementedError

    def start(self) -> None:
        command = self.command()
        give(self.place)
        self.process = spawn(command, user=server_user(), log=self.log)
        try:
            wait_until(self.answers, f"{self.name} to answer on port {self.port}", 20)
        except (RuntimeError, TimeoutError) as error:
            raise RuntimeError(f"{error}\n{self.log.read_text()[-2000:]}") from error

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            members = procs.family(self.process.pid)
            self.process.terminate()
            psutil.wait_procs(members[1:], timeout=10)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        shutil.rmtree(self.place, ignore_errors=True)


class Relay(Spawned):
    """relay.c: poll, read, write; to the primary only."""

    name = "relay"
    children = CHILDREN

    def command(self) -> list[str | Path]:
        program = self.place / "relay"
        source = Path(__file__).with_name("relay.c")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise RuntimeError("the relay needs a C compiler (cc)")
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)
        return [program, str(self.port), str(self.cluster.primary.port), str(self.children)]


class PgBouncer(Spawned):
    """Session pooling, as many server connections as the pgpools have children; to the primary only."""

    name = "pgbouncer"

    def __init__(self, cluster: Cluster, settings: dict[str, object] | None = None):
        super().__init__(cluster)
        self.settings = settings or {}

    def command(self) -> list[str | Path]:
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(program).exists():
            raise RuntimeError("pgbouncer is not installed")
        primary = self.cluster.primary
        (self.place / "users").write_text('"postgres" ""\n')
        (self.place / "pgbouncer.ini").write_text(
            f"[databases]\n{DATABASE} = host={primary.host} port={primary.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = {self.host}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self.place}/users\n"
            f"pool_mode = session\ndefault_pool_size = {CHILDREN}\nmax_client_conn = 500\n"
            "log_connections = 0\nlog_disconnections = 0\n" + self.tls()
        )
        return [program, self.place / "pgbouncer.ini"]


    def tls(self) -> str:
        if not self.settings.get("ssl"):
            return ""
        cert, key = self.settings["ssl_cert"], self.settings["ssl_key"]
        return f"client_tls_sslmode = require\nclient_tls_cert_file = {cert}\nclient_tls_key_file = {key}\n"


def tls_settings(place: Path) -> dict[str, object]:
    """For pgpool.conf: TLS with clients, with a new certificate (RSA, 2048 bits) in ``place``. The backends have no TLS."""
    cert, key = place / "bench.crt", place / "bench.key"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=localhost"]
    subprocess.run([*argv, "-out", cert, "-keyout", key], check=True, capture_output=True)
    key.chmod(0o600)
    give(place)
    return {"ssl": True, "ssl_cert": cert, "ssl_key": key}


def encrypted(target: Target) -> str:
    """The cipher that libpq's defaults (and so pgbench) lead to; '' without TLS."""
    with psycopg.connect(host=target.host, port=target.port, user="postgres", dbname=DATABASE) as conn:
        if not conn.pgconn.ssl_in_use:
            return ""
        return conn.pgconn.ssl_attribute(b"cipher").decode() if hasattr(conn.pgconn, "ssl_attribute") else "TLS"


class PgpoolTarget(Target):
    """A pgpool on the one pgpool.conf of the bench; `binary` is 'debian' or 'ours'.

    Both get the same text but for their ports and their own directory, with the parameter names of 4.3.
    """

    def __init__(self, cluster: Cluster, binary: str, settings: dict[str, object] | None = None, maker: type = Pgpool):
        if binary == "debian" and not DEBIAN.exists():
            raise RuntimeError(f"{DEBIAN} is not installed")
        self.name = "pgpool2" if binary == "debian" else "ours"
        if binary == "ours":
            # As pip does when it installs: else each start would compile what has changed since.
            compileall.compile_dir(Path(pgpool.__file__).parent, quiet=2)
        self.pgpool = maker(cluster.nodes, {**PGPOOL, **(settings or {})}, binary=binary)
        place = self.pgpool.place
        self.pgpool.write_conf(unix_socket_directories=None, work_dir=None, socket_dir=place, logdir=place)
        self.port = self.pgpool.port

    def conf(self) -> str:
        """pgpool.conf with ports and directory masked, but for who may start it: the same for both pgpools."""
        text = self.pgpool.conf.read_text().replace(str(self.pgpool.place), "PLACE")
        text = re.sub(r"^(port|pcp_port) = \d+$", r"\1 = PORT", text, flags=re.MULTILINE)
        lines = text.splitlines(keepends=True)
        return "".join(sorted(line for line in lines if not line.startswith("allow_root ")))

    def start(self) -> None:
        self.pgpool.start()
        self.process = self.pgpool.process

    def log_tail(self) -> str:
        return self.pgpool.log_text()[-1500:]

    def stop(self) -> None:
        with contextlib.suppress(Exception):
            self.pgpool.remove(check=False)


def make(name: str, cluster: Cluster, settings: dict[str, object] | None = None) -> Target:
    """The target called `name`, not started. Raises RuntimeError when its program is not installed."""
    if name in ("pgpool2", "ours"):
        return PgpoolTarget(cluster, "debian" if name == "pgpool2" else "ours", settings)
    if name == "pgbouncer":
        return PgBouncer(cluster, settings)
    return {"direct": Direct, "relay": Relay}[name](cluster)
