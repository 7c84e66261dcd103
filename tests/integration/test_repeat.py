"""A read that a standby refuses, or that is lost with the standby, goes to the primary once more (behaviour.md 5)."""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.support.nodes import where
from tests.support.postgres import Cluster
from tests.support.servers import wait_until
from tests.support.wire import SYNC, RawClient, bind, describe, execute, parse, query

pytestmark = pytest.mark.needs_pgpool

LATE = """CREATE OR REPLACE FUNCTION late() RETURNS int LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN PERFORM count(*) FROM generate_series(1, 100000000000); END IF;
    RETURN 7;
END $$"""
"""Never ready on a standby, at once on a primary."""


@pytest.fixture(scope="module")
def ticket(cluster: Cluster):
    """A function that says it only reads, and does not."""
    cluster.execute("CREATE SEQUENCE tickets")
    cluster.execute("CREATE FUNCTION ticket() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT nextval('tickets') $$")
    cluster.wait_for_catchup()
    yield
    cluster.execute("DROP FUNCTION ticket(); DROP SEQUENCE tickets")


def refusals(pgpool) -> int:
    return int(pgpool.show("pool_backend_stats")[1]["error_cnt"])


def test_refused_simple(standby_reads, cluster: Cluster, ticket):
    with RawClient.login(standby_reads) as client:
        before = refusals(standby_reads)
        client.send(query("SELECT ticket() AS simple"))
        got = client.read_until()
        assert [m.kind for m in got] == ["T", "D", "C", "Z"]
        assert refusals(standby_reads) == before + 1
        first = int(client.value("SELECT ticket() AS simple"))
        assert int(client.value("SELECT ticket() AS simple")) == first + 1
        assert refusals(standby_reads) == before + 1  # learnt
        assert int(client.value("SELECT inet_server_port()")) == cluster.standby.port  # other reads still go there


def test_refused_extended(standby_reads, cluster: Cluster, ticket):
    with RawClient.login(standby_reads) as client:
        before = refusals(standby_reads)
        for _ in range(3):
            client.send(parse("SELECT ticket() AS extended"), bind(), describe("P"), execute(), SYNC)
            assert [m.kind for m in client.read_until()] == ["1", "2", "T", "D", "C", "Z"]
        assert refusals(standby_reads) == before + 1
        client.send(
            parse("SELECT 1"), bind(), execute(), parse("SELECT ticket() AS second"), bind(), execute(),
            parse("SELECT 2"), bind(), execute(), SYNC,
        )  # fmt: skip
        assert [m.kind for m in client.read_until()] == ["1", "2", "D", "C"] * 3 + ["Z"]
        client.send(parse("SELECT ticket() AS named", "n"), SYNC)
        assert [m.kind for m in client.read_until()] == ["1", "Z"]
        for _ in range(3):
            client.send(bind("n"), execute(), SYNC)
            assert [m.kind for m in client.read_until()] == ["2", "D", "C", "Z"]


def test_refused_in_drivers(standby_reads, ticket):
    with standby_reads.connect() as conn:
        numbers = [conn.execute("SELECT ticket() + %s", [0]).fetchone()[0] for _ in range(8)]
        assert numbers == list(range(numbers[0], numbers[0] + 8))
        with conn.transaction(), pytest.raises(psycopg.errors.ReadOnlySqlTransaction), conn.transaction():
            conn.execute("SELECT ticket() AS inside")  # the transaction is under way: too late to move


def test_reason_and_count(standby_reads, ticket):
    told: list[str] = []
    with standby_reads.connect() as conn:
        conn.add_notice_handler(lambda d: told.append(d.message_primary))
        conn.execute("SELECT ticket() AS why")
        conn.execute("PGPOOL SET notice_routing_reason = on")
        conn.execute("SELECT ticket() AS why")
    assert any("a standby refused it" in text for text in told)


