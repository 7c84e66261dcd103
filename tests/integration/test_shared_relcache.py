"""enable_shared_relcache and relcache_query_target: who is asked about the catalogs, and how often."""

from __future__ import annotations

import contextlib

import pytest

from tests.support.nodes import where

pytestmark = pytest.mark.needs_pgpool


def asked(node, application: str) -> bool:
    """Was the last statement on this session's connection a look-up? (PGPOOL EXPLAIN runs nothing else.)"""
    rows = node.backends(f"application_name = '{application}'")
    return any("asked(k, i, w, s, n)" in row["query"] for row in rows)


@pytest.mark.parametrize("shared_too", [True, False])
def test_children_share_what_they_know(shared, cluster, table, shared_too):
    name = table()
    pgpool = shared(backend_weight0=0, enable_shared_relcache=shared_too)
    explain = f"PGPOOL EXPLAIN SELECT abs(id) FROM {name}"
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(pgpool.connect(application_name=f"rel{i}")) for i in range(3)]  # three children
        told = [dict(conn.execute(explain).fetchall()) for conn in sessions]
        assert told[0]["tables"] == f"{name} (plain)"
        assert told[0]["functions"] == "abs (not volatile)"
        assert told[1:] == told[:1] * 2
        assert [asked(cluster.primary, f"rel{i}") for i in range(3)] == [True, not shared_too, not shared_too]
        # DDL makes all of them ask again
        sessions[0].execute(f"ALTER TABLE {name} SET UNLOGGED")
        assert dict(sessions[1].execute(explain).fetchall())["tables"] == f"{name} (unlogged)"
        # who sees other names by the same words is told other things
        sessions[2].execute("SET search_path = pg_catalog")
        assert dict(sessions[2].execute(explain).fetchall())["tables"] == f"{name} (unknown)"


@pytest.mark.parametrize(("target", "who"), [("primary", "primary"), ("load_balance_node", "standby")])
def test_who_is_asked(shared, cluster, table, target, who):
    name = table()
    pgpool = shared(backend_weight0=0, relcache_query_target=target)
    with pgpool.connect(application_name=f"to_{target}") as conn:
        conn.execute("SET search_path = public")  # known there too, before it is asked
        told = dict(conn.execute(f"PGPOOL EXPLAIN SELECT abs(id) FROM {name}").fetchall())
        assert told["tables"] == f"{name} (plain)"
        places = {"primary": cluster.primary, "standby": cluster.standby}
        assert [place for place, node in places.items() if asked(node, f"to_{target}")] == [who]
        assert where(conn, cluster, f"SELECT inet_server_port(), count(*) FROM {name}") == "standby"


def test_what_only_the_primary_knows_is_asked_there(shared, cluster, table):
    """Temporary tables, tables made in the open transaction, settings of it."""
    name = table()
    pgpool = shared(backend_weight0=0, relcache_query_target="load_balance_node")
    read = "SELECT inet_server_port(), count(*) FROM {}"
    with pgpool.connect() as conn:
        conn.execute("BEGIN")
        conn.execute("CREATE TABLE rel_new AS SELECT 1")
        assert where(conn, cluster, read.format("rel_new")) == "primary"
        conn.execute("ROLLBACK")
        conn.execute("BEGIN")
        conn.execute("SET LOCAL search_path = pg_catalog, public")
        assert where(conn, cluster, read.format(name)) == "standby"
        conn.execute("COMMIT")
        conn.execute(f"CREATE TEMP TABLE {name} AS SELECT 1")
        assert where(conn, cluster, read.format(name)) == "primary"
        assert where(conn, cluster, read.format(f"public.{name}")) == "standby"


def test_a_standby_that_hangs_up_is_not_believed(shared, cluster, table):
    name = table()
    pgpool = shared(backend_weight0=0, relcache_query_target="load_balance_node")
    with pgpool.connect(application_name="rel_gone") as conn:
        assert where(conn, cluster) == "standby"
        cluster.standby.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rel_gone'")
        told = dict(conn.execute(f"PGPOOL EXPLAIN SELECT 1 FROM {name}").fetchall())
        assert told["tables"] == f"{name} (plain)"
