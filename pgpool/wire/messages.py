"""Messages of the PostgreSQL protocol 3.0/3.2: bytes <-> values. Pure: no sockets, no clock.

Builders return one whole message (type byte, int32 length, payload). Parsers take the payload only (what follows
the length) and check every length before it is used; what no peer may send raises ProtocolViolation.
Text arguments may be str or bytes; str is encoded as UTF-8 with surrogateescape, so bytes that came in as
str through ``text()`` go out unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ProtocolViolation

Text = str | bytes
PROTOCOL_3_0 = 0x30000
PROTOCOL_3_2 = 0x30002

_I32 = struct.Struct("!i")
_U16 = struct.Struct("!H")
_HEAD = struct.Struct("!ci")
_FIELD = struct.Struct("!ihihih")

# AuthenticationXXX codes (protocol documentation, "Message Formats")
AUTH_OK = 0
AUTH_CLEARTEXT = 3
AUTH_MD5 = 5
AUTH_SASL = 10
AUTH_SASL_CONTINUE = 11
AUTH_SASL_FINAL = 12


def raw(value: Text) -> bytes:
    """Text as it goes on the wire, without terminator."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def text(value: bytes) -> str:
    """Wire bytes as str; every byte string survives the way back through ``raw()``."""
    return bytes(value).decode("utf-8", "surrogateescape")


def cstring(value: Text) -> bytes:
    """Text with its terminating NUL. A NUL inside would end the field early: it is an error of the caller."""
    data = raw(value)
    if b"\0" in data:
        raise ValueError("NUL byte in a protocol string")
    return data + b"\0"


def message(kind: bytes, payload: bytes = b"") -> bytes:
    """One message: type byte, length (itself included), payload."""
    return _HEAD.pack(kind, len(payload) + 4) + payload


# ---------------------------------------------------------------- backend -> frontend


def _fields(kind: bytes, severity: str, sqlstate: str, msg: str, detail: str, hint: str) -> bytes:
    parts = [b"S", severity, b"V", severity, b"C", sqlstate, b"M", msg]
    if detail:
        parts += [b"D", detail]
    if hint:
        parts += [b"H", hint]
    # a NUL (from quoted input) cannot be shown: it would cut the packet
    body = b"".join(
        p if i % 2 == 0 else raw(p).replace(b"\0", b"?") + b"\0"  # type: ignore[arg-type]
        for i, p in enumerate(parts)
    )
    return message(kind, body + b"\0")


def error_response(severity: str, sqlstate: str, msg: str, detail: str = "", hint: str = "") -> bytes:
    """ErrorResponse with the fields S, V, C, M and, when given, D and H, in PostgreSQL's order."""
    return _fields(b"E", severity, sqlstate, msg, detail, hint)


def notice_response(severity: str, sqlstate: str, msg: str, detail: str = "", hint: str = "") -> bytes:
    """NoticeResponse; fields as in error_response."""
    return _fields(b"N", severity, sqlstate, msg, detail, hint)


def row_description(names: Sequence[Text], type_oid: int = 0) -> bytes:
    """RowDescription of our own answers (commands.md 4): table oid 0, attnum = 0-based index, size -1, text format.

    ``type_oid`` 0 is what the incumbent sends; in the extended protocol give 25 (text): drivers look it up.
    """
    body = [_U16.pack(len(names))]
    for i, name in enumerate(names):
        body.append(cstring(name) + _FIELD.pack(0, i, type_oid, -1, 0, 0))
    return message(b"T", b"".join(body))


def data_row(values: Sequence[Text | None]) -> bytes:
    """DataRow; None is NULL."""
    body = [_U16.pack(len(values))]
    for value in values:
        if value is None:
            body.append(b"\xff\xff\xff\xff")
        else:
            data = raw(value)
            body.append(_I32.pack(len(data)) + data)
    return message(b"D", b"".join(body))


def command_complete(tag: Text) -> bytes:
    return message(b"C", cstring(tag))


def ready_for_query(status: bytes = b"I") -> bytes:
    """ReadyForQuery; status is I, T or E."""
    return b"Z\0\0\0\5" + status


