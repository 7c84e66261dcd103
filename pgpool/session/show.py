"""Statements pgpool answers itself: SHOW pool_*, PGPOOL SHOW, PGPOOL SET, PGPOOL RESET (commands.md section 4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgpool import version_text
from pgpool.errors import StatementError
from pgpool.session import show_settings, show_tables
from pgpool.session.show_parse import OwnStatement, Verb, parse

if TYPE_CHECKING:
    from pgpool.config.settings import Settings
    from pgpool.session.show_tables import NodeProbe, Row
    from pgpool.shared import Shared


@dataclass(frozen=True, slots=True)
class ShowContext:
    """What the answers are about. ``base_settings`` are those of pgpool.conf, ``settings`` those of this session.
    ``load_balance_node`` is -1 when the session has none. ``probe`` asks backends themselves."""

    settings: Settings
    base_settings: Settings
    shared: Shared
    child_index: int
    pool_index: int
    load_balance_node: int
    probe: NodeProbe
    now: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Reply:
    """``columns`` empty: no rows are sent, only CommandComplete with ``tag``. ``settings``: those of the session from
    now on, None when unchanged. ``notices``: texts of NoticeResponses (severity NOTICE) that go first."""

    columns: tuple[str, ...]
    rows: list[Row]
    tag: str
    settings: Settings | None = None
    notices: tuple[str, ...] = ()
    name: str = ""
    """The parameter that was SET to a value of its own, or RESET; ``all``."""
    own: bool = False
    """The session keeps its value whatever a reload brings."""


def answer(sql: str, ctx: ShowContext) -> Reply | None:
    """The answer to ``sql``. None: it is not ours (unknown SHOW word, no valid PGPOOL statement) and goes to a backend,
    which also words the syntax error. Raises StatementError with the texts of commands.md."""
    statement = parse(sql)
    if statement is None:
        return None
    return VERBS[statement.verb](statement, ctx)


def _table(columns: tuple[str, ...], rows: list[Row]) -> Reply:
    return Reply(columns, rows, f"SELECT {len(rows)}")


def _nodes(ctx: ShowContext) -> Reply:
    rows = show_tables.node_rows(ctx.shared, ctx.base_settings, ctx.load_balance_node, ctx.probe)
    return _table(show_tables.NODES, rows)


def _pools(ctx: ShowContext) -> Reply:
    return _table(show_tables.POOLS, show_tables.pool_rows(ctx.shared, ctx.base_settings, ctx.now()))


def _processes(ctx: ShowContext) -> Reply:
    return _table(show_tables.PROCESSES, show_tables.process_rows(ctx.shared, ctx.base_settings, ctx.now()))


def _status(ctx: ShowContext) -> Reply:
    return _table(show_settings.ITEMS, show_settings.status_rows(ctx.shared, ctx.settings))


def _version(ctx: ShowContext) -> Reply:
    return _table(("pool_version",), [(version_text(),)])


def _cache(ctx: ShowContext) -> Reply:
    return _table(show_tables.CACHE, show_tables.cache_rows())


def _health(ctx: ShowContext) -> Reply:
    return _table(show_tables.HEALTH, show_tables.health_rows(ctx.shared, ctx.base_settings))


def _backend_stats(ctx: ShowContext) -> Reply:
    return _table(show_tables.BACKEND_STATS, show_tables.backend_stats_rows(ctx.shared, ctx.base_settings))


WORDS: dict[str, Callable[[ShowContext], Reply]] = {
    "pool_status": _status,
    "pool_nodes": _nodes,
    "pool_pools": _pools,
    "pool_processes": _processes,
    "pool_version": _version,
    "pool_cache": _cache,
    "pool_health_check_stats": _health,
    "pool_backend_stats": _backend_stats,
}
"""SHOW word -> its function. Any other word is the backend's."""


def _show_pool(statement: OwnStatement, ctx: ShowContext) -> Reply | None:
    word = WORDS.get(statement.name)
    return word(ctx) if word else None


def _show(statement: OwnStatement, ctx: ShowContext) -> Reply:
    return _table(*show_settings.show(statement.name, ctx.settings))


def _set(statement: OwnStatement, ctx: ShowContext) -> Reply:
    changed = show_settings.set_value(statement.name, statement.value, ctx.settings, ctx.base_settings)
    return Reply((), [], "SET", changed, name=statement.name, own=statement.value is not None)


def _reset(statement: OwnStatement, ctx: ShowContext) -> Reply:
    if statement.name == "all":
        return Reply((), [], "RESET", ctx.base_settings, name="all")
    changed = show_settings.set_value(statement.name, None, ctx.settings, ctx.base_settings)
    return Reply((), [], "SET", changed, name=statement.name)


def _cache_delete(statement: OwnStatement, ctx: ShowContext) -> Reply:
    raise StatementError(
        "query cache is not available",
        detail="This version of pgpool has no query cache, so there is nothing to delete.",
        sqlstate="0A000",
    )


VERBS: dict[Verb, Callable[[OwnStatement, ShowContext], Reply | None]] = {
    Verb.SHOW_POOL: _show_pool,
    Verb.SHOW: _show,
    Verb.SET: _set,
    Verb.RESET: _reset,
    Verb.CACHE_DELETE: _cache_delete,
}
