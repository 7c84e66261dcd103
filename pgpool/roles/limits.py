"""How many connections does each backend allow? Asked by ``pgpool --check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backend.probe import Prober, reason_of
from ..config.sizing import NodeLimits
from ..errors import PgpoolError
from ..system.logs import INFO, NOTICE, log
from .reload import read_passwords

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .options import Options

_LIMITS = (
    "SELECT current_setting('max_connections'), current_setting('superuser_reserved_connections')::int"
    " + coalesce(current_setting('reserved_connections', true), '0')::int"
)
PATIENCE = 3.0
"""Seconds to wait for one backend at most."""


def ask_limits(settings: Settings, options: Options) -> list[NodeLimits]:
    """The limits of every backend that can be asked; why the others could not is told."""
    prober = Prober(settings, read_passwords(settings, options))
    if not prober.account()[0]:
        log.log(NOTICE, "the backends are not asked for max_connections: sr_check_user is not set")
        return []
    limits = []
    for backend in settings.backends:
        if not backend.used:
            continue
        try:
            most, reserved = prober.ask(backend, _LIMITS, PATIENCE)
            limits.append(NodeLimits(backend.id, int(most or 0), int(reserved or 0)))
            log.log(INFO, f"backend {backend.id} ({backend.hostname}:{backend.port}): max_connections {most}")
        except PgpoolError as err:
            log.log(NOTICE, f"backend {backend.id} cannot be asked for max_connections", reason_of(err))
    return limits
