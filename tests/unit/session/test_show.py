"""SHOW pool_* and PGPOOL ...: columns, texts and formats (commands.md section 4), over a real Shared and Settings."""

import re
import struct
import time
from types import SimpleNamespace

import pytest

from pgpool import version_text
from pgpool.config.settings import Settings
from pgpool.errors import SettingError, StatementError
from pgpool.model import Counter, NodeState
from pgpool.session.show import WORDS, Reply, ShowContext, answer
from pgpool.session.show_tables import delay_text
from pgpool.shared import ChildStatus, Shared, children
from pgpool.shared import layout as lay

NOW = time.mktime((2026, 11, 22, 23, 40, 0, 0, 0, -1))
UPTIME = 5000.0


@pytest.fixture(autouse=True)
def clocks(monkeypatch):
    """It is NOW, and the machine has been running for UPTIME seconds."""
    monkeypatch.setattr(children, "time", SimpleNamespace(time=lambda: NOW, monotonic=lambda: UPTIME))



class Probe:
    """Backends which answer what the test says."""

    def __init__(self, status: dict[int, str], role: dict[int, str]):
        self._status, self._role = status, role
        self.asked: list[tuple[str, int]] = []

    def status(self, backend, *, out: bool = False) -> str:
        self.asked.append(("status", backend.id))
        return self._status[backend.id]

    def role(self, backend) -> str:
        self.asked.append(("role", backend.id))
        return self._role[backend.id]


def settings(**more) -> Settings:
    values: dict = {
        ("num_init_children", None): 3,
        ("max_pool", None): 2,
        ("health_check_period", None): 10,
        ("sr_check_password", None): "hush",
        ("backend_hostname", 0): "10.0.3.30",
        ("backend_port", 0): 5432,
        ("backend_weight", 0): 1.0,
        ("backend_hostname", 1): "/tmp",
        ("backend_port", 1): 5433,
        ("backend_weight", 1): 2.0,
    }
    values.update({(name, None): value for name, value in more.items()})
    return Settings(values)


def context(conf: Settings | None = None, *, balance: int = 1, probe: Probe | None = None) -> ShowContext:
    conf = conf or settings()
    shared = Shared.create(conf, verdict_bits=1)
    shared.set_primary(0)
    for n in (0, 1):
        shared.set_node_state(n, NodeState.UP, "test", now=NOW - 60)
    probe = probe or Probe({0: "up", 1: "up"}, {0: "primary", 1: "standby"})
    return ShowContext(conf, conf, shared, 0, 0, balance, probe, lambda: NOW)


def run(sql: str, ctx: ShowContext) -> Reply:
    reply = answer(sql, ctx)
    assert reply is not None
    for row in reply.rows:
        assert len(row) == len(reply.columns)
        assert all(type(value) is str for value in row), row
    if reply.columns:
        assert reply.tag == f"SELECT {len(reply.rows)}"
    return reply


def dicts(reply: Reply) -> list[dict[str, str]]:
    return [dict(zip(reply.columns, row, strict=True)) for row in reply.rows]


COLUMNS = {
    "pool_status": "item value description",
    "pool_nodes": "node_id hostname port status pg_status lb_weight role pg_role select_cnt load_balance_node "
    "replication_delay replication_state replication_sync_state last_status_change",
    "pool_pools": "pool_pid start_time client_connection_count pool_id backend_id database username "
    "backend_connection_time client_connection_time client_disconnection_time client_idle_duration majorversion "
    "minorversion pool_counter pool_backendpid pool_connected status load_balance_node client_host client_port "
    "statement",
    "pool_processes": "pool_pid start_time client_connection_count database username backend_connection_time "
    "pool_counter status",
    "pool_version": "pool_version",
    "pool_cache": "num_cache_hits num_selects cache_hit_ratio num_hash_entries used_hash_entries num_cache_entries "
    "used_cache_entries_size free_cache_entries_size fragment_cache_entries_size",
    "pool_health_check_stats": "node_id hostname port status role last_status_change total_count success_count "
    "fail_count skip_count retry_count average_retry_count max_retry_count max_duration min_duration average_duration "
    "last_health_check last_successful_health_check last_skip_health_check last_failed_health_check",
    "pool_backend_stats": "node_id hostname port status role select_cnt insert_cnt update_cnt delete_cnt ddl_cnt "
    "other_cnt panic_cnt fatal_cnt error_cnt",
}


