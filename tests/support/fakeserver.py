"""A server that says what a test wants it to say, in the place of PostgreSQL."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

from .wire import cstr, msg

SSL_CODE, CANCEL_CODE = 80877103, 80877102
AUTH_OK = msg("R", struct.pack("!i", 0))
READY = msg("Z", b"I")
GREETING = AUTH_OK + msg("S", cstr("server_version", "15.4")) + msg("K", struct.pack("!i4s", 4711, b"key!")) + READY


def ask_sasl(*mechanisms: str) -> bytes:
    return msg("R", struct.pack("!i", 10) + cstr(*mechanisms) + b"\0")


def sasl_continue(data: bytes) -> bytes:
    return msg("R", struct.pack("!i", 11) + data)


class Link:
    """One connection to the server; the first packet was read."""

    def __init__(self, sock: socket.socket, code: int, startup: bytes):
        self.sock = sock
        self.code = code
        self.startup = startup

    def send(self, *parts: bytes) -> None:
        self.sock.sendall(b"".join(parts))

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def read(self) -> tuple[str, bytes]:
        """The next message: letter and body."""
        head = self.exactly(5)
        return head[:1].decode("latin-1"), self.exactly(int.from_bytes(head[1:], "big") - 4)

    def first_packet(self) -> None:
        """A further first packet (the startup behind an SSLRequest)."""
        size = int.from_bytes(self.exactly(4), "big")
        packet = self.exactly(size - 4)
        self.code, self.startup = int.from_bytes(packet[:4], "big"), packet[4:]

    def wait_end(self) -> None:
        """Until the peer hangs up."""
        while self.sock.recv(65536):
            pass


class FakeServer:
    """Serves each connection with ``script(link)``, which a test may replace at any time; has what Pgpool asks of a node.

    An SSLRequest is answered with ``N`` unless ``ssl_answer`` says otherwise: then the script goes on from there.
    """

    host = "127.0.0.1"
    data = "/nowhere"
    name = "fake"

    def __init__(self, script: Callable[[Link], None] | None = None, ssl_answer: bytes = b"N"):
        self.script = script or (lambda link: link.send(GREETING))
        self.ssl_answer = ssl_answer
        self.seen: list[bytes] = []
        """The startups that came."""
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        link = Link(sock, 0, b"")
        with sock:
            try:
                link.first_packet()
                if link.code == SSL_CODE:
                    link.send(self.ssl_answer)
                    if self.ssl_answer != b"N":
                        link.wait_end()
                        return
                    link.first_packet()
                self.seen.append(link.startup)
                self.script(link)
                link.wait_end()
            except (EOFError, OSError):
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
