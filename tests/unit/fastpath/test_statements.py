"""A session's named statements, as the hot path keeps them: memory for those that live, not for those that lived."""

import os
import socket

import psutil

from pgpool._fastpath import Link, Relay


def test_closed_statements_leave_no_memory_behind():
    """Drivers that cache statements prepare and close under names that never come again."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hot, header, verdicts = bytearray(8192), bytearray(64), bytearray(1 << 14)
        relay = Relay(memoryview(hot), memoryview(header), memoryview(verdicts), (1, 2), theirs.fileno())
        link = Link(ours.fileno(), 0)
        relay.begin(ours.fileno(), 1)
        relay.attach(link)
        relay.look_up(b"SELECT 1")
        process = psutil.Process(os.getpid())
        before = process.memory_info().rss
        for number in range(400_000):
            relay.remember(b"statement %d" % number, link)
            if number >= 50:
                relay.forget(b"statement %d" % (number - 50))
        assert process.memory_info().rss - before < 4 << 20
        relay.end()