@pytest.mark.parametrize("word", COLUMNS)
def test_columns(word):
    assert run(f"SHOW {word}", context()).columns == tuple(COLUMNS[word].split())


def test_every_word_is_tested():
    assert set(COLUMNS) == set(WORDS)


@pytest.mark.parametrize("sql", ["SHOW pool_xyz", "SHOW pool_node", "PGPOOL SHOW a b", "SELECT 1", "PGPOOL"])
def test_what_is_not_ours_goes_to_a_backend(sql):
    assert answer(sql, context()) is None


def test_pool_version():
    assert run("SHOW pool_version", context()).rows == [(version_text(),)]
    assert re.fullmatch(r"\d+\.\d+(\.\d+)? \(.+\)", version_text())


# ---- pool_nodes --------------------


def test_pool_nodes():
    ctx = context()
    struct.pack_into("@Q", ctx.shared.children[0].hot, lay.HOT_COUNTERS + lay.HOT_NODE_SIZE, 40)
    struct.pack_into("@Q", ctx.shared.children[2].hot, lay.HOT_COUNTERS + lay.HOT_NODE_SIZE, 2)
    ctx.shared.nodes[1].set_delay(3536, "streaming", "async", NOW)
    assert run("SHOW pool_nodes", ctx).rows == [
        ("0", "10.0.3.30", "5432", "up", "up", "0.333333", "primary", "primary", "0", "false", "0", "", "",
         "2026-11-22 23:39:00"),
        ("1", "/tmp", "5433", "up", "up", "0.666667", "standby", "standby", "42", "true", "3536", "streaming", "async",
         "2026-11-22 23:39:00"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "quarantined", "word"),
    [
        (NodeState.UP, False, "up"),
        (NodeState.WAITING, False, "waiting"),
        (NodeState.DOWN, False, "down"),
        (NodeState.DOWN, True, "quarantine"),
        (NodeState.UNUSED, False, "unused"),
    ],
)
def test_status_words(state, quarantined, word):
    ctx = context()
    ctx.shared.set_node_state(1, state, "test", quarantined=quarantined)
    for table in ("pool_nodes", "pool_health_check_stats", "pool_backend_stats"):
        assert dicts(run(f"SHOW {table}", ctx))[1]["status"] == word


def test_live_columns_are_unknown_without_checks_and_nobody_is_asked():
    ctx = context(settings(health_check_period=0))
    rows = dicts(run("SHOW pool_nodes", ctx))
    assert {(r["pg_status"], r["pg_role"]) for r in rows} == {("unknown", "unknown")}
    assert ctx.probe.asked == []
    ctx = context(settings(sr_check_period=0))
    rows = dicts(run("SHOW pool_nodes", ctx))
    assert [(r["pg_status"], r["pg_role"]) for r in rows] == [("up", "unknown")] * 2
    assert ctx.probe.asked == [("status", 0), ("status", 1)]


def test_live_columns_may_contradict_our_own():
    probe = Probe({0: "down", 1: "up"}, {0: "primary", 1: "primary"})
    rows = dicts(run("SHOW pool_nodes", context(probe=probe)))
    assert [(r["status"], r["pg_status"], r["role"], r["pg_role"]) for r in rows] == [
        ("up", "down", "primary", "unknown"),
        ("up", "up", "standby", "primary"),
    ]
    assert ("role", 0) not in probe.asked


