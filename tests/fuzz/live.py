"""Bytes against a running pgpool, by plain sockets: nobody may die, hang, leak, or be let in who has not proved himself."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from bench.targets import tls_settings
from pgpool.wire import pcp
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import SESSION
from tests.support.pgpool import Pgpool
from tests.support.places import short_dir, wait_until
from tests.support.postgres import Cluster
from tests.support.wire import GSSENC_REQUEST, PROTOCOL_3_2, SSL_REQUEST, cancel_request, msg, startup

SETTINGS: dict[str, object] = {
    "num_init_children": 4, "max_pool": 2, "enable_pool_hba": True, "authentication_timeout": 3, "client_idle_limit": 3,
}  # fmt: skip
FILES = {
    "pool_hba.conf": "host all postgres all trust\nhost all md all md5\nhost all clear all password\n"
    "host all all all scram-sha-256\n",
    "pool_passwd": "scram:TEXTsecret of nobody\nmd:TEXTsecret of nobody\nclear:TEXTsecret of nobody\n",
}
"""Only postgres comes in; nobody knows the others' passwords."""
USERS = (b"scram", b"md", b"clear", b"nobody")
GREETING = struct.pack("!cii", b"R", 8, 0)
SASL = (
    msg("p", b"SCRAM-SHA-256\0" + struct.pack("!i", 12) + b"n,,n=,r=abcd"),
    msg("p", b"c=biws,r=abcd,p=" + b"A" * 43 + b"="), msg("p", b"password\0"), msg("p", b"md5" + b"0" * 32 + b"\0"),
)  # fmt: skip
WORDS = (
    b"Q\0\0\0\rSELECT 1\0", b"S\0\0\0\4", b"H\0\0\0\4", b"B\0\0\0\x0c\0\0\0\0\0\0\0\0", b"p\0\0\0\5\0",
    b"\0\0\0\x08\4\xd2\x16\x2f",
)  # fmt: skip
DOORS = (
    startup(user="postgres", database="app"), startup(PROTOCOL_3_2, user="postgres", database="app"), SSL_REQUEST,
    GSSENC_REQUEST, cancel_request(1, b"abcd"), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    connections: int = 0
    bytes: int = 0
    kinds: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def attack(pgpool: Pgpool, seconds: float, seed: int) -> Outcome:
    """Connections one after the other, some of them left open for a while."""
    dice, outcome, end = random.Random(seed), Outcome(), time.monotonic() + seconds
    left: list[socket.socket] = []
    while time.monotonic() < end:
        kind = dice.choice(("door", "session", "login", "login", "random", "pcp", "tls"))
        data = _bytes(dice, kind)
        outcome.kinds[kind] += 1
        sock = socket.create_connection((pgpool.host, pgpool.pcp_port if kind == "pcp" else pgpool.port), 5)
        left.append(sock)
        outcome.connections += 1
        outcome.bytes += len(data)
        with contextlib.suppress(OSError):
            if kind == "tls":
                left[-1] = sock = _encrypted(sock)
            answer = _talk(dice, sock, data)
            if kind == "login" and GREETING in answer:
                outcome.faults.append(f"let in without a password, seed {seed}: {data!r} -> {answer!r}")
        if len(left) > 3 or dice.random() > 0.02:
            left.pop().close()  # else it stays a while, and says nothing more
        if left and dice.random() < 0.05:
            left.pop(0).close()
    for sock in left:
        sock.close()
    return outcome


def _bytes(dice: random.Random, kind: str) -> bytes:
    if kind == "door":
        return mutated(dice, DOORS, WORDS)
    if kind in ("session", "tls"):
        return dice.choice(DOORS[:2]) + mutated(dice, (SESSION,), WORDS)
    if kind == "login":
        # whatever follows: this user has no way in
        return startup(user=dice.choice(USERS).decode(), database="app") + mutated(dice, SASL, (*DOORS, *WORDS))
    if kind == "pcp":
        return mutated(dice, (msg("M") + pcp.login("postgres", "0" * 32), msg("I", b"0\0"), msg("T", b"f")), WORDS)
    return dice.randbytes(dice.randint(1, 300))


def _talk(dice: random.Random, sock: socket.socket, data: bytes) -> bytes:
    """Send in pieces, read what comes at once, and leave in one of several ways."""
    sock.settimeout(0.05)
    answer = b""
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randint(0, 3)))
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        sock.sendall(data[begin:end])
        if dice.random() < 0.3:
            answer += _read(sock)
    way = dice.randrange(4)
    if way == 0:
        sock.shutdown(socket.SHUT_WR)
    if way == 1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return answer + _read(sock) if way < 3 else answer


def _encrypted(sock: socket.socket) -> socket.socket:
    """The same connection under TLS, in which the bytes go on; ssl.SSLError is an OSError."""
    sock.settimeout(3)
    sock.sendall(SSL_REQUEST)
    if sock.recv(1) != b"S":
        raise OSError("no TLS")
    return ssl._create_unverified_context().wrap_socket(sock)


def _read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def check(pgpool: Pgpool, cluster: Cluster, before: dict[int, psutil.Process]) -> list[str]:
    """What is wrong afterwards: children lost or stuck, memory or descriptors gone, backends that work on for nobody."""
    faults = []

    def quiet() -> bool:
        rows = pgpool.show("pool_processes")
        return sum(row["status"] != "Wait for connection" for row in rows) <= 1  # who asks

    try:
        wait_until(quiet, "all children to wait for clients", 15, pause=0.2)
    except TimeoutError:
        faults.append(f"stuck: {pgpool.show('pool_processes')}")
    for pid, process in before.items():
        if not process.is_running():
            faults.append(f"process {pid} is gone")
            continue
        if process.memory_info().rss > 400 << 20 or process.num_fds() > 100:
            faults.append(f"process {pid}: {process.memory_info().rss >> 20} MB, {process.num_fds()} descriptors")
    for node in cluster.nodes:
        if busy := node.backends("state = 'active' AND usename = 'postgres' AND pid <> pg_backend_pid()"):
            faults.append(f"backends still at work: {busy}")
    for word in ("unexpected error", "Traceback", "killed by signal", "internal error"):
        if word in pgpool.log_text():
            faults.append(f'"{word}" is in the log')
    return faults


def run(pgpool: Pgpool, cluster: Cluster, seconds: float, seed: int) -> Outcome:
    """Attack, and look; the faults are in the outcome."""
    before = {process.pid: process for process in pgpool.family() if "PCP: processing" not in " ".join(process.cmdline())}
    outcome = attack(pgpool, seconds, seed)
    outcome.faults += check(pgpool, cluster, before)
    with pgpool.connect() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    return outcome


def main(seconds: int, seed: int) -> None:
    cluster = Cluster()
    pgpool = None
    place = short_dir("pgp")
    try:
        cluster.create()
        pgpool = Pgpool(cluster.nodes, {**SETTINGS, **tls_settings(place)}, files=FILES).start()
        outcome = run(pgpool, cluster, seconds, seed)
        print(outcome.connections, "connections", outcome.bytes, "bytes", dict(outcome.kinds))
        print("\n".join(outcome.faults) or "no fault")
    finally:
        if pgpool is not None:
            pgpool.remove()
        cluster.remove()
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(1 if outcome.faults else 0)
