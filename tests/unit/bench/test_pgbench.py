"""What pgbench prints, read by bench.pgbench (texts as PostgreSQL 12, 15 and 17 print them)."""

import pytest

from bench.pgbench import Outcome, PgbenchFailed, parse

TIMED_15 = """\
pgbench (15.6 (Debian 15.6-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 10
query mode: simple
number of clients: 8
number of threads: 2
maximum number of tries: 1
duration: 5 s
number of transactions actually processed: 77123
number of failed transactions: 3 (0.004%)
latency average = 0.519 ms
initial connection time = 12.345 ms
tps = 15424.123456 (without initial connection time)
"""

COUNTED_12 = """\
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 1
query mode: prepared
number of clients: 1
number of threads: 1
number of transactions per client: 10
number of transactions actually processed: 10/10
latency average = 2.000 ms
tps = 400.000000 (including connections establishing)
tps = 500.000000 (excluding connections establishing)
"""

RECONNECTING = """\
number of transactions actually processed: 1655
number of failed transactions: 0 (0.000%)
latency average = 12.083 ms
average connection time = 2.900 ms
tps = 331.043210 (including reconnection times)
"""


def test_timed_run():
    assert parse(TIMED_15) == Outcome(tps=15424.123456, latency_ms=0.519, transactions=77123, failed=3)


def test_counted_run_of_an_old_pgbench_takes_the_tps_without_connecting():
    assert parse(COUNTED_12) == Outcome(tps=500.0, latency_ms=2.0, transactions=10, failed=0)


def test_connection_per_transaction():
    assert parse(RECONNECTING).tps == pytest.approx(331.04321)


@pytest.mark.parametrize("word", ["latency average", "tps = ", "actually processed"])
def test_a_missing_figure_is_said(word):
    with pytest.raises(PgbenchFailed, match=r"no /.*/ in what pgbench printed"):
        parse("\n".join(line for line in TIMED_15.splitlines() if word not in line))


def test_nothing_done_is_a_failure():
    with pytest.raises(PgbenchFailed, match="did no transaction"):
        parse(TIMED_15.replace("77123", "0"))
