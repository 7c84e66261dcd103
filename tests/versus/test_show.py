"""SHOW pool_* and PGPOOL ... of ours and of Debian's Pgpool-II 4.3.5, side by side."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.support.places import wait_until

pytestmark = pytest.mark.versus


@pytest.fixture(scope="module")
def both(cluster, debian_pgpool, shared):
    ours = shared()
    if getattr(ours, "binary", "") != "ours":
        pytest.skip("needs our pgpool")
    for pgpool in (ours, debian_pgpool):
        wait_until(lambda p=pgpool: both_nodes_up(p), "both nodes to be used")
    return ours, debian_pgpool


def both_nodes_up(pgpool) -> bool:
    """Ours connects a standby when the first read goes there; until then it is waiting, as before a first session."""
    with pgpool.connect() as conn:
        conn.execute("SELECT 1")
    return [row["status"] for row in pgpool.show("pool_nodes")] == ["up", "up"]


def ask(pgpool, *statements: str) -> list[tuple]:
    """(columns with their attributes, rows, tag, error) of each statement, in one session."""
    out = []
    with psycopg.connect(pgpool.dsn(), autocommit=True) as conn:
        for sql in statements:
            result = conn.pgconn.exec_(sql.encode())
            columns = [
                ((result.fname(i) or b"").decode(), result.ftable(i), result.ftablecol(i), result.ftype(i),
                 result.fsize(i), result.fmod(i), result.fformat(i))
                for i in range(result.nfields)
            ]  # fmt: skip
            rows = [
                tuple((result.get_value(r, c) or b"").decode() for c in range(result.nfields))
                for r in range(result.ntuples)
            ]
            fields = [result.error_field(f) for f in b"SCMDH"]
            out.append((columns, rows, (result.command_status or b"").decode(), fields))
    return out


SAME_SHAPE = ["pool_status", "pool_nodes", "pool_processes", "pool_version", "pool_cache", "pool_health_check_stats",
              "pool_backend_stats"]  # fmt: skip


@pytest.mark.parametrize("word", SAME_SHAPE)
def test_the_same_columns(both, word):
    ours, theirs = (ask(p, f"SHOW {word}")[0] for p in both)
    assert ours[0] == theirs[0]
    if word not in ("pool_status",):
        assert (len(ours[1]), ours[2]) == (len(theirs[1]), theirs[2])


def test_pool_pools_has_the_newer_columns_too(both):
    ours, theirs = (ask(p, "SHOW pool_pools")[0] for p in both)
    assert ours[0][: len(theirs[0])] == theirs[0]
    assert [c[0] for c in ours[0][len(theirs[0]) :]] == ["load_balance_node", "client_host", "client_port", "statement"]
    assert ours[2] == theirs[2]


def shape(value: str) -> str:
    """What a value looks like, its digits and names left out."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", value):
        return "time"
    if re.fullmatch(r"\d+\.\d+", value):
        return f"fraction of {len(value.partition('.')[2])} digits"
    return "number" if re.fullmatch(r"\d+", value) else value


@pytest.mark.parametrize("word", ["pool_nodes", "pool_backend_stats", "pool_health_check_stats", "pool_cache"])
def test_values_look_the_same(both, word):
    ours, theirs = ([[shape(v) for v in row] for row in ask(p, f"SHOW {word}")[0][1]] for p in both)
    at = [i for i, c in enumerate(ask(both[0], f"SHOW {word}")[0][0]) if c[0] not in ("load_balance_node",)]
    assert [[row[i] for i in at] for row in ours] == [[row[i] for i in at] for row in theirs]


def test_our_session_in_pool_pools_looks_the_same(both):
    for pgpool in both:
        with pgpool.connect() as conn:
            pid = conn.info.backend_pid
            rows = [r for r in pgpool.show("pool_pools") if r["pool_connected"] == "1" and r["database"] == "app"]
            mine = [r for r in rows if r["pool_backendpid"] == str(pid)]
            assert len(mine) == 1
            row = {k: shape(v) for k, v in mine[0].items()}
            assert row["backend_connection_time"] == row["client_connection_time"] == "time"
            assert (row["username"], row["status"], row["majorversion"]) == ("postgres", "Idle", "number")
            assert row["client_idle_duration"] == "number"


