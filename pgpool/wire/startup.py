"""The first packet of a connection: SSLRequest, GSSENCRequest, CancelRequest or StartupMessage. Pure.

Source of the rules: behaviour.md 4 and PostgreSQL's own start-up (texts, order of the checks).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache

from ..errors import ProtocolViolation, SessionFatal
from .messages import PROTOCOL_3_0, PROTOCOL_3_2, cstring, negotiate_protocol_version, raw, text

MAX_STARTUP = 10000
"""Longest first packet in bytes, its length word included (behaviour.md 2)."""
CANCEL_CODE = 80877102
SSL_CODE = 80877103
GSSENC_CODE = 80877104
MAX_KEY = 256


@dataclass(frozen=True, slots=True)
class SSLRequest:
    pass


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    pass


@dataclass(frozen=True, slots=True)
class CancelRequest:
    pid: int
    key: bytes
    """4 to 256 bytes."""


@dataclass(frozen=True, slots=True)
class Startup:
    """What a client asked for when it began. Names and values are str by ``messages.text`` (no byte is lost)."""

    protocol: int
    """As the client sent it: major << 16 | minor; the major is 3."""
    params: dict[str, str]
    """In the order of the packet, without the ``_pq_.`` options; of a name sent twice the last value counts, as in
    PostgreSQL, and only that one is ever sent to a backend."""
    user: str
    database: str
    """The user's name when the client gave none; '' for physical replication."""
    replication: str = ""
    """'' (an ordinary session), 'true' or 'database'."""
    pq_options: tuple[str, ...] = ()
    """Names of the protocol options (``_pq_.*``). We know none of them: none goes to a backend."""
    sent: bytes = field(default=b"", repr=False, compare=False)
    """The whole packet as the client sent it, length word included; b'' for one of our own making."""
    _packets: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def application_name(self) -> str:
        return self.params.get("application_name", "")

    @property
    def backend_protocol(self) -> int:
        """The version to ask a backend for: never newer than what we understand."""
        return min(self.protocol, PROTOCOL_3_2)

    def render(self, protocol: int = 0) -> bytes:
        """The StartupMessage for a backend, length word included; ``protocol`` 0 = backend_protocol."""
        protocol = protocol or self.backend_protocol
        packet = self._packets.get(protocol)
        if packet is None:
            body = b"".join(cstring(k) + cstring(v) for k, v in self.params.items())
            packet = struct.pack("!II", len(body) + 9, protocol) + body + b"\0"
            self._packets[protocol] = packet
        return packet

    def negotiation(self, protocol: int) -> bytes:
        """The NegotiateProtocolVersion to send when ``protocol`` is what the session will speak; b'' when the client
        asked for exactly that and for no protocol option."""
        if self.protocol <= protocol and not self.pq_options:
            return b""
        return negotiate_protocol_version(min(protocol, self.protocol), self.pq_options)


def packet_length(head: bytes) -> int:
    """Bytes that follow the 4 byte length word of a first packet; ProtocolViolation when it cannot be one."""
    size = int.from_bytes(head[:4], "big")
    if not 8 <= size <= MAX_STARTUP:
        raise ProtocolViolation("invalid length of startup packet")
    return size - 4


def parse_startup(packet: bytes) -> SSLRequest | GSSENCRequest | CancelRequest | Startup:
    """The first packet without its length word.

    Raises ProtocolViolation (layout), SessionFatal 0A000 (protocol), 28000 (no user), 22023 (replication).
    """
    if not 4 <= len(packet) <= MAX_STARTUP - 4:
        raise ProtocolViolation("invalid length of startup packet")
    code = int.from_bytes(packet[:4], "big")
    if code in (SSL_CODE, GSSENC_CODE):
        if len(packet) != 4:
            raise ProtocolViolation("invalid length of startup packet")
        return SSLRequest() if code == SSL_CODE else GSSENCRequest()
    if code == CANCEL_CODE:
        return _cancel(packet)
    major, minor = code >> 16, code & 0xFFFF
    if major != 3:
        raise SessionFatal(
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2", sqlstate="0A000"
        )
    return _startup(code, packet)


def _cancel(packet: bytes) -> CancelRequest:
    if not 12 <= len(packet) <= 8 + MAX_KEY:
        raise ProtocolViolation("invalid length of query cancel packet")
    return CancelRequest(int.from_bytes(packet[4:8], "big"), bytes(packet[8:]))


@lru_cache(maxsize=8)
def _startup(protocol: int, packet: bytes) -> Startup:
    """Clients of one application send the same packet every time: it is read once (at most 8 of 10 kB are kept)."""
    params, options = _parameters(packet)
    user = params.get("user", "")
    if not user:
        raise SessionFatal("no PostgreSQL user name specified in startup packet", sqlstate="28000")
    replication = _replication(params.get("replication", ""))
    database = params.get("database") or user
    if replication == "true":
        database = ""
    sent = struct.pack("!I", len(packet) + 4) + packet
    return Startup(protocol, params, user, database, replication, options, sent)


def _parameters(packet: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Pairs of strings up to an empty name, which must be the last byte."""
    # every string ends with a NUL: splitting gives name, value, name, value ..., '' (terminator), '' (after it)
    parts = bytes(packet[4:]).split(b"\0")
    count = len(parts) - 2
    if count < 0 or count % 2 or parts[count] or parts[count + 1]:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    params: dict[str, str] = {}
    options: list[str] = []
    for i in range(0, count, 2):
        if not parts[i]:
            raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
        name = text(parts[i])
        if name.startswith("_pq_."):
            options.append(name)
        else:
            params[name] = text(parts[i + 1])
    return params, tuple(options)


_WORDS = {"true": True, "false": False, "yes": True, "no": False}


def _replication(value: str) -> str:
    """PostgreSQL's reading of the ``replication`` parameter: 'database', else a boolean word or a prefix of one."""
    if value == "database":
        return "database"
    word = value.strip(" ").lower()
    if not value or word in ("0", "off", "of"):
        return ""
    if word in ("1", "on"):
        return "true"
    for full, yes in _WORDS.items():
        if word and full.startswith(word):
            return "true" if yes else ""
    raise SessionFatal(
        f'invalid value for parameter "replication": "{value}"',
        hint='Valid values are: "false", 0, "true", 1, "database".',
        sqlstate="22023",
    )


def cancel_packet(pid: int, key: bytes) -> bytes:
    """A whole CancelRequest."""
    return struct.pack("!III", 12 + len(key), CANCEL_CODE, pid & 0xFFFFFFFF) + key


def ssl_request() -> bytes:
    return struct.pack("!II", 8, SSL_CODE)


def startup_packet(protocol: int = PROTOCOL_3_0, **params: str | bytes) -> bytes:
    """A whole StartupMessage from names and values (our own sessions: health check, relation cache, tests)."""
    body = b"".join(cstring(k) + cstring(raw(v)) for k, v in params.items())
    return struct.pack("!II", len(body) + 9, protocol) + body + b"\0"


def own_startup(user: str, database: str, **params: str) -> Startup:
    """The Startup of a session we open for ourselves, protocol 3.0."""
    return Startup(PROTOCOL_3_0, {"user": user, "database": database, **params}, user, database)