def test_roles_outside_of_streaming_mode():
    rows = dicts(run("SHOW pool_nodes", context(settings(backend_clustering_mode="raw"))))
    assert [(r["role"], r["pg_role"]) for r in rows] == [("main", "main"), ("replica", "replica")]
    ctx = context(settings(backend_clustering_mode="logical_replication"))
    rows = dicts(run("SHOW pool_nodes", ctx))
    assert [(r["role"], r["pg_role"]) for r in rows] == [("primary", "primary"), ("standby", "standby")]
    assert not any(kind == "role" for kind, _ in ctx.probe.asked)


def test_delay_by_time():
    ctx = context(settings(delay_threshold_by_time=1000))
    ctx.shared.nodes[1].set_delay(123, "streaming", "async", NOW)
    assert [r["replication_delay"] for r in dicts(run("SHOW pool_nodes", ctx))] == [
        "0.000000 second",
        "0.000123 second",
    ]


@pytest.mark.parametrize(
    ("delay", "text"),
    [(1_999_999, "1.999999 second"), (2_000_000, "2.000000 seconds"), (61_500_000, "61.500000 seconds")],
)
def test_delay_units(delay, text):
    assert delay_text(delay, by_time=True) == text
    assert delay_text(delay, by_time=False) == str(delay)


def test_weights_of_zero_do_not_divide():
    conf = settings().replace(backend_weight0=0.0, backend_weight1=0.0)
    assert [r["lb_weight"] for r in dicts(run("SHOW pool_nodes", context(conf)))] == ["0.000000"] * 2


# ---- pool_pools, pool_processes --------------------


def hot(ctx: ShowContext, child: int, status: ChildStatus, idle: float, statement: bytes = b"") -> None:
    """What C writes: status, time of the last activity on the monotonic clock, statement."""
    cell = ctx.shared.children[child].hot
    struct.pack_into("@IIQ", cell, 0, status, len(statement), int((UPTIME - idle) * 1e6))
    cell[lay.HOT_STATEMENT : lay.HOT_STATEMENT + len(statement)] = statement


def session(ctx: ShowContext, child: int = 1, pool: int = 1) -> None:
    cell = ctx.shared.children[child]
    cell.start(4000 + child, NOW - 3600)
    cell.begin_session("192.0.2.7", 50123, NOW - 30)
    slot = cell.slots[pool]
    slot.fill("alice", "app", 3, 2, NOW - 30)
    slot.set_backend(0, 7001, b"k", NOW - 30)
    slot.set_backend(1, 7002, b"k", NOW - 20)
    cell.use_pool(pool, NOW - 30)
    cell.set_balance_node(1)


def test_pool_pools_has_all_rows_always():
    rows = run("SHOW pool_pools", context()).rows
    assert len(rows) == 3 * 2 * 2
    assert [(r[3], r[4]) for r in rows[:4]] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    empty = (
        "0",
        "",
        "0",
        "0",
        "0",
        "",
        "",
        "",
        "",
        "",
        "0",
        "0",
        "0",
        "0",
        "0",
        "0",
        "Wait for connection",
        "0",
        "",
        "",
        "",
    )
    assert rows[0] == empty


def test_pool_pools_of_a_session():
    ctx = context()
    session(ctx)
    hot(ctx, 1, ChildStatus.IDLE_IN_TRANSACTION, 3.7, b"SELECT 1")
    rows = dicts(run("SHOW pool_pools", ctx))
    assert rows[7] == {
        "pool_pid": "4001", "start_time": "2026-11-22 22:40:00", "client_connection_count": "1", "pool_id": "1",
        "backend_id": "1", "database": "app", "username": "alice", "backend_connection_time": "2026-11-22 23:39:40",
        "client_connection_time": "2026-11-22 23:39:30", "client_disconnection_time": "", "client_idle_duration": "3",
        "majorversion": "3", "minorversion": "2", "pool_counter": "1", "pool_backendpid": "7002",
        "pool_connected": "1", "status": "Idle in transaction", "load_balance_node": "1", "client_host": "192.0.2.7",
        "client_port": "50123", "statement": "SELECT 1",
    }  # fmt: skip
    assert (rows[6]["load_balance_node"], rows[6]["pool_backendpid"]) == ("0", "7001")
    assert rows[4]["status"] == "Idle in transaction", "every row of a child has the child's status"
    assert (rows[4]["pool_connected"], rows[4]["client_host"], rows[4]["statement"]) == ("0", "", "")