def parameter_status(name: Text, value: Text) -> bytes:
    return message(b"S", cstring(name) + cstring(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    """BackendKeyData; key is 4 bytes in protocol 3.0, 4 to 256 in 3.2."""
    return message(b"K", struct.pack("!I", pid & 0xFFFFFFFF) + key)


def authentication_ok() -> bytes:
    return b"R\0\0\0\x08\0\0\0\0"


def authentication_cleartext() -> bytes:
    return b"R\0\0\0\x08\0\0\0\3"


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password with its 4 byte salt."""
    return message(b"R", _I32.pack(AUTH_MD5) + salt)


def authentication_sasl(mechanisms: Iterable[Text]) -> bytes:
    return message(b"R", _I32.pack(AUTH_SASL) + b"".join(map(cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    return message(b"R", _I32.pack(AUTH_SASL_CONTINUE) + data)


def authentication_sasl_final(data: bytes) -> bytes:
    return message(b"R", _I32.pack(AUTH_SASL_FINAL) + data)


def negotiate_protocol_version(protocol: int, unknown_options: Sequence[Text] = ()) -> bytes:
    """NegotiateProtocolVersion: the newest version we speak (as PostgreSQL sends it: major << 16 | minor) and
    the ``_pq_.`` options nobody here knows."""
    body = _I32.pack(protocol) + _I32.pack(len(unknown_options)) + b"".join(map(cstring, unknown_options))
    return message(b"v", body)


def parameter_description(oids: Sequence[int] = ()) -> bytes:
    return message(b"t", struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def parse_complete() -> bytes:
    return b"1\0\0\0\4"


def bind_complete() -> bytes:
    return b"2\0\0\0\4"


def close_complete() -> bytes:
    return b"3\0\0\0\4"


def no_data() -> bytes:
    return b"n\0\0\0\4"


def empty_query_response() -> bytes:
    return b"I\0\0\0\4"


def portal_suspended() -> bytes:
    return b"s\0\0\0\4"


# ---------------------------------------------------------------- frontend -> backend


def query(sql: Text) -> bytes:
    return message(b"Q", cstring(sql))


def parse(name: Text, sql: Text, oids: Sequence[int] = ()) -> bytes:
    return message(b"P", cstring(name) + cstring(sql) + struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def bind(
    portal: Text = "",
    statement: Text = "",
    values: Sequence[Text | None] = (),
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    body = [cstring(portal), cstring(statement), struct.pack(f"!H{len(formats)}h", len(formats), *formats)]
    body.append(_U16.pack(len(values)))
    for value in values:
        data = None if value is None else raw(value)
        body.append(b"\xff\xff\xff\xff" if data is None else _I32.pack(len(data)) + data)
    body.append(struct.pack(f"!H{len(result_formats)}h", len(result_formats), *result_formats))
    return message(b"B", b"".join(body))


def describe(kind: bytes, name: Text = "") -> bytes:
    """Describe; kind is b'S' (statement) or b'P' (portal)."""
    return message(b"D", kind + cstring(name))


def execute(portal: Text = "", max_rows: int = 0) -> bytes:
    return message(b"E", cstring(portal) + _I32.pack(max_rows))


def close(kind: bytes, name: Text = "") -> bytes:
    """Close; kind is b'S' (statement) or b'P' (portal)."""
    return message(b"C", kind + cstring(name))


def flush() -> bytes:
    return b"H\0\0\0\4"


def sync() -> bytes:
    return b"S\0\0\0\4"


def terminate() -> bytes:
    return b"X\0\0\0\4"


def password_message(password: bytes) -> bytes:
    """PasswordMessage: clear text, or the ``md5...`` answer."""
    return message(b"p", cstring(password))


def sasl_initial_response(mechanism: Text, data: bytes) -> bytes:
    return message(b"p", cstring(mechanism) + _I32.pack(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    return message(b"p", data)


# ---------------------------------------------------------------- parsers


class Reader:
    """Walks over one payload; every read is checked, the first read beyond the end raises ProtocolViolation."""

    __slots__ = ("data", "pos")

    def __init__(self, data: bytes):
        self.data = data
        self.pos = 0

    def take(self, size: int) -> bytes:
        end = self.pos + size
        if size < 0 or end > len(self.data):
            raise ProtocolViolation("insufficient data left in message")
        part = self.data[self.pos : end]
        self.pos = end
        return part

    def i16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def i32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def cstring(self) -> bytes:
        end = self.data.find(b"\0", self.pos)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        part = self.data[self.pos : end]
        self.pos = end + 1
        return part

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.pos)

    def end(self) -> None:
        """Nothing may be left (PostgreSQL's own text)."""
        if self.pos != len(self.data):
            raise ProtocolViolation("invalid message format")

    def value(self) -> bytes | None:
        """int32 length and that many bytes; -1 is NULL."""
        size = self.i32()
        return None if size == -1 else self.take(size)


def split_messages(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """All whole messages in ``data`` as (type byte, payload), and the bytes of the unfinished one behind them."""
    found: list[tuple[bytes, bytes]] = []
    pos, end = 0, len(data)
    while end - pos >= 5:
        kind, size = _HEAD.unpack_from(data, pos)
        if size < 4:
            raise ProtocolViolation("invalid message length")
        if end - pos < size + 1:
            break
        found.append((kind, data[pos + 5 : pos + 1 + size]))
        pos += size + 1
    return found, data[pos:]


def error_fields(payload: bytes) -> dict[str, str]:
    """Fields of an ErrorResponse/NoticeResponse by their letter. Never raises: every field is optional, what cannot
    be read is left out (CVE-2026-6666 class: an error without SQLSTATE)."""
    fields: dict[str, str] = {}
    for part in bytes(payload).split(b"\0"):
        if part:
            fields[chr(part[0])] = text(part[1:])
    return fields


def data_row_values(payload: bytes) -> list[bytes | None]:
    """Values of a DataRow; None is NULL."""
    reader = Reader(payload)
    values = [reader.value() for _ in range(reader.u16())]
    reader.end()
    return values


def row_description_names(payload: bytes) -> list[bytes]:
    """Column names of a RowDescription."""
    reader = Reader(payload)
    names = []
    for _ in range(reader.u16()):
        names.append(reader.cstring())
        reader.take(_FIELD.size)
    reader.end()
    return names


def read_parameter_status(payload: bytes) -> tuple[bytes, bytes]:
    """(name, value) of a ParameterStatus."""
    reader = Reader(payload)
    name, value = reader.cstring(), reader.cstring()
    reader.end()
    return name, value


def read_backend_key_data(payload: bytes) -> tuple[int, bytes]:
    """(pid, key) of a BackendKeyData; the key has 4 to 256 bytes (protocol 3.2)."""
    if not 8 <= len(payload) <= 260:
        raise ProtocolViolation("invalid length of BackendKeyData")
    return int.from_bytes(payload[:4], "big"), bytes(payload[4:])


def read_negotiate(payload: bytes) -> tuple[int, list[bytes]]:
    """(newest protocol of the server, unknown options) of a NegotiateProtocolVersion."""
    reader = Reader(payload)
    protocol, count = reader.u32(), reader.i32()
    if not 0 <= count <= len(payload):
        raise ProtocolViolation("invalid message format")
    options = [reader.cstring() for _ in range(count)]
    reader.end()
    # PostgreSQL documents a bare minor number and sends the whole version: both are understood
    return (protocol if protocol > 0xFFFF else PROTOCOL_3_0 | protocol), options


@dataclass(frozen=True, slots=True)
class Parse:
    name: bytes
    sql: bytes
    oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


def read_parse(payload: bytes) -> Parse:
    reader = Reader(payload)
    name, sql = reader.cstring(), reader.cstring()
    oids = tuple(reader.u32() for _ in range(reader.u16()))
    reader.end()
    return Parse(name, sql, oids)


def read_bind(payload: bytes) -> Bind:
    reader = Reader(payload)
    portal, statement = reader.cstring(), reader.cstring()
    formats = tuple(reader.i16() for _ in range(reader.u16()))
    values = tuple(reader.value() for _ in range(reader.u16()))
    result_formats = tuple(reader.i16() for _ in range(reader.u16()))
    reader.end()
    if len(formats) > 1 and len(formats) != len(values):
        raise ProtocolViolation(f"bind message has {len(formats)} parameter formats but {len(values)} parameters")
    return Bind(portal, statement, formats, values, result_formats)


def read_target(payload: bytes) -> tuple[bytes, bytes]:
    """(b'S' | b'P', name) of a Describe or Close."""
    reader = Reader(payload)
    kind, name = reader.take(1), reader.cstring()
    reader.end()
    if kind not in (b"S", b"P"):
        raise ProtocolViolation(f"invalid message subtype {kind[0]}")
    return kind, name


def read_execute(payload: bytes) -> tuple[bytes, int]:
    """(portal, maximum number of rows) of an Execute; 0 = no limit."""
    reader = Reader(payload)
    portal, rows = reader.cstring(), reader.i32()
    reader.end()
    return portal, rows


def read_query(payload: bytes) -> bytes:
    """The string of a Query."""
    reader = Reader(payload)
    sql = reader.cstring()
    reader.end()
    return sql


def read_password(payload: bytes) -> bytes:
    """The text of a PasswordMessage; exactly one string fills the message (PostgreSQL's check and text)."""
    if not payload or payload.find(b"\0") != len(payload) - 1:
        raise ProtocolViolation("invalid password packet size")
    return bytes(payload[:-1])


def read_sasl_initial(payload: bytes) -> tuple[bytes, bytes | None]:
    """(mechanism, data) of a SASLInitialResponse; data None when the client sends none (length -1)."""
    reader = Reader(payload)
    mechanism, data = reader.cstring(), reader.value()
    reader.end()
    return mechanism, data


def read_sasl_mechanisms(body: bytes) -> list[bytes]:
    """Mechanism names of an AuthenticationSASL (what follows the code): strings up to an empty one."""
    reader = Reader(body)
    names = []
    while name := reader.cstring():
        names.append(name)
    reader.end()
    return names
