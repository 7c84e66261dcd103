"""Fixtures: scripted backends, a client channel, and no descriptor left behind."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import pytest

from pgpool.system.channel import Channel

from .scripted import Backend


@pytest.fixture
def backend(tmp_path_factory):
    """backend(script) -> Backend; checks at the end that its script went through."""
    made: list[Backend] = []

    def make(script: Callable[[Backend], None]) -> Backend:
        made.append(Backend(str(tmp_path_factory.mktemp("b")), script))
        return made[-1]

    yield make
    for one in made:
        one.finish()


@pytest.fixture(autouse=True)
def no_fd_leaks():
    before = set(os.listdir("/proc/self/fd"))
    yield
    left = [fd for fd in os.listdir("/proc/self/fd") if fd not in before]
    assert len([fd for fd in left if os.path.exists(f"/proc/self/fd/{fd}")]) == 0


@pytest.fixture
def client():
    """(Channel towards the client, the client's socket)."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    channel = Channel(ours.detach(), deadline=time.monotonic() + 10)
    yield channel, theirs
    channel.close()
    theirs.close()