def test_idle_time_and_what_is_left_of_it():
    ctx = context(settings(client_idle_limit=100))
    session(ctx)
    hot(ctx, 1, ChildStatus.IDLE, 3.2)
    assert dicts(run("SHOW pool_pools", ctx))[7]["client_idle_duration"] == "3 (1:37 before client disconnected)"
    hot(ctx, 1, ChildStatus.EXECUTE, 50)
    assert dicts(run("SHOW pool_pools", ctx))[7]["client_idle_duration"] == "0 (1:40 before client disconnected)"
    hot(ctx, 1, ChildStatus.IDLE, 5000)
    assert dicts(run("SHOW pool_pools", ctx))[7]["client_idle_duration"] == "30 (1:10 before client disconnected)"
    ctx.shared.children[1].end_session(NOW - 5)
    row = dicts(run("SHOW pool_pools", ctx))[7]
    assert (row["client_idle_duration"], row["pool_connected"], row["database"]) == ("0", "0", "app")
    assert row["client_disconnection_time"] == "2026-11-22 23:39:55"


def test_time_left_for_the_child():
    ctx = context(settings(child_life_time=300))
    session(ctx)
    start = "2026-11-22 22:40:00"
    assert dicts(run("SHOW pool_processes", ctx))[1]["start_time"] == start
    ctx.shared.children[1].end_session(NOW - 35)
    assert dicts(run("SHOW pool_processes", ctx))[1]["start_time"] == start + " (4:25 before process restarting)"
    assert dicts(run("SHOW pool_pools", ctx))[4]["start_time"] == start + " (4:25 before process restarting)"
    assert dicts(run("SHOW pool_processes", ctx))[0]["start_time"] == ""
    ctx = context(settings(child_life_time=0))
    session(ctx)
    ctx.shared.children[1].end_session(NOW - 35)
    assert dicts(run("SHOW pool_processes", ctx))[1]["start_time"] == start


def test_pool_processes():
    ctx = context()
    session(ctx)
    hot(ctx, 1, ChildStatus.EXECUTE, 0)
    assert run("SHOW pool_processes", ctx).rows[1] == (
        "4001", "2026-11-22 22:40:00", "1", "app", "alice", "2026-11-22 23:39:30", "1", "Execute command",
    )  # fmt: skip
    ctx.shared.children[1].end_session(NOW)
    assert run("SHOW pool_processes", ctx).rows[1][3:] == ("", "", "", "", "Wait for connection")


# ---- statistics --------------------


def test_health_check_stats_as_the_incumbent_counts_them():
    ctx = context()
    node = ctx.shared.nodes[1]
    node.record_check(True, 7.4, 0, NOW - 40)
    node.record_check(True, 2.0, 0, NOW - 30)
    node.record_check(False, 2000.6, 2, NOW - 20)
    node.record_skip(NOW - 10)
    row = dicts(run("SHOW pool_health_check_stats", ctx))[1]
    assert row["total_count"] == "4"
    assert [row[f"{k}_count"] for k in ("success", "fail", "skip", "retry")] == ["2", "1", "1", "2"]
    assert (row["average_retry_count"], row["max_retry_count"]) == ("0.666667", "2")
    assert (row["max_duration"], row["min_duration"], row["average_duration"]) == ("2001", "2", "670.000000")
    assert row["last_health_check"] == row["last_skip_health_check"] == "2026-11-22 23:39:50"
    assert row["last_failed_health_check"] == "2026-11-22 23:39:40"
    assert row["last_successful_health_check"] == "2026-11-22 23:39:30"
    empty = dicts(run("SHOW pool_health_check_stats", ctx))[0]
    assert (empty["average_duration"], empty["average_retry_count"], empty["last_health_check"]) == (
        "0.000000", "0.000000", "",
    )  # fmt: skip


