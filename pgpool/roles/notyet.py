"""What pgpool.conf may ask for and this version does not do yet. A row goes away when its room is built."""

from __future__ import annotations

from collections.abc import Callable

from ..config.settings import Settings
from ..model import ClusterMode

_MISSING: tuple[tuple[str, Callable[[Settings], bool]], ...] = (
    ("backend_clustering_mode = 'native_replication'", lambda s: s.mode is ClusterMode.NATIVE_REPLICATION),
    ("backend_clustering_mode = 'snapshot_isolation'", lambda s: s.mode is ClusterMode.SNAPSHOT_ISOLATION),
    ("process_management_mode = dynamic", lambda s: s.process_management_mode == "dynamic"),
    ("ssl = on", lambda s: s.ssl),
    ("use_watchdog = on", lambda s: s.use_watchdog),
    ("memory_cache_enabled = on", lambda s: s.memory_cache_enabled),
    ("failover_command", lambda s: bool(s.failover_command)),
    ("failback_command", lambda s: bool(s.failback_command)),
    ("follow_primary_command", lambda s: bool(s.follow_primary_command)),
    ("auto_failback = on", lambda s: s.auto_failback),
    ("detach_false_primary = on", lambda s: s.detach_false_primary),
)


def missing(settings: Settings) -> list[str]:
    """One warning for each feature that is switched on and not there."""
    return [f"{what} has no effect yet in this version" for what, asked in _MISSING if asked(settings)]
