"""The rows of SHOW pool_nodes, pool_pools, pool_processes, pool_health_check_stats, pool_backend_stats, pool_cache.

Columns and formats: commands.md section 4. Every value is text, never NULL; PCP reports the same texts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from pgpool.model import ClusterMode, Counter, NodeView, Role
from pgpool.shared.children import Child, ChildStatus, ChildView
from pgpool.shared.slots import SlotView

if TYPE_CHECKING:
    from pgpool.config.settings import BackendConf, Settings
    from pgpool.shared import Shared

Row = tuple[str, ...]

NODES = (
    "node_id", "hostname", "port", "status", "pg_status", "lb_weight", "role", "pg_role", "select_cnt",
    "load_balance_node", "replication_delay", "replication_state", "replication_sync_state", "last_status_change",
)  # fmt: skip
POOLS = (
    "pool_pid", "start_time", "client_connection_count", "pool_id", "backend_id", "database", "username",
    "backend_connection_time", "client_connection_time", "client_disconnection_time", "client_idle_duration",
    "majorversion", "minorversion", "pool_counter", "pool_backendpid", "pool_connected", "status",
    "load_balance_node", "client_host", "client_port", "statement",
)  # fmt: skip
PROCESSES = (
    "pool_pid", "start_time", "client_connection_count", "database", "username", "backend_connection_time",
    "pool_counter", "status",
)  # fmt: skip
HEALTH = (
    "node_id", "hostname", "port", "status", "role", "last_status_change", "total_count", "success_count",
    "fail_count", "skip_count", "retry_count", "average_retry_count", "max_retry_count", "max_duration",
    "min_duration", "average_duration", "last_health_check", "last_successful_health_check",
    "last_skip_health_check", "last_failed_health_check",
)  # fmt: skip
BACKEND_STATS = (
    "node_id", "hostname", "port", "status", "role", "select_cnt", "insert_cnt", "update_cnt", "delete_cnt",
    "ddl_cnt", "other_cnt", "panic_cnt", "fatal_cnt", "error_cnt",
)  # fmt: skip
CACHE = (
    "num_cache_hits", "num_selects", "cache_hit_ratio", "num_hash_entries", "used_hash_entries", "num_cache_entries",
    "used_cache_entries_size", "free_cache_entries_size", "fragment_cache_entries_size",
)  # fmt: skip

UNKNOWN = "unknown"


class NodeProbe(Protocol):
    """Asks a backend itself, now. Neither method raises."""

    def status(self, backend: BackendConf, *, out: bool = False) -> str:
        """``up`` or ``down``; one that is ``out`` of use is not waited for as long as others."""

    def role(self, backend: BackendConf) -> str:
        """``primary``, ``standby`` or ``unknown``."""


def time_text(when: float) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in local time; empty for a time that has not come."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) if when else ""


def status_text(node: NodeView) -> str:
    return "quarantine" if node.quarantined else node.state.name.lower()


def role_text(role: Role) -> str:
    return role.name.lower()


def delay_text(delay: int, by_time: bool) -> str:
    """Bytes as an integer, or microseconds as ``0.000123 second``."""
    if not by_time:
        return str(delay)
    return f"{delay / 1e6:.6f} {'seconds' if delay >= 2_000_000 else 'second'}"


def normal_weights(nodes: Iterable[NodeView]) -> dict[int, float]:
    """Node id -> weight divided by the sum of all weights; all 0.0 when the sum is 0."""
    weights = {n.id: n.weight for n in nodes}
    total = sum(weights.values())
    return {node_id: weight / total if total else 0.0 for node_id, weight in weights.items()}


def pg_columns(view: NodeView, settings: Settings, probe: NodeProbe) -> tuple[str, str]:
    """(pg_status, pg_role) of one node, measured now unless the checks are switched off (commands.md 4)."""
    backend, role = settings.backends[view.id], role_text(view.role)
    status = probe.status(backend, out=not view.usable) if backend.health_check.period > 0 and backend.used else UNKNOWN
    if settings.mode is not ClusterMode.STREAMING_REPLICATION:
        return status, role
    if settings.sr_check_period == 0 or status != "up":
        return status, UNKNOWN
    return status, probe.role(backend)


def node_rows(shared: Shared, settings: Settings, balance_node: int, probe: NodeProbe) -> list[Row]:
    """SHOW pool_nodes for a session whose load balance node is ``balance_node`` (-1: none)."""
    views = shared.node_views(settings)
    weights = normal_weights(views)
    rows = []
    for view in views:
        pg_status, pg_role = pg_columns(view, settings, probe)
        delay = shared.nodes[view.id].delay()
        rows.append(
            (
                str(view.id),
                view.hostname,
                str(view.port),
                status_text(view),
                pg_status,
                f"{weights[view.id]:.6f}",
                role_text(view.role),
                pg_role,
                str(shared.counters(view.id)[Counter.SELECT]),
                "true" if view.id == balance_node else "false",
                delay_text(delay.delay, settings.delay_threshold_by_time > 0),
                delay.replication_state,
                delay.sync_state,
                time_text(view.last_change),
            )
        )
    return rows


def pool_rows(shared: Shared, settings: Settings, now: float, children: Iterable[Child] | None = None) -> list[Row]:
    """SHOW pool_pools: one row for each child, pool slot and backend, used or not."""
    rows = []
    for child in shared.children if children is None else children:
        view = child.view()
        start = start_text(view, settings, now)
        for slot in child.slots:
            rows += _slot_rows(view, slot.view(), start, settings, now)
    return rows


def _slot_rows(child: ChildView, slot: SlotView, start: str, settings: Settings, now: float) -> list[Row]:
    """The rows of one slot, one per backend."""
    in_use = slot.connected and child.connected
    idle = idle_text(child, slot, settings, now) if in_use else "0"
    rows = []
    for backend in settings.backends:
        link = slot.backend(backend.id)
        rows.append(
            (
                str(child.pid),
                start,
                str(child.served),
                str(slot.pool),
                str(backend.id),
                slot.database,
                slot.username,
                time_text(link.created if link else 0.0),
                time_text(slot.client_connected),
                time_text(slot.client_disconnected),
                idle,
                str(slot.major),
                str(slot.minor),
                str(slot.counter),
                str(link.pid if link else 0),
                "1" if in_use else "0",
                child.status.text,
                "1" if in_use and backend.id == child.balance_node else "0",
                child.client_host if in_use else "",
                child.client_port if in_use else "",
                child.statement if in_use else "",
            )
        )
    return rows


def start_text(child: ChildView, settings: Settings, now: float) -> str:
    """Start of the child; with the time left until child_life_time ends it, when that clock runs."""
    text = time_text(child.start_time)
    if settings.child_life_time > 0 and child.served and not child.connected and child.session_end:
        left = settings.child_life_time - (now - child.session_end)
        text += f" ({_minutes(left)} before process restarting)"
    return text


def idle_text(child: ChildView, slot: SlotView, settings: Settings, now: float) -> str:
    """Seconds since the client's last request was done; with the time left until client_idle_limit ends the session."""
    idle = 0
    if child.status in (ChildStatus.IDLE, ChildStatus.IDLE_IN_TRANSACTION):
        idle = max(0, int(now - max(child.last_activity, slot.client_connected)))
    if settings.client_idle_limit > 0:
        return f"{idle} ({_minutes(settings.client_idle_limit - idle)} before client disconnected)"
    return str(idle)


