"""Datagrams to syslog and to a service manager."""

import re
import socket
import time

import pytest

from pgpool.system.notify import Notifier
from pgpool.system.sockets import Datagram
from pgpool.system.syslog import LIMIT, Syslog, parts


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.settimeout(5)
        yield sock


def test_messages_are_numbered_as_the_incumbent_does():
    assert parts(b"one\n", 7) == [b"[7] one"]
    assert parts(b"one\n\ttwo\n", 7) == [b"[7-1] one", b"[7-2] \ttwo"]


@pytest.mark.parametrize("text", ["word " * 500, "x" * 2500, "ä" * 1300])
def test_long_ones_are_cut_at_blanks_and_never_inside_a_character(text):
    pieces = [piece.partition(b"] ")[2] for piece in parts(text.encode(), 1)]
    assert len(pieces) > 1 and all(len(piece) <= LIMIT for piece in pieces)
    assert "".join(piece.decode() for piece in pieces).replace(" ", "") == text.replace(" ", "")


def test_a_message(listener, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPOOL_SYSLOG_SOCKET", str(tmp_path / "s"))
    syslog = Syslog(16 << 3, "pgpool")
    assert syslog.send("ERROR", b"ERROR:  x\n")
    assert re.fullmatch(rb"<132>\w{3} [ \d]\d \d\d:\d\d:\d\d pgpool\[\d+\]: \[1\] ERROR:  x", listener.recv(2000))
    assert syslog.send("FATAL", b'{"a": 1}\n', whole=True)
    assert re.fullmatch(rb'<131>.*\]: \{"a": 1\}', listener.recv(2000))
    monkeypatch.setenv("PGPOOL_SYSLOG_SOCKET", str(tmp_path / "nobody"))
    assert not Syslog(16 << 3, "pgpool").send("ERROR", b"x")
    syslog.close()


def test_a_daemon_that_does_not_read_is_waited_for_once(listener, tmp_path):
    sender = Datagram(str(tmp_path / "s"))
    began = time.monotonic()
    assert sum(sender.send(b"x") for _ in range(5000)) < 5000
    assert time.monotonic() - began < 5
    sender.close()


def test_a_service_manager_hears_each_step(listener, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    manager = Notifier()
    Notifier().ready()  # the address was taken out of the environment: nobody below speaks for us
    manager.ready()
    manager.reloading()
    manager.stopping()
    manager.close()
    assert re.match(rb"READY=1\nMAINPID=\d+\n", listener.recv(200))
    assert re.match(rb"RELOADING=1\nMONOTONIC_USEC=\d+\n", listener.recv(200))
    assert listener.recv(200).startswith(b"STOPPING=1\n")
