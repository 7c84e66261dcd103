"""PGPOOL SHOW/SET/RESET and SHOW pool_status: parameters as people see them (commands.md section 4)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pgpool.config.params import BY_NAME, PARAMS, split_index
from pgpool.errors import SettingError
from pgpool.session.show_tables import delay_text

if TYPE_CHECKING:
    from pgpool.config.settings import Settings
    from pgpool.session.show_tables import Row
    from pgpool.shared import Shared

ITEMS = ("item", "value", "description")


def show(name: str, settings: Settings) -> tuple[tuple[str, ...], list[Row]]:
    """(columns, rows) of PGPOOL SHOW name, ALL, a group, or an array name without index. Raises SettingError."""
    _check_index(name)
    rows = settings.show_many(name)
    if rows is not None:
        return ITEMS, list(rows)
    return (name,), [(settings.show(name),)]


def _check_index(name: str) -> None:
    """Name the fault when only the index of ``name`` is wrong. Raises SettingError (texts: measured)."""
    stem, index = split_index(name)
    param = BY_NAME.get(stem)
    if param is not None and param.indexed and index is not None and index > param.max_index:
        raise SettingError(
            f'invalid index {index} for configuration parameter "{stem}"',
            detail=f"allowed index is between 0 and {param.max_index}",
        )
    if param is None and any(p.indexed and name.startswith(p.name) for p in PARAMS):
        raise SettingError(
            f'invalid index value for parameter "{name}"', detail="index part contains the invalid non digit character"
        )


def set_value(name: str, value: str | None, settings: Settings, configured: Settings) -> Settings:
    """New session settings after PGPOOL SET name TO value; ``value`` None: back to the configured one (RESET, DEFAULT).
    Raises SettingError."""
    param = BY_NAME.get(name)
    if param is not None and param.indexed and not param.has_plain_value:
        raise SettingError(f'parameter "{name}" expects the index value')
    return settings.reset(name, configured) if value is None else settings.with_text(name, value)


def status_rows(shared: Shared, settings: Settings) -> list[Row]:
    """SHOW pool_status: the configuration, with the items which are state; backend_statusN is the number."""
    nodes = {view.id: view for view in shared.node_views(settings)}
    by_time = settings.delay_threshold_by_time > 0

    def state(item: str, index: int | None) -> str:
        if index is None:
            return time.ctime(shared.start_time) if item == "memqcache_stats_start_time" else "0"
        node = nodes.get(index)
        if node is None:
            return ""
        return delay_text(node.delay, by_time) if item == "standby_delay" else str(int(node.state))

    return list(settings.show_status(state))