STATEMENTS = [
    "PGPOOL SHOW max_pool", "pgpool show MAX_POOL;", 'PGPOOL SHOW "max_pool"', "PGPOOL SHOW nosuch", "PGPOOL SHOW a b",
    "PGPOOL", "PGPOOL SHOW", "PGPOOL RESET", "PGPOOL SET log_statement", "PGPOOL SHOW backend_hostname0",
    "PGPOOL SHOW backend_hostname7", "PGPOOL SHOW backend_hostname200", "PGPOOL SHOW health_check_period",
    "PGPOOL SHOW health_check_period0", "PGPOOL SHOW sr_check_password", "PGPOOL SHOW pool_passwd",
    "PGPOOL SHOW backend_weight0", "PGPOOL SHOW reset_query_list", "PGPOOL SHOW memqcache_total_size",
    "PGPOOL SHOW log_rotation_age", "PGPOOL SHOW watchdog", "PGPOOL SHOW heartbeat",
    "PGPOOL SET log_statement TO on", "PGPOOL SHOW log_statement", "PGPOOL SET log_statement = 'f'",
    "PGPOOL SHOW log_statement", "PGPOOL RESET log_statement", "PGPOOL SET client_min_messages TO debug9",
    "PGPOOL SET client_min_messages TO 'LOG'", "PGPOOL SHOW client_min_messages", "PGPOOL SET client_idle_limit TO 120",
    "PGPOOL SHOW client_idle_limit", "PGPOOL SET client_idle_limit TO '5min'", "PGPOOL SHOW client_idle_limit",
    "PGPOOL SET client_idle_limit TO -1", "PGPOOL SET client_idle_limit TO 'abc'",
    "PGPOOL SET client_idle_limit TO '5xy'", "PGPOOL SET client_idle_limit TO 5min",
    "PGPOOL SET client_idle_limit TO a, b", "PGPOOL SET port TO 5", "PGPOOL SET nosuch TO 5",
    "PGPOOL SET backend_hostname0 TO 'x'", "PGPOOL SET backend_hostname TO 'x'", "PGPOOL SET backend TO 'x'",
    "PGPOOL RESET nosuch", "PGPOOL RESET port", "PGPOOL RESET ALL", "SHOW pool_xyz", 'SHOW "POOL_version"',
    "SHOW pool_nodes nodes", "PGPOOL SET LOCAL log_statement TO on", "SELECT 1",
]  # fmt: skip


def test_the_same_answers(both):
    """Statement by statement in one session; trailing blanks of messages do not count."""
    ours, theirs = (ask(p, *STATEMENTS) for p in both)
    different = []
    for sql, mine, other in zip(STATEMENTS, ours, theirs, strict=True):
        for one in (mine, other):
            one[3][:] = [field.strip() if field else None for field in one[3]]
        plain = (mine[0], [r[:2] for r in mine[1]], mine[2], mine[3])
        if plain != (other[0], [r[:2] for r in other[1]], other[2], other[3]):
            different.append(f"{sql}\n  ours   {plain}\n  theirs {other}")
    assert not different, "\n".join(["", *different])


def notices(pgpool) -> list[str]:
    """What a session hears of a statement of its own when it asks for pgpool's records."""
    heard: list[str] = []
    with psycopg.connect(pgpool.dsn(), autocommit=True) as conn:
        for sql in ("log_statement TO on", "log_per_node_statement TO on", "client_min_messages TO 'log'"):
            conn.pgconn.exec_(f"PGPOOL SET {sql}".encode())
        conn.add_notice_handler(lambda d: heard.append(f"{d.severity}|{d.sqlstate}|{d.message_primary}"))
        conn.execute("CREATE TEMP TABLE heard (a int)")
        asked = list(heard)
        conn.pgconn.exec_(b"PGPOOL SET client_min_messages TO 'notice'")
        heard.clear()
        conn.execute("SELECT 1")
        assert heard == []
    return [re.sub(r"pid: \d+", "pid: N", text) for text in asked]


def test_our_own_records_as_the_client_hears_them(both):
    """client_min_messages = log: the same records. Theirs tell more of their insides; each of ours is one of theirs."""
    ours, theirs = (notices(pgpool) for pgpool in both)
    assert len(ours) == 2
    assert [text for text in ours if text not in theirs] == [], theirs
