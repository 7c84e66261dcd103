"""The PCP protocol: bytes <-> messages, both sides (pcp_protocol.md). Pure.

A message is a kind byte, an int32 length (itself included) and the payload; texts end in NUL, numbers are decimal text.
Parsers check every length before it is used; what no peer may send raises ProtocolViolation.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ..errors import ProtocolViolation
from .messages import message, raw, text

MAX_REQUEST = 260
"""A request's length word must be smaller than this (pcp_protocol.md 1)."""
MAX_REPLY = 1 << 24
"""Longest reply payload that our client takes, in bytes."""
MAX_USER = 127
MAX_FIELD = 255
"""Bytes of one field of an error, its code included (pcp_protocol.md 4)."""
SALT_BYTES = 4
DIGEST_CHARS = 32

COMPLETE = b"CommandComplete"
AUTHENTICATION_OK = b"AuthenticationOK"
ARRAY_SIZE = b"ArraySize"
NODE_ROW, PROCESS_ROW, CONFIG_ROW = b"NodeInfo", b"ProcessInfo", b"ProcessConfig"
RAND_MAX = 2147483647
"""Weights travel as a share of this number."""

_COUNT = struct.Struct("!I")
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,10})[ \t\n\v\f\r]*")


class Generation(IntEnum):
    """Which release's replies are spoken; PCP has no version field, so a server speaks one (pcp_protocol.md 7)."""

    V4_3 = 43
    V4_7 = 47


PROCESS_FIELDS = {Generation.V4_3: 17, Generation.V4_7: 21}
BY_TIME_FIELD = 8
"""Place of standby_delay_by_time among the fields of NodeInfo; 4.3 has no such field."""

REPLY_KINDS = {
    b"A": b"a", b"B": b"b", b"C": b"c", b"D": b"d", b"G": b"g", b"H": b"h", b"I": b"i", b"J": b"d", b"L": b"l",
    b"M": b"m", b"N": b"n", b"O": b"c", b"P": b"p", b"R": b"r", b"T": b"t", b"V": b"v", b"W": b"w", b"Z": b"z",
    b"d": b"d", b"j": b"d", b"t": b"t",
}  # fmt: skip
"""Kind of a request -> kind of its reply. X has none."""


def strings(payload: bytes) -> list[bytes]:
    """NUL-terminated texts that fill the payload; ProtocolViolation when the last has no end."""
    if not payload:
        return []
    if payload[-1]:
        raise ProtocolViolation("invalid PCP packet", detail="a text in it has no end")
    return payload[:-1].split(b"\0")


def texts(*values: str | bytes) -> bytes:
    """Texts with their NULs; a NUL inside a value becomes a question mark."""
    return b"".join(raw(value).replace(b"\0", b"?") + b"\0" for value in values)


def one_text(payload: bytes) -> str:
    """The only text of a payload; the NUL may be missing, as some clients leave it out."""
    parts = strings(payload if payload.endswith(b"\0") else payload + b"\0")
    if len(parts) != 1:
        raise ProtocolViolation("invalid PCP packet", detail=f"{len(parts)} texts instead of one")
    return text(parts[0])


def number(value: str) -> int | None:
    """A decimal number with an optional sign, at most 10 digits; None for anything else."""
    found = _NUMBER.fullmatch(value)
    return int(found[1]) if found else None


# -- login ------------------------------------------------------------------------------------------------------------


def digest(password_md5: str, user: str, salt: bytes) -> str:
    """What proves the password: ``password_md5`` as pcp.conf stores it (pcp_protocol.md 2)."""
    inner = hashlib.md5(raw(password_md5) + raw(user), usedforsecurity=False).hexdigest()
    return hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()


def login(user: str, answer: str) -> bytes:
    """The R request."""
    return message(b"R", texts(user, answer))


@dataclass(frozen=True, slots=True)
class LoginRequest:
    user: str
    answer: str


def read_login(payload: bytes) -> LoginRequest:
    """The payload of an R request. Raises ProtocolViolation."""
    parts = strings(payload)
    if len(parts) != 2 or not 0 < len(parts[0]) <= MAX_USER or len(parts[1]) != DIGEST_CHARS:
        raise ProtocolViolation("invalid PCP packet", detail="malformed authentication request")
    return LoginRequest(text(parts[0]), text(parts[1]))


def proves(request: LoginRequest, password_md5: str, salt: bytes) -> bool:
    """Was the answer made with this password and salt? Takes the same time whether it was or not."""
    return hmac.compare_digest(raw(digest(password_md5, request.user, salt)), raw(request.answer))


# -- promote ----------------------------------------------------------------------------------------------------------


def promote(node_id: int, switchover: bool) -> bytes:
    """Payload of J and j."""
    return b"%d \0%c" % (node_id, b"s" if switchover else b"n")


def read_promote(payload: bytes) -> tuple[int | None, bool]:
    """(node id, is it a switchover). Clients of 4.2 and older send the node id alone. Raises ProtocolViolation."""
    head, nul, option = payload.partition(b"\0")
    if option not in (b"", b"n", b"s", b"n\0", b"s\0") or not nul:
        raise ProtocolViolation("invalid PCP packet", detail="malformed promote request")
    return number(text(head)), option[:1] == b"s"


# -- replies ----------------------------------------------------------------------------------------------------------


