"""The one PCP client library: a connection, a login, commands as methods. Speaks to servers of 4.3 and later."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import PgpoolError, ProtocolViolation
from ..system import sockets
from ..system.channel import Channel, ChannelError
from ..wire import pcp
from ..wire.messages import message, raw

DEFAULT_PORT = 9898
DEFAULT_SOCKET_DIR = "/tmp"
Trace = Callable[[str, bytes, int], None]
"""Told of each message: 'send' or 'recv', its kind, its length word."""


class ConnectFailed(PgpoolError):
    """There is no connection: nobody listens, or the name is unknown."""


class LoginRefused(PgpoolError):
    """The server did not let us in; ``report`` is what it said."""

    def __init__(self, report: pcp.Report):
        super().__init__(report.message, detail=report.detail, severity=report.severity)
        self.report = report


class CommandRefused(PgpoolError):
    """The server answered a command with an error; the connection can go on unless it was FATAL."""

    def __init__(self, report: pcp.Report):
        super().__init__(report.message, detail=report.detail, hint=report.hint, severity=report.severity)
        self.report = report


class Broken(PgpoolError):
    """The connection is of no more use, or the answer is no PCP."""


@dataclass(frozen=True, slots=True)
class Process:
    """One row of pcp_proc_info: the columns of SHOW pool_pools by name; those a server does not send are None."""

    values: dict[str, str]

    def get(self, name: str) -> str | None:
        return self.values.get(name)


PROCESS_COLUMNS = (
    "pool_pid", "start_time", "client_connection_count", "pool_id", "backend_id", "database", "username",
    "backend_connection_time", "client_connection_time", "client_disconnection_time", "client_idle_duration",
    "majorversion", "minorversion", "pool_counter", "pool_backendpid", "pool_connected", "status",
    "load_balance_node", "client_host", "client_port", "statement",
)  # fmt: skip


class Client:
    """``timeout``: seconds one command may take, 0 for as long as it takes (online recovery)."""

    def __init__(
        self,
        host: str = "",
        port: int = DEFAULT_PORT,
        *,
        timeout: float = 0.0,
        trace: Trace | None = None,
        notice: Callable[[pcp.Report], None] | None = None,
    ):
        self._trace = trace
        self._notice = notice
        self._timeout = timeout
        try:
            fd = sockets.connect(host, port, int(timeout * 1000))
        except OSError as err:
            unix = f'socket "{host or DEFAULT_SOCKET_DIR}/.s.PGSQL.{port}"'
            place = unix if not host or host.startswith("/") else f'host "{host}"'
            raise ConnectFailed(f'connection to {place} failed with error "{err.strerror or err}"') from None
        self._channel = Channel(fd)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._channel.fd < 0:
            return
        try:
            self._send(b"X")
        except Broken:
            pass
        finally:
            self._channel.close()

    # -- messages -----------------------------------------------------------------------------------------------------

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        self._channel.deadline = time.monotonic() + self._timeout if self._timeout else 0.0
        try:
            self._channel.send(message(kind, payload))
        except ChannelError as err:
            raise Broken("unable to write data to socket.", detail=err.message) from None
        if self._trace:
            self._trace("send", kind, len(payload) + 4)

    def _receive(self, kind: bytes) -> bytes:
        """The payload of the next reply to a request of ``kind``. Raises CommandRefused, Broken."""
        while True:
            try:
                got, payload = self._channel.read_message(pcp.MAX_REPLY)
            except ChannelError as err:
                raise Broken("unable to read data from socket.", detail=err.message) from None
            if self._trace:
                self._trace("recv", got, len(payload) + 4)
            if got == b"N":
                if self._notice:
                    self._notice(pcp.read_report(payload))
            elif got == b"E":
                raise CommandRefused(pcp.read_report(payload))
            elif got == pcp.REPLY_KINDS[kind]:
                return payload
            else:
                raise Broken(f'invalid PCP packet type ="{got.decode("latin-1")}"')

    def _values(self, kind: bytes, payload: bytes = b"") -> list[str]:
        self._send(kind, payload)
        try:
            return pcp.read_values(self._receive(kind))
        except ProtocolViolation as err:
            raise Broken(err.message) from None

    def _rows(self, kind: bytes, word: bytes, payload: bytes = b"") -> list[tuple[str, ...]]:
        self._send(kind, payload)
        table: list[tuple[str, ...]] = []
        try:
            while True:
                row = pcp.read_row(self._receive(kind), word)
                if row.last:
                    return table
                if row.count < 0:
                    table.append(row.values)
        except ProtocolViolation as err:
            raise Broken(err.message) from None

    # -- commands -----------------------------------------------------------------------------------------------------

    def login(self, user: str, password: str) -> None:
        """Raises LoginRefused, Broken."""
        if len(raw(user)) > pcp.MAX_USER:
            raise Broken("PCP authorization failed. username too long.")
        stored = hashlib.md5(raw(password), usedforsecurity=False).hexdigest()
        try:
            self._send(b"M")
            salt = self._receive(b"M")
            if len(salt) != pcp.SALT_BYTES:
                raise Broken("command failed. invalid response")
            self._send(b"R", pcp.texts(user, pcp.digest(stored, user, salt)))
            self._receive(b"R")
        except CommandRefused as err:
            raise LoginRefused(err.report) from None

    def node_count(self) -> int:
        return self._number(self._values(b"L"))

    @staticmethod
    def _number(values: list[str]) -> int:
        count = pcp.number(values[0]) if values else None
        if count is None:
            raise Broken("command failed. invalid response")
        return count

    def node_info(self, node_id: int = -1) -> list[pcp.NodeInfo]:
        """One node, or all of them."""
        try:
            return [pcp.NodeInfo.read(row) for row in self._rows(b"I", pcp.NODE_ROW, pcp.texts(str(node_id)))]
        except ProtocolViolation as err:
            raise Broken(err.message) from None

    def health_check_stats(self, node_id: int) -> list[str]:
        return self._values(b"H", pcp.texts(str(node_id)))

    def pool_status(self) -> list[tuple[str, ...]]:
        """(name, value, description) of each item."""
        return self._rows(b"B", pcp.CONFIG_ROW)

    def process_pids(self) -> list[int]:
        return [self._number([value]) for value in self._values(b"N")[1:]]

    def process_info(self, pid: int = 0) -> list[Process]:
        """The pool slots of one child, or of all of them."""
        table = self._rows(b"P", pcp.PROCESS_ROW, pcp.texts(str(pid)))
        return [Process(dict(zip(PROCESS_COLUMNS, row, strict=False))) for row in table]

    def watchdog_info(self, watchdog_id: int = -1) -> str:
        """The JSON document of pcp_protocol.md 3.6."""
        values = self._values(b"W", pcp.texts(str(watchdog_id)))
        return values[0] if values else ""

    def attach(self, node_id: int) -> None:
        self._values(b"C", pcp.texts(str(node_id)))

    def detach(self, node_id: int, *, gracefully: bool = False) -> None:
        self._values(b"d" if gracefully else b"D", pcp.texts(str(node_id)))

    def promote(self, node_id: int, *, gracefully: bool = False, switchover: bool = False) -> None:
        self._values(b"j" if gracefully else b"J", pcp.promote(node_id, switchover))

    def recover(self, node_id: int) -> None:
        """Returns when the node is recovered."""
        self._values(b"O", pcp.texts(str(node_id)))

    def stop(self, mode: str, *, cluster: bool = False) -> None:
        """``mode``: s, f or i."""
        self._values(b"t" if cluster else b"T", mode.encode())

    def reload_config(self, *, cluster: bool = False) -> None:
        self._values(b"Z", b"c" if cluster else b"l")

    def rotate_log(self, *, cluster: bool = False) -> None:
        self._values(b"V", b"c" if cluster else b"l")

    def invalidate_query_cache(self) -> None:
        self._values(b"G")

    def set_parameter(self, name: str, value: str) -> None:
        """client_min_messages of this connection."""
        self._values(b"A", pcp.texts(name, value))


# -- the password file ----------------------------------------------------------------------------------------------


def stored_password(host: str, port: int, user: str, warn: Callable[[str], None]) -> str | None:
    """The password in $PCPPASSFILE or ~/.pcppass for this server and user; None when there is none (pcp_protocol.md 2).

    ``warn`` gets the reason when the file may not be used.
    """
    path = os.environ.get("PCPPASSFILE") or os.path.expanduser("~/.pcppass")
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode):
        warn(f'WARNING: password file "{path}" is not a plain file')
        return None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        warn(
            f'WARNING: password file "{path}" has group or world access; permissions should be u=rw (0600) or less'
        )
        return None
    if not host or host == DEFAULT_SOCKET_DIR:
        host = "localhost"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return find_password(file.read(1 << 20), host, str(port), user)
    except OSError:
        return None


def find_password(content: str, host: str, port: str, user: str) -> str | None:
    """The first line that fits: host:port:user:password, ``*`` fits all, a backslash takes the next character as it is."""
    for line in content.splitlines():
        if line.startswith("#"):
            continue
        fields = split_fields(line)
        if len(fields) < 4:
            continue
        wanted = zip(fields[:3], (host, port, user), strict=True)
        if all(field in ("*", value) for field, value in wanted):
            return fields[3]
    return None


def split_fields(line: str) -> list[str]:
    """Fields of a line between colons, backslashes taken out."""
    fields, now, escaped = [], "", False
    for char in line:
        if escaped:
            now, escaped = now + char, False
        elif char == "\\":
            escaped = True
        elif char == ":":
            fields.append(now)
            now = ""
        else:
            now += char
    return [*fields, now]
