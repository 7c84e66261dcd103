"""A raw protocol client: sends any bytes, reads messages one at a time, records transcripts.

It is written from the protocol chapter of the PostgreSQL documentation, not with pgpool.wire: a second opinion.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from dataclasses import dataclass

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)


def msg(kind: str, body: bytes = b"") -> bytes:
    """One message: letter, Int32 length (itself included), body."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def cstr(*texts: str) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


def query(sql: str) -> bytes:
    return msg("Q", cstr(sql))


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return msg("P", cstr(name, sql) + struct.pack("!h", len(types)) + b"".join(struct.pack("!I", t) for t in types))


def bind(
    statement: str = "", portal: str = "", values: tuple[bytes | str | None, ...] = (),
    formats: tuple[int, ...] = (), results: tuple[int, ...] = (),
) -> bytes:  # fmt: skip
    body = (
        cstr(portal, statement) + struct.pack(f"!h{len(formats)}h", len(formats), *formats) + struct.pack("!h", len(values))
    )
    for value in values:
        if value is None:
            body += struct.pack("!i", -1)
        else:
            data = value.encode() if isinstance(value, str) else value
            body += struct.pack("!i", len(data)) + data
    return msg("B", body + struct.pack(f"!h{len(results)}h", len(results), *results))


def describe(what: str = "P", name: str = "") -> bytes:
    """what: S statement, P portal."""
    return msg("D", what.encode() + cstr(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return msg("E", cstr(portal) + struct.pack("!i", rows))


def close(what: str = "P", name: str = "") -> bytes:
    return msg("C", what.encode() + cstr(name))


def function_call(oid: int, args: tuple[bytes | None, ...], arg_format: int = 1, result_format: int = 1) -> bytes:
    body = struct.pack("!Ihhh", oid, 1, arg_format, len(args))
    for arg in args:
        body += struct.pack("!i", -1) if arg is None else struct.pack("!i", len(arg)) + arg
    return msg("F", body + struct.pack("!h", result_format))


def copy_data(data: bytes) -> bytes:
    return msg("d", data)


SYNC = msg("S")
FLUSH = msg("H")
COPY_DONE = msg("c")
TERMINATE = msg("X")


def copy_fail(reason: str) -> bytes:
    return msg("f", cstr(reason))


def startup(protocol: int = PROTOCOL_3_0, **options: str) -> bytes:
    body = struct.pack("!i", protocol) + b"".join(cstr(key, value) for key, value in options.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def cancel_request(pid: int, key: bytes) -> bytes:
    body = struct.pack("!ii", 80877102, pid) + key
    return struct.pack("!i", len(body) + 4) + body


@dataclass(frozen=True)
class Message:
    """One message from the server: letter and body (without length)."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Fields of an ErrorResponse or NoticeResponse."""
        parts = self.body.split(b"\0")
        return {part[:1].decode(): part[1:].decode(errors="replace") for part in parts if part}

    @property
    def columns(self) -> list[bytes | None]:
        """Values of a DataRow."""
        count, at, values = struct.unpack_from("!h", self.body)[0], 2, []
        for _ in range(count):
            size = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            values.append(None if size < 0 else self.body[at : at + size])
            at += max(size, 0)
        return values

    @property
    def description(self) -> list[tuple]:
        """Columns of a RowDescription: name, of a table?, attribute number, type oid, size, modifier, format."""
        count, at, found = struct.unpack_from("!h", self.body)[0], 2, []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            table, *rest = struct.unpack_from("!IhIhih", self.body, end + 1)
            found.append((self.body[at:end].decode(), table != 0, *rest))
            at = end + 19
        return found

    @property
    def tag(self) -> str:
        """Text of a CommandComplete."""
        return self.body.rstrip(b"\0").decode()

    @property
    def state(self) -> str:
        """I, T or E of a ReadyForQuery."""
        return self.body.decode()


#: What differs from server to server or run to run, and means nothing.
_MASKS = [(re.compile(rb"port \d+"), b"port <port>"), (re.compile(rb"PID:? ?\d+"), b"PID <pid>")]


def readable(message: Message) -> tuple:
    """A message as a tuple for transcripts: comparable, with process ids, keys and ports masked."""
    kind, body = message.kind, message.body
    if kind in "EN":
        return (kind, *sorted(f"{k}={v}" for k, v in Message(kind, _masked(body)).fields.items()))
    if kind == "Z":
        return (kind, message.state)
    if kind == "C":
        return (kind, message.tag)
    if kind == "D":
        return (kind, *message.columns)
    if kind == "K":
        return (kind, "<pid>", len(body) - 4)
    if kind == "A":
        return (kind, "<pid>", body[4:])
    if kind == "S":
        return (kind, *body.decode().split("\0")[:2])
    if kind == "T":
        return (kind, *message.description)
    return (kind, body)


def _masked(body: bytes) -> bytes:
    for pattern, text in _MASKS:
        body = pattern.sub(text, body)
    return body


class Closed(Exception):
    """The server closed the connection; `clean` is False for a reset."""

    def __init__(self, clean: bool):
        super().__init__("connection closed" if clean else "connection reset")
        self.clean = clean


class RawClient:
    """One connection. `send` any bytes, `read` one message; all waits have a timeout in seconds (TimeoutError)."""

    def __init__(self, host: str, port: int, *, timeout: float = 10, family: str = "inet"):
        if host.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.sock = socket.create_connection((host, port), timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self._buffer = bytearray()
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.key = b""
        self.negotiated: Message | None = None

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def login(
        cls,
        server,
        database: str = "app",
        user: str = "postgres",
        *,
        protocol: int = PROTOCOL_3_0,
        timeout: float = 10,
        **options: str,
    ) -> RawClient:
        """Connect to `server` (anything with host and port) and log in by trust; ready for queries."""
        client = cls(server.host, server.port, timeout=timeout)
        try:
            client.start(protocol, user=user, database=database, **options)
        except BaseException:
            client.close()
            raise
        return client

    def start(self, protocol: int = PROTOCOL_3_0, **options: str) -> list[Message]:
        """Send a StartupMessage and read to ReadyForQuery; keeps parameters, pid and key. Returns all messages."""
        self.send(startup(protocol, **options))
        seen = []
        while True:
            message = self.read()
            seen.append(message)
            if message.kind == "S":
                name, value = message.body.decode().split("\0")[:2]
                self.parameters[name] = value
            elif message.kind == "K":
                self.pid, self.key = struct.unpack("!i", message.body[:4])[0], message.body[4:]
            elif message.kind == "v":
                self.negotiated = message
            elif message.kind == "E":
                raise RuntimeError(f"login refused: {message.fields}")
            elif message.kind == "R" and message.body != b"\0\0\0\0":
                raise RuntimeError(f"authentication asked for: {message.body!r}")
            elif message.kind == "Z":
                return seen

    def send(self, *parts: bytes) -> None:
        """Send all parts as one piece."""
        self.sock.settimeout(self.timeout)
        try:
            self.sock.sendall(b"".join(parts))
        except (BrokenPipeError, ConnectionResetError):
            raise Closed(False) from None

    def send_bytewise(self, *parts: bytes) -> None:
        """Send one byte per packet."""
        for byte in b"".join(parts):
            self.send(bytes((byte,)))

    def _fill(self, timeout: float) -> None:
        if not select.select([self.sock], [], [], max(0, timeout))[0]:
            head = bytes(self._buffer[:60])
            raise TimeoutError(f"nothing arrived in time; {len(self._buffer)} bytes of a message so far: {head!r}")
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            raise Closed(False) from None
        if not data:
            raise Closed(True)
        self._buffer += data

    def read_raw(self, count: int, timeout: float | None = None) -> bytes:
        """Exactly `count` bytes."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while len(self._buffer) < count:
            self._fill(deadline - time.monotonic())
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read(self, timeout: float | None = None) -> Message:
        """The next message; raises Closed or TimeoutError. A message half arrived stays for the next call."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            if len(self._buffer) >= 5:
                size = struct.unpack_from("!i", self._buffer, 1)[0]
                assert 4 <= size < 1 << 30, f"server sent length {size}: {bytes(self._buffer[:40])!r}"
                if len(self._buffer) >= size + 1:
                    message = Message(chr(self._buffer[0]), bytes(self._buffer[5 : size + 1]))
                    del self._buffer[: size + 1]
                    return message
            self._fill(deadline - time.monotonic())

    def read_until(self, kinds: str = "Z", timeout: float | None = None) -> list[Message]:
        """Messages up to and including the first one whose letter is in `kinds`."""
        seen: list[Message] = []
        while not seen or seen[-1].kind not in kinds:
            try:
                seen.append(self.read(timeout))
            except TimeoutError as error:
                raise TimeoutError(f"{error}; waited for {kinds} after {[readable(m) for m in seen[-8:]]}") from None
        return seen

    def ask(self, *parts: bytes, until: str = "Z", timeout: float | None = None) -> list[Message]:
        """Send, then read up to the message `until`."""
        self.send(*parts)
        return self.read_until(until, timeout)

    def transcript(self, *parts: bytes, until: str = "Z", timeout: float | None = None) -> list[tuple]:
        """As `ask`, readable and masked; ends with ('closed',) when the server closes instead."""
        seen: list[tuple] = []
        try:
            self.send(*parts)
            while not seen or seen[-1][0] not in until:
                seen.append(readable(self.read(timeout)))
        except Closed:
            seen.append(("closed",))
        except TimeoutError:
            seen.append(("nothing more",))
        return seen

    def value(self, sql: str) -> str | None:
        """First column of the first row of a simple query."""
        for message in self.ask(query(sql)):
            if message.kind == "D":
                first = message.columns[0]
                return None if first is None else first.decode()
            if message.kind == "E":
                raise RuntimeError(str(message.fields))
        return None

    def is_quiet(self, seconds: float = 0.2) -> bool:
        """No byte arrives for so long."""
        return not self._buffer and not select.select([self.sock], [], [], seconds)[0]

    def wait_closed(self, timeout: float = 10) -> list[Message]:
        """Read until the server closes; the messages before that."""
        seen = []
        try:
            while True:
                seen.append(self.read(timeout))
        except Closed:
            return seen

    @property
    def unread(self) -> bytes:
        """What has arrived of a message that is not whole."""
        return bytes(self._buffer)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """Close with a reset, without Terminate."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()
