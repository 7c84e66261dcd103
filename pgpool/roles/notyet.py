"""What pgpool.conf may ask for and this version does not do yet. A row goes away when its room is built."""

from __future__ import annotations

from collections.abc import Callable

from ..config.settings import Settings
from ..errors import ConfigFaults, Fault
from ..model import ClusterMode

_REFUSED: tuple[tuple[str, str, Callable[[Settings], bool]], ...] = (
    (
        "backend_clustering_mode",
        "native_replication and snapshot_isolation are not there yet: writes would reach one node only",
        lambda s: s.mode in (ClusterMode.NATIVE_REPLICATION, ClusterMode.SNAPSHOT_ISOLATION),
    ),
)
"""What must not be served half: pgpool does not start."""

_MISSING: tuple[tuple[str, Callable[[Settings], bool]], ...] = (
    ("use_watchdog = on", lambda s: s.use_watchdog),
    ("memory_cache_enabled = on", lambda s: s.memory_cache_enabled),
)


def refuse(settings: Settings) -> None:
    """Raises ConfigFaults when the configuration asks for what would do harm if it were ignored."""
    faults = []
    for name, reason, asked in _REFUSED:
        if asked(settings):
            file, line = settings.origins.get((name, None), (settings.config_file, 0))
            faults.append(Fault(file, line, f"{name}: {reason}"))
    if faults:
        raise ConfigFaults(faults)


def missing(settings: Settings) -> list[str]:
    """One warning for each feature that is switched on and not there."""
    return [f"{what} has no effect yet in this version" for what, asked in _MISSING if asked(settings)]
