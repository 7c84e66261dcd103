"""system/channel: split bytes, limits, deadlines, wakeups, slow and vanished peers; on real sockets."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from pgpool.system.channel import (
    Channel,
    ChannelClosed,
    ChannelFraming,
    ChannelTimeout,
    UnexpectedMessage,
)

STARTUP = b"\0\0\0\x12\0\3\0\0user\0bob\0\0"
PASSWORD = b"p\0\0\0\x0bsecret\0"


@pytest.fixture
def pair():
    """(our Channel, the peer's socket); the deadline keeps a broken test from hanging."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach(), deadline=time.monotonic() + 10)
    theirs.settimeout(10)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_a_packet_and_a_message_in_one_piece(pair) -> None:
    channel, peer = pair
    peer.sendall(STARTUP + PASSWORD + b"Q\0\0")
    assert channel.read_startup(10000) == STARTUP[4:]
    assert channel.read_message() == (b"p", b"secret\0")
    assert channel.take_pending() == b"Q\0\0" and channel.pending == b""


@pytest.mark.parametrize("cut", range(1, len(STARTUP + PASSWORD)))
def test_split_at_every_byte(pair, cut: int) -> None:
    channel, peer = pair
    stream = STARTUP + PASSWORD
    peer.sendall(stream[:cut])
    late = threading.Timer(0.005, peer.sendall, [stream[cut:]])
    late.start()
    try:
        assert channel.read_startup(10000) == STARTUP[4:]
        assert channel.read_message() == (b"p", b"secret\0")
    finally:
        late.join()


@pytest.mark.parametrize(
    "head", [b"\0\0\0\0", b"\0\0\0\7", b"\0\0\x27\x11", b"\xff\xff\xff\xff", b"p\0\0\0", b"\x16\3\1\2"]
)
def test_startup_lengths(pair, head: bytes) -> None:
    channel, peer = pair
    peer.sendall(head)
    with pytest.raises(ChannelFraming):
        channel.read_startup(10000)


@pytest.mark.parametrize("size", [b"\0\0\0\3", b"\0\0\0\0", b"\0\1\0\4", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"])
def test_message_lengths(pair, size: bytes) -> None:
    channel, peer = pair
    peer.sendall(b"p" + size)
    with pytest.raises(ChannelFraming):
        channel.read_message()


def test_the_longest_message_that_is_allowed(pair) -> None:
    channel, peer = pair
    body = os.urandom(65535)
    sender = threading.Thread(target=peer.sendall, args=(b"p" + (65539).to_bytes(4, "big") + body,))
    sender.start()
    assert channel.read_message() == (b"p", body)
    sender.join()


def test_another_type_is_refused_before_its_length_is_read(pair) -> None:
    """A second StartupMessage in the middle of a login begins with a NUL byte."""
    channel, peer = pair
    peer.sendall(STARTUP[:1])
    with pytest.raises(UnexpectedMessage) as caught:
        channel.read_message(expect=b"p")
    assert caught.value.kind == 0


def test_end_of_file(pair) -> None:
    channel, peer = pair
    peer.sendall(b"p\0\0")
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelClosed) as caught:
        channel.read_message()
    assert not caught.value.clean
    channel.pending = b""
    with pytest.raises(ChannelClosed) as caught:
        channel.read_message()
    assert caught.value.clean


def test_deadline_holds_against_a_slow_loris(pair) -> None:
    channel, peer = pair
    channel.deadline = time.monotonic() + 0.3
    stop = threading.Event()

    def drip() -> None:
        for byte in STARTUP[:-1]:
            if stop.wait(0.05):
                return
            peer.sendall(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    with pytest.raises(ChannelTimeout):
        channel.read_startup(10000)
    assert 0.2 < time.monotonic() - began < 2
    stop.set()
    dripping.join()


def test_wakeup_is_answered_and_may_end_the_wait(pair) -> None:
    channel, _peer = pair
    read_end, write_end = os.pipe()
    woken = []

    class Enough(Exception):
        pass

    def on_wake() -> None:
        woken.append(os.read(read_end, 100))
        if len(woken) == 2:
            raise Enough

    inner = Channel(channel.fd, deadline=channel.deadline, wakeup_fd=read_end, on_wake=on_wake)
    timers = [threading.Timer(0.05, os.write, [write_end, b"x"]), threading.Timer(0.15, os.write, [write_end, b"y"])]
    try:
        for timer in timers:
            timer.start()
        with pytest.raises(Enough):
            inner.read_message()
        assert woken == [b"x", b"y"]
    finally:
        for timer in timers:
            timer.join()
        os.close(read_end)
        os.close(write_end)


def test_send_to_a_peer_that_reads_late_is_whole(pair) -> None:
    channel, peer = pair
    data = os.urandom(3_000_000)
    got = bytearray()

    def read() -> None:
        time.sleep(0.1)
        while len(got) < len(data):
            got.extend(peer.recv(65536))

    reader = threading.Thread(target=read)
    reader.start()
    channel.send(data)
    reader.join()
    assert bytes(got) == data


def test_send_to_a_peer_that_never_reads_ends_at_the_deadline(pair) -> None:
    channel, _ = pair
    channel.deadline = time.monotonic() + 0.3
    with pytest.raises(ChannelTimeout):
        channel.send(bytes(10_000_000))


def test_send_to_a_vanished_peer(pair) -> None:
    channel, peer = pair
    peer.close()
    with pytest.raises(ChannelClosed):
        channel.send(b"x")


def test_works_on_a_non_blocking_fd(pair) -> None:
    channel, peer = pair
    os.set_blocking(channel.fd, False)
    data = os.urandom(2_000_000)
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(peer.recv(65536))
        peer.sendall(PASSWORD)

    reader = threading.Thread(target=read)
    reader.start()
    channel.send(data)
    assert channel.read_message() == (b"p", b"secret\0")
    reader.join()
    assert bytes(got) == data


def test_close_is_idempotent(pair) -> None:
    channel, _ = pair
    channel.close()
    channel.close()
    assert channel.fd == -1
