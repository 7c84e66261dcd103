"""A backend that follows a script, a client that answers, and login() between them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

from pgpool.auth import exchange
from pgpool.auth.admission import Admission
from pgpool.backend import connect
from pgpool.system.channel import Channel
from pgpool.wire import messages as m
from pgpool.wire import startup as s

SETTINGS = SimpleNamespace(connect_timeout=5000)
VERIFIER = exchange.make_verifier(b"secret", b"0123456789abcdef")
READY = (
    m.authentication_ok()
    + m.parameter_status("server_version", "15.4")
    + m.parameter_status("TimeZone", "UTC")
    + m.backend_key_data(4711, b"\1\2\3\4")
    + m.ready_for_query()
)


class Backend(threading.Thread):
    """Serves one connection on a unix socket with ``script(self)``; what went wrong in it is raised by ``finish``."""

    def __init__(self, directory: str, script: Callable[[Backend], None]):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(directory, ".s.PGSQL.5432"))
        self.listener.listen(4)
        self.listener.settimeout(10)
        self.conf = SimpleNamespace(hostname=directory, port=5432)
        self.script = script
        self.error: BaseException | None = None
        self.startup = b""
        self.start()

    def run(self) -> None:
        try:
            self.sock, _ = self.listener.accept()
            self.sock.settimeout(10)
            with self.sock:
                size = int.from_bytes(self.exactly(4), "big")
                self.startup = self.exactly(size - 4)
                self.script(self)
        except BaseException as error:
            self.error = error

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> bytes:
        """Payload of the next message, which must be a 'p'."""
        head = self.exactly(5)
        assert head[:1] == b"p"
        return self.exactly(int.from_bytes(head[1:], "big") - 4)

    def at_end(self) -> bool:
        """Has the proxy hung up without another word?"""
        return self.sock.recv(1) == b""

    def scram(self, verifier: exchange.Verifier = VERIFIER) -> None:
        """An honest server side, up to SASLFinal."""
        self.send(m.authentication_sasl(["SCRAM-SHA-256"]))
        server = exchange.ScramServer(verifier, b"servernonce")
        _, first = m.read_sasl_initial(self.read())
        self.send(m.authentication_sasl_continue(server.first(first)))
        self.send(m.authentication_sasl_final(server.final(self.read())))

    def finish(self) -> None:
        self.join(10)
        self.listener.close()
        if self.error is not None:
            raise self.error


def start(user: str = "bob", protocol: int = m.PROTOCOL_3_0, **params: str) -> s.Startup:
    parsed = s.parse_startup(s.startup_packet(protocol, user=user, database="shop", **params)[4:])
    assert isinstance(parsed, s.Startup)
    return parsed


def login(
    server: Backend, admission: Admission | None = None, channel: Channel | None = None, startup=None, seconds=10
):
    startup = startup or start()
    admission = admission or Admission.own("bob")
    if channel is not None:
        admission.startup = startup
    link = connect.login(0, server.conf, startup, admission, channel, SETTINGS, time.monotonic() + seconds)
    link.channel.close()
    return link


def client_answers(sock: socket.socket, password: bytes) -> threading.Thread:
    """A driver in the background: answers one request for bob."""

    def run() -> None:
        head = _exactly(sock, 5)
        body = _exactly(sock, int.from_bytes(head[1:], "big") - 4)
        if body[3] == m.AUTH_CLEARTEXT:
            sock.sendall(m.password_message(password))
        elif body[3] == m.AUTH_MD5:
            sock.sendall(m.password_message(exchange.md5_answer(exchange.md5_secret(password, b"bob"), body[4:])))
        else:
            side = exchange.ScramClient(password, b"clientnonce")
            sock.sendall(m.sasl_initial_response("SCRAM-SHA-256", side.first()))
            head = _exactly(sock, 5)
            body = _exactly(sock, int.from_bytes(head[1:], "big") - 4)
            sock.sendall(m.sasl_response(side.final(body[4:])))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += sock.recv(count - len(data))
    return data
