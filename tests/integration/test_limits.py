"""Limits before trust: what somebody who has not logged in can take from the others."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import psutil
import pytest

from tests.support.servers import wait_until
from tests.support.wire import SSL_REQUEST, startup

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture(scope="module")
def door(shared):
    return shared(num_init_children=6, max_logins_per_host=2, authentication_timeout=5)


def silent(pgpool, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((pgpool.host, pgpool.port), 10, (source, 0))


def knock(pgpool, source: str, said: bytes, held: list[socket.socket]) -> bool:
    """One more from there: is it sent away? Who is left waiting is held."""
    sock = silent(pgpool, source)
    sock.sendall(said)
    sock.settimeout(1)
    with contextlib.suppress(TimeoutError):
        answer = sock.recv(1000)
        if answer == b"N":
            answer = sock.recv(1000)
        assert b"C53300\0" in answer and f"too many connections from {source} are logging in".encode() in answer
        assert sock.recv(1) == b""
        sock.close()
        return True
    held.append(sock)
    return False


def test_one_host_cannot_take_all_children(shared):
    """One after the other: the first two may wait for as long as a login may take."""
    door = shared(num_init_children=6, max_logins_per_host=2, authentication_timeout=60)
    held: list[socket.socket] = []
    try:
        for said in (startup(user="postgres", database="app")[:9], SSL_REQUEST):
            assert not knock(door, "127.0.0.3", said, held)
        for said in (b"", SSL_REQUEST, b""):
            assert knock(door, "127.0.0.3", said, held)
        # others come in, as often as they like: who has logged in does not count
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(door.connect()) for _ in range(4)]
            assert all(conn.execute("SELECT 1").fetchone() == (1,) for conn in sessions)
    finally:
        for sock in held:
            sock.close()

    def welcome() -> bool:
        with silent(door, "127.0.0.3") as again:
            again.sendall(startup(user="postgres", database="app"))
            return again.recv(1) == b"R"

    wait_until(welcome, "the host to be let in again", 10)


def test_limits_hold_for_bytes_and_time_together(door):
    """Every way to stay without logging in ends at authentication_timeout, at no cost of memory or processor."""
    used = sum(sum(p.cpu_times()[:2]) for p in door.family())
    began = time.monotonic()
    with silent(door, "127.0.0.4") as dripping, silent(door, "127.0.0.4") as half:
        half.sendall(startup(user="postgres", database="app")[:30])
        dripping.sendall(b"\0\0\x27\x10")  # promises the longest packet there is
        ended = set()
        while len(ended) < 2 and time.monotonic() - began < 15:
            for sock in {dripping, half} - ended:
                sock.settimeout(0.3)
                try:
                    if sock.recv(100) == b"":
                        ended.add(sock)
                    elif sock is dripping:
                        sock.sendall(b"\0")
                except TimeoutError:
                    pass
                except OSError:
                    ended.add(sock)
    assert len(ended) == 2 and 4 < time.monotonic() - began < 10
    assert sum(sum(p.cpu_times()[:2]) for p in door.family()) - used < 1
    assert all(p.memory_info().rss < 200 << 20 for p in door.family())


def test_memory_is_protected(make_pgpool):
    """The kernel gives the files of such a process in /proc to root, and writes no core."""
    pgpool = make_pgpool({"protect_memory": True, "num_init_children": 2, "max_pool": 1})
    with pgpool.connect() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    family = [psutil.Process(pgpool.process.pid), *pgpool.family()]
    assert len(family) > 3
    if family[0].uids().real == 0:
        pytest.skip("of root's processes this cannot be seen from outside")
    assert {os.stat(f"/proc/{process.pid}/environ").st_uid for process in family} == {0}
