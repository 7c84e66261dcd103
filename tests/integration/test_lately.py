"""dml_adaptive_global: what any session has written is read on the primary for a while (behaviour.md 5.6)."""

from __future__ import annotations

import sys

import pytest

from tests.support.nodes import where
from tests.support.servers import wait_until
from tests.support.wire import SYNC, RawClient, bind, execute, parse, query

pytestmark = pytest.mark.needs_pgpool

EVERYWHERE = {
    "backend_weight0": 0,
    "disable_load_balance_on_write": "dml_adaptive_global",
    "track_table_mutation_cold_start_duration": 0,
}


@pytest.fixture
def long(shared):
    """No delay is measured in time: a table counts as written for track_table_mutation_max_staleness."""
    return shared(**EVERYWHERE)


def reads(conn, cluster, name: str) -> str:
    """Where a read of this table goes."""
    return where(conn, cluster, f"SELECT inet_server_port(), (SELECT count(*) FROM {name})")


@pytest.mark.parametrize("write", ["INSERT INTO {} VALUES (1, 'x')", "UPDATE {} SET t = 'y'", "DELETE FROM {}", "EXECUTE w"])
def test_other_sessions_see_what_was_written(long, cluster, table, write):
    written, other = table(), table()
    with long.connect() as one, long.connect() as two:
        one.execute(f"PREPARE w AS UPDATE {written} SET t = 'z'")
        assert [reads(two, cluster, name) for name in (written, other)] == ["standby"] * 2
        one.execute(write.format(written))
        for conn in (one, two):
            assert [reads(conn, cluster, name) for name in (written, f"public.{written}", other)] == [
                "primary", "primary", "standby"
            ]  # fmt: skip
    with long.connect() as later:
        assert reads(later, cluster, written) == "primary"


def test_transactions(long, cluster, table):
    written, other = table(), table()
    with long.connect() as one, long.connect() as two:
        for end, seen in (("ROLLBACK", "standby"), ("COMMIT", "primary")):
            one.execute("BEGIN")
            one.execute(f"INSERT INTO {written} VALUES (1, 'x')")
            assert [reads(one, cluster, name) for name in (written, other)] == ["primary", "standby"]
            assert reads(two, cluster, written) == "standby"  # nobody else can see it yet
            one.execute(end)
            assert [reads(two, cluster, name) for name in (written, other)] == [seen, "standby"]


def test_partitions_children_and_views(long, cluster, table):
    whole, other = table("a int) PARTITION BY LIST (a"), table()
    cluster.execute(
        f"CREATE TABLE {whole}_1 PARTITION OF {whole} FOR VALUES IN (1);"
        f"CREATE TABLE {whole}_2 PARTITION OF {whole} DEFAULT;"
        f"CREATE VIEW {whole}_v AS SELECT * FROM {whole}_1; CREATE VIEW {whole}_w AS SELECT * FROM {whole}_v, {other}"
    )
    try:
        with long.connect() as one, long.connect() as two:
            names = (whole, f"{whole}_1", f"{whole}_v", f"{whole}_w", other)
            assert [reads(two, cluster, name) for name in names] == ["standby"] * 5
            one.execute(f"INSERT INTO {whole}_1 VALUES (1)")
            assert [reads(two, cluster, name) for name in names] == ["primary"] * 4 + ["standby"]
    finally:
        cluster.execute(f"DROP VIEW {whole}_v CASCADE")


def test_a_write_of_unknown_tables_is_one_of_all_in_its_database(make_pgpool, cluster, table):
    written, other = table(), table()
    pgpool = make_pgpool(EVERYWHERE)
    with pgpool.connect() as one, pgpool.connect() as two, pgpool.connect("postgres") as elsewhere:
        one.execute("SELECT txid_current()")  # writes no table
        assert reads(two, cluster, other) == "standby"
        one.execute(f"DO $$ BEGIN INSERT INTO {written} VALUES (1, 'x'); END $$")
        assert reads(two, cluster, other) == "primary"
        assert reads(elsewhere, cluster, "information_schema.sql_features") == "standby"


def test_batches(long, cluster, table):
    """A write in a batch, in a pipeline, and in a transaction that begins and ends in one."""
    names = [table() for _ in range(3)]
    write = "INSERT INTO {} VALUES (1, 'x')"
    with RawClient.login(long) as client, long.connect() as other:
        for name in names:
            other.execute(f"SELECT FROM {name}")
        client.ask(parse(write.format(names[0])), bind(), execute(), SYNC)
        assert reads(other, cluster, names[0]) == "primary"
        client.send(query("BEGIN"), query(write.format(names[1])), query("COMMIT"))
        for _ in range(3):
            client.read_until()
        assert reads(other, cluster, names[1]) == "primary"
        found = client.ask(
            parse("BEGIN"), bind(), execute(), parse(write.format(names[2])), bind(), execute(),
            parse("COMMIT"), bind(), execute(), SYNC,
        )  # fmt: skip
        assert not [m for m in found if m.kind == "E"]
        assert reads(other, cluster, names[2]) == "primary"
        # and the batch is still one: an error in it undoes what came before
        again = f"INSERT INTO {names[0]} VALUES (5, 'x')"
        client.ask(parse(again), bind(), execute(), parse("SELECT 1 / 0"), bind(), execute(), SYNC)
    assert cluster.primary.value(f"SELECT count(*) FROM {names[0]} WHERE id = 5") == 0


def test_it_passes(make_pgpool, cluster, table, tmp_path):
    """With a delay in time: the delay times the factor. Before, for a while after the start, all is read on the primary."""
    tmp_path.chmod(0o777)
    command = f'{sys.executable} -c "print(100)"'  # milliseconds
    delay = {"replication_delay_source_cmd": command, "sr_check_period": 1, "track_table_mutation_ttl_factor": 3}
    pgpool = make_pgpool({**EVERYWHERE, **delay, "track_table_mutation_cold_start_duration": 4000})
    written = table()
    with pgpool.connect() as conn:
        assert reads(conn, cluster, written) == "primary"
        told = dict(conn.execute(f"PGPOOL EXPLAIN TABLE {written}").fetchall())
        assert told["reason"].startswith("a table was written lately")
        wait_until(lambda: reads(conn, cluster, written) == "standby", "the cold start to end")
        conn.execute(f"INSERT INTO {written} VALUES (1, 'x')")
        assert reads(conn, cluster, written) == "primary"
        wait_until(lambda: reads(conn, cluster, written) == "standby", "the write to be old", 5)


def test_no_longer_than_the_longest(make_pgpool, cluster, table):
    pgpool = make_pgpool({**EVERYWHERE, "track_table_mutation_max_staleness": 500})
    written = table()
    with pgpool.connect() as conn:
        conn.execute(f"INSERT INTO {written} VALUES (1, 'x')")
        assert reads(conn, cluster, written) == "primary"
        wait_until(lambda: reads(conn, cluster, written) == "standby", "the write to be old", 5)
