"""Questions which pgpool asks the backends on its own behalf: are you there, which role have you, how far are you.

One connection each, never kept, by the login that sessions use (connect.py): what can be interrupted, costs no library.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..auth.passwd import PasswordFile
from ..errors import AuthenticationFailed, BackendFailed, BackendRefused, PgpoolError, ProtocolViolation
from ..policy.failover import Health
from ..system.channel import ChannelError
from ..wire import messages
from ..wire.startup import own_startup
from .connect import Login, login, open_channel, simple_query

if TYPE_CHECKING:
    from ..config.settings import BackendConf, Settings

NOT_SERVING = ("57P01", "57P02", "57P03")
"""SQLSTATEs of a server that starts up, shuts down or recovers from a crash."""
_DEFAULT_LIMIT = 10.0
_LEAST_LIMIT = 2.0
"""Seconds that a node which is out of use has to answer for a report: most likely it does not."""
_IDENTITY = "SELECT pg_walfile_name(pg_current_wal_lsn()), system_identifier FROM pg_control_system()"
_HISTORY = (
    "SELECT GREATEST(timeline_id, (SELECT max(received_tli) FROM pg_stat_wal_receiver)), system_identifier, "
    "EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') FROM pg_control_checkpoint(), pg_control_system()"
)
_BEGAN = "SELECT extract(epoch FROM pg_postmaster_start_time())::numeric"
_AUTH_OK = (0).to_bytes(4, "big")
_BEFORE_READY = (b"S", b"K", b"N", b"v")


class Prober:
    """Asks with the limits of ``settings``, and the passwords configured there or stored in ``passwords``.

    ``on_wake`` is called when ``wakeup_fd`` becomes readable meanwhile: it drains it, and may raise to give up.
    """

    def __init__(
        self,
        settings: Settings,
        passwords: PasswordFile,
        wakeup_fd: int = -1,
        on_wake: Callable[[], None] | None = None,
    ):
        self.settings = settings
        self.passwords = passwords
        self._wakeup_fd = wakeup_fd
        self._on_wake = on_wake

    def limit(self) -> float:
        """Seconds one question may take: connect_timeout, or 10 where that means for ever."""
        return self.settings.connect_timeout / 1000 or _DEFAULT_LIMIT

    def knock(self, backend: BackendConf, limit: float = 0.0) -> tuple[Health, str]:
        """Does the server take connections? Any answer counts, a refused login too; the text says what was seen.

        ``limit`` > 0 shortens the time it may take, in seconds.
        """
        limit = min(limit, self.limit()) if limit > 0 else self.limit()
        deadline = time.monotonic() + limit
        hasty = self.settings.replace(connect_timeout=max(1, int(limit * 1000)))
        user, database = self.account()[0] or "postgres", self.settings.sr_check_database or "postgres"
        try:
            channel = open_channel(backend.id, backend, hasty, deadline, self._wakeup_fd, self._on_wake)
        except BackendFailed as err:
            return Health.SILENT, err.detail or err.message
        try:
            channel.send(own_startup(user, database).render())
            while True:
                kind, payload = channel.read_message()
                if kind == b"E":
                    fields = messages.error_fields(payload)
                    refuses = fields.get("C") in NOT_SERVING
                    return Health.REFUSES if refuses else Health.ANSWERS, fields.get("M", "")
                if kind in _BEFORE_READY or (kind == b"R" and payload[:4] == _AUTH_OK):
                    continue
                if kind == b"Z":
                    channel.send(messages.terminate())
                return Health.ANSWERS, "it answers"
        except (ChannelError, ProtocolViolation) as err:
            return Health.SILENT, err.message
        finally:
            channel.close()

    def account(self) -> tuple[str, str, str]:
        """(user, password, database) to ask about roles: the sr check's, else the health check's; user '' is none."""
        s = self.settings
        if s.sr_check_user:
            return s.sr_check_user, s.sr_check_password, s.sr_check_database or "postgres"
        return s.health_check_user, s.health_check_password, s.health_check_database or "postgres"

    def connect(
        self,
        backend: BackendConf,
        user: str,
        password: str,
        database: str,
        deadline: float,
        connect_timeout: int = 0,
        **parameters: str,
    ) -> Login:
        """Log in to one backend. ``password`` is a parameter's value; '' takes the entry of pool_passwd.

        ``deadline`` on time.monotonic(); ``connect_timeout`` > 0 (ms) replaces that of the settings; ``parameters`` of the
        start-up packet. Raises BackendFailed, BackendRefused, AuthenticationFailed.
        """
        settings = self.settings
        if connect_timeout > 0 and connect_timeout != settings.connect_timeout:
            settings = settings.replace(connect_timeout=connect_timeout)
        return login(
            backend.id,
            backend,
            own_startup(user, database, **parameters),
            self.passwords.own(user, password),
            None,
            settings,
            deadline,
            wakeup_fd=self._wakeup_fd,
            on_wake=self._on_wake,
        )

    def ask(self, backend: BackendConf, sql: str, limit: float = math.inf) -> list[str | None]:
        """The one row that ``sql`` gives, asked with ``account()``. ``limit`` shortens the time it may take, in seconds.

        Raises BackendFailed, BackendRefused, AuthenticationFailed, and PgpoolError when it gives another number of rows.
        """
        limit = min(limit, self.limit())
        link = self.connect(backend, *self.account(), time.monotonic() + limit, max(1, int(limit * 1000)))
        try:
            rows = simple_query(link.channel, sql, backend.id)
        finally:
            hang_up(link)
        if len(rows) != 1:
            raise PgpoolError(f"backend {backend.id} answers with {len(rows)} rows, not one")
        return rows[0]

    def ask_recovery(self, backend: BackendConf, limit: float = math.inf) -> tuple[bool | None, str, bool]:
        """(pg_is_in_recovery(), '', False), or (None, why not, was it the login that was refused).

        ``limit`` shortens the time it may take, in seconds.
        """
        if not self.account()[0]:
            return None, "neither sr_check_user nor health_check_user is set", True
        try:
            return self.ask(backend, "SELECT pg_is_in_recovery()", limit) == ["t"], "", False
        except PgpoolError as err:
            return None, reason_of(err), refused_login(err)

    def status(self, backend: BackendConf, *, out: bool = False) -> str:
        """``up`` when the server takes connections, else ``down`` (starting, stopping, silent, not there): for SHOW
        pool_nodes and pcp_node_info. ``out``: the node is not in use."""
        seen, _ = self._patient_for(backend).knock(backend, _LEAST_LIMIT if out else 0.0)
        return "up" if seen is Health.ANSWERS else "down"

    def role(self, backend: BackendConf) -> str:
        """``standby`` when the server is in recovery, ``primary`` when not, ``unknown`` when it does not say."""
        in_recovery, _, _ = self._patient_for(backend).ask_recovery(backend)
        return "unknown" if in_recovery is None else "standby" if in_recovery else "primary"

    def _patient_for(self, backend: BackendConf) -> Prober:
        """One with the connect_timeout of this node."""
        settings = self.settings.replace(connect_timeout=backend.health_check.connect_timeout)
        return Prober(settings, self.passwords, self._wakeup_fd, self._on_wake)

    def identity(self, backend: BackendConf, *, standby: bool = False) -> tuple[int, str, bool]:
        """(timeline, system identifier, does it stream) of a primary, or of a ``standby``; (0, '', False) when it does not
        say (some managed services do not)."""
        try:
            if standby:
                timeline, system, streams = self.ask(backend, _HISTORY)
                return int(timeline or "0"), system or "", streams == "t"
            walfile, system = self.ask(backend, _IDENTITY)
            return int((walfile or "0")[:8], 16), system or "", False
        except (PgpoolError, ValueError):
            return 0, "", False

    def began(self, backend: BackendConf) -> str:
        """When the server began, to the microsecond: no two servers say the same. '' when it does not say."""
        try:
            (moment,) = self.ask(backend, _BEGAN)
            return moment or ""
        except (PgpoolError, ValueError):
            return ""


def hang_up(link: Login) -> None:
    """Say goodbye and close."""
    try:
        link.channel.send(messages.terminate())
    except ChannelError:
        pass
    finally:
        link.channel.close()


def reason_of(err: PgpoolError) -> str:
    """One line: what went wrong, without our own framing text."""
    if isinstance(err, BackendRefused):
        return err.message
    return err.detail or err.message


def refused_login(err: PgpoolError) -> bool:
    """The server is there and takes connections, but not ours: a matter of accounts, not of its health."""
    if isinstance(err, BackendRefused):
        return err.sqlstate not in NOT_SERVING
    return isinstance(err, AuthenticationFailed)
