"""What we raise, named by what the catcher does with it. Every class carries the fields of an ErrorResponse."""

from __future__ import annotations

from dataclasses import dataclass


class PgpoolError(Exception):
    """Base of all: severity and SQLSTATE as PostgreSQL means them, texts for the log and for the client."""

    severity = "ERROR"
    sqlstate = "XX000"

    def __init__(self, message: str, *, detail: str = "", hint: str = "", sqlstate: str = "", severity: str = ""):
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        if sqlstate:
            self.sqlstate = sqlstate
        if severity:
            self.severity = severity


class StatementError(PgpoolError):
    """Answered to the client as an ERROR; the session goes on (SHOW, PGPOOL, a refused statement)."""


class SessionFatal(PgpoolError):
    """Answered to the client as a FATAL; the session ends, the child goes on."""

    severity = "FATAL"


class ProtocolViolation(SessionFatal):
    """The client sent bytes which no client may send (wrong length, wrong order, unknown message)."""

    sqlstate = "08P01"


class AuthenticationFailed(SessionFatal):
    """The client is not who it says, or may not come in."""

    sqlstate = "28000"


class BackendFailed(SessionFatal):
    """A backend cannot be reached or broke its word; ``node_id`` says which. The catcher decides about the node."""

    sqlstate = "08006"

    def __init__(self, node_id: int, message: str, **fields: str):
        super().__init__(message, **fields)
        self.node_id = node_id


class BackendRefused(SessionFatal):
    """A backend answered the start of a session with an ErrorResponse: its own bytes go to the client unchanged."""

    def __init__(self, node_id: int, packet: bytes, message: str, sqlstate: str, severity: str = "FATAL"):
        super().__init__(message, sqlstate=sqlstate, severity=severity)
        self.node_id = node_id
        self.packet = packet


class ClientGone(PgpoolError):
    """The client's socket is closed or broken: there is nobody to answer."""


class ProcessExit(Exception):
    """This process shall end now, with exit code ``code`` (0 no restart, 1 restart, 3 stop all: behaviour.md 2)."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a configuration file. ``line`` is 0 when no single line is to blame."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class ConfigFaults(PgpoolError):
    """A configuration cannot be used; ``faults`` holds everything wrong with it, in file order."""

    severity = "FATAL"
    sqlstate = "F0000"

    def __init__(self, faults: list[Fault]):
        super().__init__("\n".join(str(f) for f in faults))
        self.faults = faults


class SettingError(StatementError):
    """PGPOOL SHOW/SET/RESET was given a name or a value that cannot be (texts: commands.md section 4)."""