def done(kind: bytes, *values: str | bytes) -> bytes:
    """CommandComplete, with values behind it, as the reply to a request of ``kind``."""
    return message(REPLY_KINDS[kind], texts(COMPLETE, *values))


def rows(kind: bytes, word: bytes, table: Sequence[Iterable[str]], *, binary_count: bool = False) -> bytes:
    """Several messages: ArraySize, one ``word`` message for each row, CommandComplete."""
    reply = REPLY_KINDS[kind]
    count = _COUNT.pack(len(table)) if binary_count else b"%d\0" % len(table)
    parts = [message(reply, ARRAY_SIZE + b"\0" + count)]
    parts += [message(reply, texts(word, *row)) for row in table]
    return b"".join([*parts, message(reply, texts(COMPLETE))])


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One row of the reply to I, in the words of the protocol (pcp_protocol.md 3.3). ``weight`` is the share of reads
    from 0.0 to 1.0; ``delay`` bytes, or microseconds with ``by_time``."""

    hostname: str
    port: int
    status: int
    quarantined: bool
    pg_status: str
    weight: float
    role: int
    pg_role: str
    by_time: bool
    delay: int
    replication_state: str
    sync_state: str
    changed: int

    def fields(self, generation: Generation) -> list[str]:
        out = [
            self.hostname, str(self.port), str(self.status), str(int(self.quarantined)), self.pg_status,
            f"{self.weight * RAND_MAX:.6f}", str(self.role), self.pg_role, str(int(self.by_time)), str(self.delay),
            self.replication_state, self.sync_state, str(self.changed),
        ]  # fmt: skip
        if generation is Generation.V4_3:
            del out[BY_TIME_FIELD]
        return out

    @classmethod
    def read(cls, values: Sequence[str]) -> NodeInfo:
        """Of either generation, told by the number of fields. Raises ProtocolViolation."""
        fields = list(values)
        if len(fields) == 12:
            fields.insert(BY_TIME_FIELD, "0")
        try:
            host, port, status, quarantined, pg_status, weight, role, pg_role, by_time, delay, state, sync, at = fields
            return cls(
                host, int(port), int(status), quarantined == "1", pg_status, float(weight) / RAND_MAX, int(role),
                pg_role, by_time == "1", int(delay), state, sync, int(at),
            )  # fmt: skip
        except ValueError:
            raise ProtocolViolation("command failed. invalid response") from None


def process_fields(row: Sequence[str], generation: Generation) -> list[str]:
    """A row of SHOW pool_pools as ProcessInfo; 4.3 ends with status, and has no port nor statement."""
    return list(row[: PROCESS_FIELDS[generation]])


# -- errors and notices ----------------------------------------------------------------------------------------------


def report(
    kind: bytes, severity: str, sqlstate: str, msg: str, detail: str = "", hint: str = "", place: str = "pcp"
) -> bytes:
    """E ends a command, N does not. Every field is cut to 255 bytes, its code included."""
    given = [(b"S", severity), (b"C", sqlstate), (b"M", msg), (b"D", detail), (b"H", hint), (b"F", place), (b"L", "0")]
    body = b"".join(
        code + raw(value).replace(b"\0", b"?")[: MAX_FIELD - 1] + b"\0"
        for code, value in given
        if value or code not in (b"D", b"H")
    )
    return message(kind, body + b"\0")


@dataclass(frozen=True, slots=True)
class Report:
    """An E or N message, as a client sees it. Missing fields are empty."""

    severity: str = ""
    sqlstate: str = ""
    message: str = ""
    detail: str = ""
    hint: str = ""


_REPORT_FIELDS = {b"S": "severity", b"C": "sqlstate", b"M": "message", b"D": "detail", b"H": "hint"}


def read_report(payload: bytes) -> Report:
    """Unknown fields are skipped; what is cut off is left out."""
    found = {}
    for part in payload.split(b"\0"):
        name = _REPORT_FIELDS.get(part[:1])
        if name is not None:
            found[name] = text(part[1:])
    return Report(**found)


# -- the client's side ------------------------------------------------------------------------------------------------


def read_values(payload: bytes) -> list[str]:
    """The values behind CommandComplete. Raises ProtocolViolation for another reply."""
    parts = strings(payload)
    if not parts or parts[0] != COMPLETE:
        raise ProtocolViolation("command failed. invalid response")
    return [text(part) for part in parts[1:]]


@dataclass(frozen=True, slots=True)
class Row:
    """One message of a reply with many: ``last`` is CommandComplete, ``count`` that of ArraySize (else -1)."""

    values: tuple[str, ...] = ()
    count: int = -1
    last: bool = False


def read_row(payload: bytes, word: bytes) -> Row:
    """Raises ProtocolViolation for what is neither ArraySize, a ``word`` row nor CommandComplete."""
    if payload.startswith(ARRAY_SIZE + b"\0"):
        rest = payload[len(ARRAY_SIZE) + 1 :]
        if word == CONFIG_ROW and len(rest) == 4:
            return Row(count=_COUNT.unpack(rest)[0])
        count = number(one_text(rest))
        if count is None or count < 0:
            raise ProtocolViolation("command failed. invalid response")
        return Row(count=count)
    parts = strings(payload)
    if parts[:1] == [COMPLETE]:
        return Row(last=True)
    if parts[:1] != [word]:
        raise ProtocolViolation("command failed. invalid response")
    return Row(tuple(text(part) for part in parts[1:]))