def test_conflict_with_recovery(make_pgpool, own_cluster: Cluster):
    standby = own_cluster.standby
    standby.configure(max_standby_streaming_delay="100ms")
    standby.reload()
    own_cluster.execute("CREATE TABLE held (i int)")
    own_cluster.execute(LATE)
    own_cluster.wait_for_catchup()
    pgpool = make_pgpool({"backend_weight0": 0}, nodes=own_cluster.nodes)
    with pgpool.connect() as conn:
        assert where(conn, own_cluster) == "standby"
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(conn.execute("SELECT late(), count(*) FROM held").fetchone()))
        thread.start()
        wait_until(lambda: standby.backends("state = 'active' AND query LIKE '%late()%'"), "the read")
        own_cluster.primary.execute("DROP TABLE held; CREATE TABLE held (i int)")
        thread.join(60)
        assert got == [(7, 0)]
    assert "refused a read (SQLSTATE 40001)" in pgpool.log_text()


def test_standby_stops_at_once(make_pgpool, own_cluster: Cluster):
    standby = own_cluster.standby
    own_cluster.execute(LATE)
    own_cluster.wait_for_catchup()
    pgpool = make_pgpool({"backend_weight0": 0}, nodes=own_cluster.nodes)
    with pgpool.connect() as conn:
        assert where(conn, own_cluster) == "standby"
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(conn.execute("SELECT late()").fetchone()))
        thread.start()
        wait_until(lambda: standby.backends("state = 'active' AND query LIKE '%late()%'"), "the read")
        standby.stop("immediate")
        thread.join(60)
        assert got == [(7,)]
        assert where(conn, own_cluster) == "primary"


def test_hung_standby_is_detached(make_pgpool, own_cluster: Cluster):
    """The read that waits for it goes to the primary then."""
    standby = own_cluster.standby
    checked = {"health_check_period": 1, "health_check_timeout": 2, "health_check_max_retries": 0}
    settings = {**checked, "backend_weight0": 0, "failover_client_policy": "wait"}
    pgpool = make_pgpool(settings, nodes=own_cluster.nodes)
    with pgpool.connect() as conn:
        assert where(conn, own_cluster) == "standby"
        standby.freeze()
        try:
            assert where(conn, own_cluster) == "primary"
        finally:
            standby.thaw()


def test_a_statement_that_ends_its_own_server_process_is_not_repeated(standby_reads, cluster: Cluster):
    """Killed by hand, or it crashed the server: the client is told."""
    with standby_reads.connect() as conn:
        cluster.execute(LATE)
        cluster.wait_for_catchup()
        errors: list[str | None] = []

        def read() -> None:
            try:
                conn.execute("SELECT late()")
            except psycopg.Error as error:
                errors.append(error.sqlstate)

        thread = threading.Thread(target=read)
        thread.start()
        running = "state = 'active' AND query LIKE '%late()%'"
        wait_until(lambda: cluster.standby.backends(running), "the read")
        others = f"pid <> pg_backend_pid() AND {running}"
        cluster.standby.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        thread.join(60)
        assert errors == ["57P01"]


def test_an_idle_session_whose_standby_backend_has_ended_reads_on(standby_reads, cluster: Cluster):
    """Its good-bye came while nobody asked: the next read does not go there."""
    with standby_reads.connect() as conn, standby_reads.connect() as other:
        for session in (conn, other):
            assert session.execute("SELECT inet_server_port()").fetchone() == (cluster.standby.port,)
        ours = "datname = 'app' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        mark = standby_reads.mark()
        cluster.standby.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        gone = "backend 1 closed the connection; the session goes on without it"
        wait_until(lambda: standby_reads.log_since(mark).count(gone) == 2, "both sessions to hear it")
        for session in (conn, other):
            assert session.execute("SELECT inet_server_port()").fetchone() == (cluster.primary.port,)
            assert session.execute("SELECT 1").fetchone() == (1,)
