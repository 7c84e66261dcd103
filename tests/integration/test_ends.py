"""What ends a client, a child or a backend connection by time or by number; a reload reaches every parameter it may change
(behaviour.md 2, 14; parameters.tsv)."""

import re
import time

import psycopg
import pytest

from pgpool.config.param import BOOL, ENUM, INIT, INT, INT64
from pgpool.config.params import PARAMS
from tests.support.pgpool import show
from tests.support.places import wait_until

pytestmark = pytest.mark.needs_pgpool

LEFT_ALONE = {
    "use_watchdog": "it needs other pgpools",
    "process_management_mode": "its spare children do not go with one child",
    "failover_owner": "another owner asks the servers in another way",
    "health_check_test": "it would break the health checks of this very pgpool",
    "sr_check_period": "so that the roles stay known",
}
"""Parameters that the test of all parameters does not touch."""


def child_pid(pgpool) -> int:
    with pgpool.connect() as conn:
        return pgpool.child_of(conn).pid


def test_child_max_connections(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1, "child_max_connections": 3})
    pids = []
    while len(set(pids)) < 3:
        pids.append(child_pid(pgpool))
        assert len(pids) < 12
    runs = [pids.count(pid) for pid in dict.fromkeys(pids)]
    assert runs[1] == 3, pids  # the first one has served the probe of the start too


def test_child_life_time(make_pgpool):
    """An idle child that has served somebody is replaced; who has served nobody stays."""
    pgpool = make_pgpool({"num_init_children": 4, "child_life_time": 1})
    served = child_pid(pgpool)
    others = {p.pid for p in pgpool.family()} - {served}
    wait_until(lambda: served not in {p.pid for p in pgpool.family()}, "the child to be replaced", 20)
    assert len(others & {p.pid for p in pgpool.family()}) >= 2
    assert "exits with status" in pgpool.log_text()


def test_client_idle_limit(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 2, "client_idle_limit": 1})
    with pgpool.connect() as idle, pgpool.connect() as busy:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            busy.execute("SELECT 1")
            time.sleep(0.2)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        assert busy.execute("SELECT 2").fetchone() == (2,)
    assert child_pid(pgpool)


def test_countdowns(make_pgpool):
    """SHOW tells how long an idle client and an idle child still have."""
    pgpool = make_pgpool({"num_init_children": 2, "client_idle_limit": 100, "child_life_time": 300})
    pids = set()
    for _ in range(2):
        with pgpool.connect() as one, pgpool.connect() as two:
            pids |= {pgpool.child_of(one).pid, pgpool.child_of(two).pid}
    with pgpool.connect() as conn:
        mine = str(pgpool.child_of(conn).pid)
        row = next(r for r in show(conn, "pool_pools") if r["pool_pid"] == mine and r["pool_connected"] == "1")
        assert re.fullmatch(r"\d+ \(1:\d\d before client disconnected\)", row["client_idle_duration"])
        other = next(row for row in show(conn, "pool_processes") if row["pool_pid"] != mine)
        assert re.fullmatch(r"\S+ \S+ \([45]:\d\d before process restarting\)", other["start_time"])
        own = next(row for row in show(conn, "pool_processes") if row["pool_pid"] == mine)
        assert "before" not in own["start_time"]


def other_value(param) -> str | None:
    """A value for the file that is not the default one; None when there is none that is sure to be taken."""
    if param.type == BOOL:
        return "off" if param.default else "on"
    if param.type in (INT, INT64):
        higher = max(param.default + 1, param.min)
        return str(higher if param.max is None or higher <= param.max else param.default - 1)
    if param.type == ENUM:
        return next((repr(choice) for choice in param.choices if choice != param.default), None)
    return None


def test_a_reload_reaches_every_parameter_it_may_change_and_names_the_others(make_pgpool):
    """All numbers, switches and choices of the table at once; a session that runs sees each new value."""
    pgpool = make_pgpool({"num_init_children": 1})
    fixed = {re.sub(r"\d+$", "", name) for name in pgpool.settings} | LEFT_ALONE.keys()
    choice = {p.name: other_value(p) for p in PARAMS if p.name not in fixed and not p.indexed}
    wanted = {name: value for name, value in choice.items() if value is not None}
    pgpool.conf.write_text(pgpool.conf.read_text() + "".join(f"{name} = {value}\n" for name, value in wanted.items()))
    live = [p.name for p in PARAMS if p.name in wanted and p.context != INIT]
    restart = [p.name for p in PARAMS if p.name in wanted and p.context == INIT]
    assert len(live) > 60 and len(restart) > 20
    with pgpool.connect() as conn:
        before = {name: conn.execute(f"PGPOOL SHOW {name}").fetchone() for name in live}
        mark = pgpool.mark()
        pgpool.reload()
        wait_until(lambda: conn.execute("PGPOOL SHOW log_statement").fetchone() == ("on",), "the reload")
        same = [name for name in live if conn.execute(f"PGPOOL SHOW {name}").fetchone() == before[name]]
    assert same == []
    told = pgpool.log_since(mark)
    assert [n for n in restart if f'parameter "{n}" cannot be changed without restarting pgpool' not in told] == []