def _minutes(seconds: float) -> str:
    """``M:SS``, never below zero."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def process_rows(shared: Shared, settings: Settings, now: float) -> list[Row]:
    """SHOW pool_processes: one row per child, with the slot its client uses."""
    rows = []
    for child in shared.children:
        view = child.view()
        slot = child.pool_in_use
        used = slot.view() if slot else None
        created = min((b.created for b in used.backends), default=used.created) if used else 0.0
        rows.append(
            (
                str(view.pid),
                start_text(view, settings, now),
                str(view.served),
                used.database if used else "",
                used.username if used else "",
                time_text(created),
                str(used.counter) if used else "",
                view.status.text,
            )
        )
    return rows


def health_rows(shared: Shared, settings: Settings) -> list[Row]:
    """SHOW pool_health_check_stats. Averages are over the checks that were made, not over the skipped ones."""
    rows = []
    for view in shared.node_views(settings):
        h = shared.nodes[view.id].health()
        made = h.total - h.skip
        rows.append(
            (
                str(view.id),
                view.hostname,
                str(view.port),
                status_text(view),
                role_text(view.role),
                time_text(view.last_change),
                str(h.total),
                str(h.success),
                str(h.fail),
                str(h.skip),
                str(h.retry),
                f"{h.retry / made if made else 0.0:.6f}",
                str(h.max_retry),
                str(round(h.max_ms)),
                str(round(h.min_ms)),
                f"{h.sum_ms / made if made else 0.0:.6f}",
                time_text(h.last),
                time_text(h.last_success),
                time_text(h.last_skip),
                time_text(h.last_fail),
            )
        )
    return rows


def backend_stats_rows(shared: Shared, settings: Settings) -> list[Row]:
    """SHOW pool_backend_stats."""
    return [
        (
            str(view.id),
            view.hostname,
            str(view.port),
            status_text(view),
            role_text(view.role),
            *(str(count) for count in shared.counters(view.id)),
        )
        for view in shared.node_views(settings)
    ]


def cache_rows() -> list[Row]:
    """SHOW pool_cache: this version has no query cache, so nothing was ever kept or hit."""
    return [tuple("0.00" if column == "cache_hit_ratio" else "0" for column in CACHE)]
