"""Opens the sockets on which clients are served."""

from __future__ import annotations

from ..config.settings import Settings
from ..errors import PgpoolError
from ..system import sockets
from ..system.logs import LOG, log
from ..system.sockets import Listener

UNIX_QUEUE = 1024
"""Least queue of a unix socket: a full one refuses clients at once, where that of TCP lets them wait."""


def open_listeners(settings: Settings) -> list[Listener]:
    """All sockets for clients. Raises PgpoolError (FATAL); then none is left open."""
    backlog = min(settings.num_init_children * settings.listen_backlog_multiplier, sockets.BACKLOG_MAX)
    listeners: list[Listener] = []
    try:
        for directory in settings.unix_socket_directories:
            listeners.append(_listen_unix(settings, directory, backlog))
        for host in settings.listen_addresses:
            listeners.extend(_listen_tcp(settings, host, backlog))
    except PgpoolError:
        for listener in listeners:
            listener.stop()
        raise
    for listener in listeners:
        log.log(LOG, f"Setting up socket for {listener.label}")
    return listeners


def _listen_unix(settings: Settings, directory: str, backlog: int) -> Listener:
    mode, group = settings.unix_socket_permissions, settings.unix_socket_group
    try:
        return sockets.listen_unix(directory, settings.port, max(backlog, UNIX_QUEUE), mode, group)
    except OSError as err:
        raise PgpoolError(
            f'failed to bind a socket: "{err.filename}"',
            detail=f'bind socket failed with error: "{err.strerror}"',
            severity="FATAL",
        ) from None


def _listen_tcp(settings: Settings, host: str, backlog: int) -> list[Listener]:
    try:
        return sockets.listen_tcp(host, settings.port, backlog)
    except OSError as err:
        raise PgpoolError(
            f"failed to create INET domain socket for {err.filename or host}",
            detail=f'bind on socket failed with error "{err.strerror}"',
            severity="FATAL",
        ) from None