def test_backend_stats():
    ctx = context()
    for child in ctx.shared.children:
        struct.pack_into("@9Q", child.hot, lay.HOT_COUNTERS, *range(1, 10))
    row = run("SHOW pool_backend_stats", ctx).rows[0]
    assert row == ("0", "10.0.3.30", "5432", "up", "primary", *(str(3 * n) for n in range(1, 10)))
    assert [c.name.lower() for c in Counter] == [
        c.removesuffix("_cnt") for c in COLUMNS["pool_backend_stats"].split()[5:]
    ]


def test_pool_cache_is_answered_without_a_cache():
    assert run("SHOW pool_cache", context()).rows == [("0", "0", "0.00", "0", "0", "0", "0", "0", "0")]


# ---- pool_status --------------------


def test_pool_status_has_state_in_its_places_and_no_secrets():
    ctx = context()
    ctx.shared.set_node_state(1, NodeState.DOWN, "test")
    ctx.shared.nodes[1].set_delay(77, "", "", NOW)
    rows = run("SHOW pool_status", ctx).rows
    items = {item: value for item, value, _ in rows}
    order = [item for item, _, _ in rows]
    assert order[0] == "backend_clustering_mode" and items["backend_clustering_mode"] == "1"
    tail = ["backend_hostname1", "backend_port1", "backend_weight1", "backend_data_directory1", "backend_status1",
            "standby_delay1", "backend_flag1", "backend_application_name1"]  # fmt: skip
    assert order[-8:] == tail
    assert (items["backend_status0"], items["backend_status1"]) == ("2", "3")
    assert (items["standby_delay1"], items["backend_weight1"]) == ("77", "0.666667")
    assert items["memqcache_cache_hits"] == "0"
    assert items["memqcache_stats_start_time"] == time.ctime(ctx.shared.start_time)
    assert not any("password" in item or item == "wd_authkey" for item in order)
    assert "hush" not in str(rows)


# ---- PGPOOL SHOW, SET, RESET --------------------


def test_pgpool_show_one():
    reply = run("PGPOOL SHOW Port", context())
    assert (reply.columns, reply.rows, reply.tag, reply.settings) == (("port",), [("9999",)], "SELECT 1", None)
    assert run("PGPOOL SHOW child_life_time", context()).rows == [("5min",)]
    assert run("PGPOOL SHOW sr_check_password", context()).rows == [("*****",)]
    assert run("PGPOOL SHOW backend_hostname0", context()).rows == [("10.0.3.30",)]
    assert run("PGPOOL SHOW backend_weight1", context()).rows == [("2",)]


def test_pgpool_show_groups_and_arrays():
    rows = run("PGPOOL SHOW backend", context()).rows
    assert len(rows) == 12
    assert [r[0] for r in rows[:7]] == [
        "backend_hostname0", "backend_port0", "backend_weight0", "backend_data_directory0", "backend_application_name0",
        "backend_flag0", "backend_hostname1",
    ]  # fmt: skip
    rows = run("PGPOOL SHOW health_check", context()).rows
    assert (len(rows), rows[0][:2], rows[8][:2]) == (24, ("health_check_period", "10"), ("health_check_period0", "10"))
    assert ("health_check_password", "*****") in [r[:2] for r in rows]
    assert run("PGPOOL SHOW watchdog", context()).rows == []
    assert run("PGPOOL SHOW heartbeat", context()).tag == "SELECT 0"
    rows = run("PGPOOL SHOW backend_hostname", context()).rows
    assert [r[:2] for r in rows] == [("backend_hostname0", "10.0.3.30"), ("backend_hostname1", "/tmp")]


