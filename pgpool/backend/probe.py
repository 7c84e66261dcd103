"""Asks a backend through libpq whether it answers and whether it is in recovery (SHOW pool_nodes, PCP node info)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from pgpool.config.settings import BackendConf, Settings

DEFAULT_SOCKET_DIR = "/tmp"
"""Of an empty backend_hostname (parameters.tsv)."""
DEFAULT_TIMEOUT = 10
LEAST_TIMEOUT = 2
"""libpq takes a connect_timeout of 1 second for 2."""


def _as_written(user: str, password: str) -> str:
    return password


class Prober:
    """Live answers, one connection each, never kept. The time limit of a node is its connect_timeout.

    ``secret(user, configured password)`` gives the password to use: pool_passwd and encrypted forms are auth's matter.
    """

    def __init__(self, settings: Settings, secret: Callable[[str, str], str] = _as_written):
        self._settings = settings
        self._secret = secret

    def status(self, backend: BackendConf, *, out: bool = False) -> str:
        """``up`` when the postmaster takes connections, else ``down`` (starting, stopping, silent, not there).

        ``out``: the node is not in use, and most likely does not answer; it gets ``LEAST_TIMEOUT`` only.
        """
        health = backend.health_check
        target = self._target(backend, out, user=health.user or "postgres", dbname=health.database or "postgres")
        try:
            answer = psycopg.pq.PGconn.ping(target.encode())
        except psycopg.Error:
            return "down"
        return "up" if answer == psycopg.pq.Ping.OK else "down"

    def role(self, backend: BackendConf) -> str:
        """``standby`` when the server is in recovery, ``primary`` when not, ``unknown`` when it does not say."""
        s = self._settings
        limit = self._timeout(backend) * 1000
        target = self._target(
            backend,
            False,
            user=s.sr_check_user,
            password=self._secret(s.sr_check_user, s.sr_check_password),
            dbname=s.sr_check_database or "postgres",
            options=f"-c statement_timeout={limit}",
        )
        try:
            with psycopg.connect(target, autocommit=True) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        except psycopg.Error:
            return "unknown"
        if row is None:
            return "unknown"
        return "standby" if row[0] else "primary"

    @staticmethod
    def _timeout(backend: BackendConf) -> int:
        """connect_timeout in whole seconds; where that means for ever a report still does not wait for ever."""
        limit = math.ceil(backend.health_check.connect_timeout / 1000)
        return max(LEAST_TIMEOUT, limit) if limit else DEFAULT_TIMEOUT

    def _encryption(self, backend: BackendConf) -> dict[str, str]:
        """libpq's words for what the settings want."""
        s = self._settings
        root = s.resolve(backend.sslrootcert) or s.path("ssl_ca_cert")
        mode = backend.sslmode
        if mode == "auto":
            mode = "prefer" if s.ssl else "disable"
        files = {"sslrootcert": root, "sslcert": s.resolve(backend.sslcert), "sslkey": s.resolve(backend.sslkey)}
        return {"sslmode": mode, **({k: v for k, v in files.items() if v} if mode != "disable" else {})}

    def _target(self, backend: BackendConf, hasty: bool, **more: str) -> str:
        timeout = LEAST_TIMEOUT if hasty else self._timeout(backend)
        return make_conninfo(
            host=backend.hostname or DEFAULT_SOCKET_DIR,
            port=backend.port,
            connect_timeout=timeout,
            tcp_user_timeout=timeout * 1000,
            fallback_application_name="pgpool",
            **self._encryption(backend),
            **{key: value for key, value in more.items() if value},
        )
