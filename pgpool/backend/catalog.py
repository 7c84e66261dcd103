"""What the catalogs say about somebody who wants in: his stored secret (auth_query) and the roles he is a member of.

Asked as auth_query_user, on a connection of our own that lives for one question: nobody who has not logged in can hold
one. It takes nothing from the client but his name, as a bound value: search_path is fixed (CVE-2025-12819), the answer
must be his (CVE-2015-6817), and the query decides about VALID UNTIL (CVE-2025-2291).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..auth.passwd import Secret, read_secret
from ..errors import AuthenticationFailed, BackendFailed, PgpoolError, ProtocolViolation, StatementError
from ..system.channel import Channel, ChannelError
from ..system.logs import log
from ..wire import messages
from .probe import Prober, hang_up

if TYPE_CHECKING:
    from ..config.settings import BackendConf

LIMIT = 5.0
"""Seconds one question may take, connecting included."""
MAX_ANSWER = 1 << 20
MAX_ROWS = 100_000
USABLE = ("md5", "scram")
"""Forms a secret from a catalog may have: a clear text one has no business there."""
ROLES = """
WITH RECURSIVE up(oid) AS (
 SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) $1
 UNION
 SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN up ON m.member OPERATOR(pg_catalog.=) up.oid)
SELECT r.rolname FROM up JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) up.oid"""
"""As PostgreSQL's pg_hba.conf reads ``+role``: direct and indirect members, and the role itself; superusers have no
part in what they are no members of."""


class Catalog:
    """Questions about one client, to the node that knows best (the primary)."""

    def __init__(self, backend: BackendConf, prober: Prober):
        self._backend = backend
        self._prober = prober
        self._roles: dict[str, frozenset[str]] = {}

    def secret(self, user: str) -> Secret | None:
        """The user's md5 hash or SCRAM verifier; None: there is none, it is no longer valid, or nobody could be asked
        (which is told in the log, and lets nobody in)."""
        try:
            rows = self._ask(self._prober.settings.auth_query, user)
        except PgpoolError as error:
            log.warning(f'auth_query for user "{user}" failed', detail=error.detail or error.message)
            return None
        if len(rows) != 1 or not 1 <= len(rows[0]) <= 2 or rows[0][-1] is None:
            if len(rows) > 1 or (rows and len(rows[0]) > 2):
                log.warning(f'auth_query for user "{user}" returned more than a row of name and secret')
            return None
        if len(rows[0]) == 2 and rows[0][0] != user:
            log.warning(f'auth_query for user "{user}" returned somebody else')
            return None
        secret = read_secret(rows[0][-1], None)
        if not secret or secret.kind not in USABLE:
            log.warning(f'auth_query for user "{user}" returned neither an md5 hash nor a SCRAM-SHA-256 verifier')
            return None
        return secret

    def roles_of(self, user: str) -> frozenset[str]:
        """The roles the user is a member of, himself included. Raises AuthenticationFailed when nobody can be asked: a
        line that refuses a group must not be skipped for that."""
        if user not in self._roles:
            try:
                self._roles[user] = frozenset(row[0] or "" for row in self._ask(ROLES, user))
            except PgpoolError as error:
                log.warning(f'roles of user "{user}" could not be looked up', detail=error.detail or error.message)
                raise AuthenticationFailed(
                    "client authentication failed",
                    detail="pool_hba.conf asks for a group, and no backend could be asked who is in it",
                    hint="see pgpool log for details",
                    sqlstate="XX000",
                ) from None
        return self._roles[user]

    def _ask(self, sql: str, user: str) -> list[list[str | None]]:
        """Rows of one statement with the user's name as $1, as text. Raises PgpoolError."""
        settings, backend = self._prober.settings, self._backend
        link = self._prober.connect(
            backend, settings.auth_query_user, settings.auth_query_password, settings.auth_query_database,
            time.monotonic() + LIMIT, search_path="pg_catalog", application_name="pgpool auth_query",
        )  # fmt: skip
        try:
            return ask(link.channel, sql, [user], backend.id)
        finally:
            hang_up(link)


def ask(channel: Channel, sql: str, values: list[str], node_id: int = -1) -> list[list[str | None]]:
    """Runs one statement with bound text values on an idle link of ours; rows as text.

    Raises StatementError (the backend's ErrorResponse) or BackendFailed."""
    rows: list[list[str | None]] = []
    error: StatementError | None = None
    try:
        channel.send(
            b"".join(
                (
                    messages.parse("", sql),
                    messages.bind("", "", [messages.raw(value) for value in values]),
                    messages.execute(),
                    messages.sync(),
                )
            )
        )
        while True:
            kind, payload = channel.read_message(MAX_ANSWER)
            if kind == b"D":
                rows.append([None if v is None else messages.text(v) for v in messages.data_row_values(payload)])
                if len(rows) > MAX_ROWS:
                    raise BackendFailed(node_id, "the answer has too many rows")
            elif kind == b"E":
                fields = messages.error_fields(payload)
                error = StatementError(fields.get("M", "unknown error"), sqlstate=fields.get("C", "XX000"))
            elif kind == b"Z":
                break
    except (ChannelError, ProtocolViolation) as broken:
        raise BackendFailed(node_id, "lost the connection to a backend", detail=broken.message) from None
    if error is not None:
        raise error
    return rows