def test_pgpool_show_all():
    reply = run("PGPOOL SHOW ALL", context())
    names = [r[0] for r in reply.rows]
    assert reply.columns == ("item", "value", "description")
    assert names[0] == "backend_hostname0" and "port" in names and len(names) > 180
    assert len(set(names)) == len(names)
    assert not {"delegate_IP", "logdir", "fail_over_on_backend_error"} & set(names)
    assert "hush" not in str(reply.rows)


ERRORS = [
    ("PGPOOL SHOW nosuch", 'config variable "nosuch" not found', ""),
    ('PGPOOL SHOW "nosuch.x"', 'config variable "nosuch.x" not found', ""),
    ("PGPOOL SHOW backend_hostname200", 'invalid index 200 for configuration parameter "backend_hostname"', ""),
    ("PGPOOL SHOW backend_hostnamex", 'invalid index value for parameter "backend_hostnamex"', ""),
    ("PGPOOL SET nosuch TO 5", 'unrecognized configuration parameter "nosuch"', ""),
    ("PGPOOL RESET nosuch", 'unrecognized configuration parameter "nosuch"', ""),
    ("PGPOOL SET port TO 5", 'invalid Context, value for parameter "port" cannot be changed', ""),
    ("PGPOOL RESET port", 'invalid Context, value for parameter "port" cannot be changed', ""),
    ("PGPOOL SET backend_hostname0 TO 'x'",
     'invalid Context, value for parameter "backend_hostname0" cannot be changed', ""),
    ("PGPOOL SET backend_hostname TO 'x'", 'parameter "backend_hostname" expects the index value', ""),
    ("PGPOOL SET backend TO 'x'", 'unrecognized configuration parameter "backend"', ""),
    ("PGPOOL SET client_idle_limit TO 'abc'", 'invalid value for parameter "client_idle_limit": "abc"', ""),
    ("PGPOOL SET client_idle_limit TO -1",
     '-1 is outside the valid range for parameter "client_idle_limit" (0 .. 2147483647)', ""),
    ("PGPOOL SET client_min_messages TO debug9", 'invalid value for parameter "client_min_messages": "debug9"',
     "Available values: debug5, debug4, debug3, debug2, debug1, info, notice, warning, error, log, fatal, panic."),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "message", "hint"), ERRORS, ids=[case[0] for case in ERRORS])
def test_errors(sql, message, hint):
    with pytest.raises(SettingError) as caught:
        answer(sql, context())
    error = caught.value
    assert (error.message, error.hint, error.sqlstate, error.severity) == (message, hint, "XX000", "ERROR")


def test_set_changes_this_session_only():
    ctx = context()
    reply = run("PGPOOL SET client_idle_limit TO '5min'", ctx)
    assert (reply.columns, reply.rows, reply.tag) == ((), [], "SET")
    assert reply.settings is not None and reply.settings.client_idle_limit == 300
    assert ctx.settings.client_idle_limit == ctx.base_settings.client_idle_limit == 0
    changed = ShowContext(reply.settings, ctx.base_settings, ctx.shared, 0, 0, 1, ctx.probe, ctx.now)
    assert run("PGPOOL SHOW client_idle_limit", changed).rows == [("5min",)]
    for sql, tag in [("PGPOOL RESET client_idle_limit", "SET"), ("PGPOOL SET client_idle_limit TO DEFAULT", "SET"),
                     ("PGPOOL RESET ALL", "RESET")]:  # fmt: skip
        reply = run(sql, changed)
        assert reply.tag == tag
        assert reply.settings is not None and reply.settings.client_idle_limit == 0


@pytest.mark.parametrize("value", ["on", "'on'", "1", "TRUE", "'yes'", "'t'"])
def test_booleans_in_any_spelling(value):
    reply = run(f"PGPOOL SET log_statement TO {value}", context())
    assert reply.settings is not None and reply.settings.log_statement is True


def test_cache_delete_says_that_there_is_no_cache():
    with pytest.raises(StatementError) as caught:
        answer("PGPOOL SET CACHE DELETE 'SELECT 1'", context())
    assert "query cache" in caught.value.message
    assert caught.value.sqlstate == "0A000"
