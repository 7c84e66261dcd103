"""pgbench through pgpool: every protocol mode, reading and writing scripts, reconnects, many clients."""

import re

import pytest

from tests.support.places import pg_bin, run, wait_until


def pgbench(server, *args: str, timeout: float = 100, database: str = "app") -> str:
    """Run pgbench; everything it said. Fails on a failed transaction or a non-zero exit."""
    argv = [pg_bin() / "pgbench", "-h", server.host, "-p", server.port, "-U", "postgres", *args, database]
    done = run(argv, timeout=timeout)
    said = done.stdout + done.stderr
    if match := re.search(r"number of failed transactions: (\d+)", said):
        assert match.group(1) == "0", said
    return said


def processed(said: str) -> int:
    match = re.search(r"actually processed: (\d+)", said)
    assert match, said
    return int(match.group(1))


@pytest.fixture(scope="module")
def branches(cluster):
    """pgbench's tables at scale 2, on both nodes."""
    argv = [pg_bin() / "pgbench", "-h", cluster.primary.host, "-p", cluster.primary.port, "-U", "postgres"]
    run([*argv, "-i", "-q", "-s", "2", "app"])
    cluster.wait_for_catchup()
    yield
    cluster.primary.execute("DROP TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history")


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["-S", "-N", "-b=tpcb-like"])
def test_modes(pgpool, branches, mode, script):
    said = pgbench(pgpool, "-n", "-M", mode, *script.split("="), "-c", "4", "-t", "100")
    assert processed(said) == 400


def test_tpcb_loses_nothing(pgpool, branches, postgres):
    """No transaction lost, doubled or half done: history and the three balances grow by the same sum."""
    query = (
        "SELECT (SELECT count(*) FROM pgbench_history), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),"
        " (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
        " (SELECT sum(bbalance) FROM pgbench_branches)"
    )
    before = postgres.execute(query)[0]
    pgbench(pgpool, "-n", "-M", "prepared", "-c", "6", "-t", "50")
    count, *sums = (new - old for new, old in zip(postgres.execute(query)[0], before, strict=True))
    assert count == 300
    assert len(set(sums)) == 1, sums


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_new_connection_for_each_transaction(pgpool, branches, mode):
    assert processed(pgbench(pgpool, "-n", "-S", "-C", "-M", mode, "-c", "4", "-t", "25")) == 100


@pytest.mark.long
def test_thirty_two_clients(shared, branches):
    pgpool = shared(num_init_children=36)
    assert processed(pgbench(pgpool, "-n", "-S", "-c", "32", "-j", "2", "-t", "100")) == 3200
    assert processed(pgbench(pgpool, "-n", "-M", "prepared", "-c", "32", "-j", "2", "-t", "20")) == 640


def test_more_clients_than_children_wait_their_turn(shared, branches):
    """Nobody gets an error: clients wait in the listen queue (behaviour.md 2). -C gives the children back."""
    pgpool = shared(num_init_children=2)
    assert processed(pgbench(pgpool, "-n", "-S", "-C", "-c", "8", "-j", "8", "-t", "10")) == 80


def test_initialise_through_pgpool(pgpool, cluster, postgres):
    cluster.execute("CREATE DATABASE bench")
    try:
        said = pgbench(pgpool, "-i", "-q", "-s", "1", "-I", "dtgvp", "--tablespace=pg_default", database="bench")
        assert "done in" in said
        assert postgres.value("SELECT count(*) FROM pgbench_accounts", "bench") == 100_000
    finally:
        postgres.execute("DROP DATABASE bench WITH (FORCE)")


def test_pipeline_script(pgpool, branches, tmp_path):
    script = tmp_path / "pipeline.sql"
    script.write_text(
        "\\startpipeline\nSELECT 1;\nSELECT abalance FROM pgbench_accounts WHERE aid = 1;\nSELECT 2;\n\\endpipeline\n"
    )
    for mode in ("extended", "prepared"):
        assert processed(pgbench(pgpool, "-n", "-f", str(script), "-M", mode, "-c", "2", "-t", "50")) == 100


def test_reads_are_spread(shared, branches, proxy_kind):
    if proxy_kind == "direct":
        pytest.skip("needs a pgpool")
    pgpool = shared(statement_level_load_balance=True)
    before = [int(row["select_cnt"]) for row in pgpool.show("pool_nodes")]
    pgbench(pgpool, "-n", "-S", "-c", "4", "-t", "100")
    wait_until(
        lambda: sum(int(r["select_cnt"]) for r in pgpool.show("pool_nodes")) >= sum(before) + 400, "the counters"
    )
    gained = [int(row["select_cnt"]) - b for row, b in zip(pgpool.show("pool_nodes"), before, strict=True)]
    assert min(gained) > 120, gained
