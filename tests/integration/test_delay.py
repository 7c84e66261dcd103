"""A standby that is too far behind gets no reads until it has caught up (behaviour.md 5.5)."""

from __future__ import annotations

import contextlib
import sys

import pytest

from tests.support.nodes import where
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture
def lagging(cluster):
    """The standby stops replaying for a while."""
    cluster.wait_for_catchup()
    cluster.standby.execute("SELECT pg_wal_replay_pause()")
    try:
        yield cluster
    finally:
        cluster.standby.execute("SELECT pg_wal_replay_resume()")
        cluster.execute("DROP TABLE IF EXISTS behind")


@pytest.fixture
def delayed(cluster):
    """delayed(text) sets recovery_min_apply_delay of the standby: it replays each commit that much later."""

    def delayed(text: str) -> None:
        cluster.standby.configure(recovery_min_apply_delay=text)
        cluster.standby.reload()
        shown = "SELECT current_setting('recovery_min_apply_delay')"
        wait_until(lambda: cluster.standby.quick(shown) == text, "the setting")

    cluster.wait_for_catchup()
    yield delayed
    delayed("0")
    cluster.wait_for_catchup()


def test_reads_leave_a_late_standby_and_come_back(shared, lagging):
    pgpool = shared(backend_weight0=0, delay_threshold=20_000, sr_check_period=1)
    notices: list[str] = []
    with pgpool.connect() as conn:
        conn.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
        # the same text each time: the verdict table knows it, and still the node changes
        wait_until(lambda: where(conn, lagging) == "standby", "reads on the standby")
        lagging.primary.execute("CREATE TABLE behind AS SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g")
        wait_until(lambda: where(conn, lagging) == "primary", "reads to leave the late standby")
        conn.execute("PGPOOL SET notice_routing_reason = on")
        assert where(conn, lagging, "SELECT inet_server_port() AS told") == "primary"
        assert any("too far behind" in text for text in notices)
        with pgpool.connect() as fresh:
            assert where(fresh, lagging) == "primary"
        lagging.standby.execute("SELECT pg_wal_replay_resume()")
        wait_until(lambda: where(conn, lagging) == "standby", "reads to come back")


def test_every_session_leaves_a_late_standby(shared, lagging):
    """One session's verdict is found by the others: each of them looks at the nodes all the same."""
    pgpool = shared(backend_weight0=0, delay_threshold=20_000, sr_check_period=1)
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(pgpool.connect()) for _ in range(3)]
        for conn in sessions:
            wait_until(lambda c=conn: where(c, lagging) == "standby", "reads on the standby")
        lagging.primary.execute("CREATE TABLE behind AS SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g")
        wait_until(lambda: where(sessions[0], lagging) == "primary", "reads to leave the late standby")
        assert [where(conn, lagging) for conn in sessions] == ["primary"] * 3


def test_statement_level(shared, lagging):
    pgpool = shared(backend_weight0=0, delay_threshold=20_000, sr_check_period=1, statement_level_load_balance=True)
    with pgpool.connect() as conn:
        wait_until(lambda: where(conn, lagging) == "standby", "reads on the standby")
        lagging.primary.execute("CREATE TABLE behind AS SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g")
        wait_until(lambda: where(conn, lagging) == "primary", "reads to leave the late standby")
        lagging.standby.execute("SELECT pg_wal_replay_resume()")
        wait_until(lambda: where(conn, lagging) == "standby", "reads to come back")


def test_a_standby_that_replays_later(shared, cluster, table, delayed):
    """recovery_min_apply_delay and delay_threshold_by_time: late for as long as it stays behind."""
    name = table(rows="VALUES (1, 'x')")
    pgpool = shared(backend_weight0=0, delay_threshold_by_time=200, sr_check_period=1)

    def where_after_a_write() -> str:
        cluster.primary.execute(f"UPDATE {name} SET t = t || 'x'")
        return where(conn, cluster)

    with pgpool.connect() as conn:
        wait_until(lambda: where(conn, cluster) == "standby", "reads on the standby")
        delayed("2s")
        wait_until(lambda: where_after_a_write() == "primary", "reads to leave the late standby")
        delayed("0")
        wait_until(lambda: where_after_a_write() == "standby", "reads to come back")


@pytest.mark.parametrize("statement_level", [False, True])
def test_a_session_sees_its_writes_on_a_standby_that_replays_later(shared, cluster, table, delayed, statement_level):
    name = table()
    pgpool = shared(backend_weight0=0, disable_load_balance_on_write="lsn", statement_level_load_balance=statement_level)
    with pgpool.connect() as conn:
        wait_until(lambda: where(conn, cluster) == "standby", "reads on the standby")
        delayed("1s")
        for rows in (1, 2):
            conn.execute(f"INSERT INTO {name} VALUES ({rows}, 'x')")
            seen = conn.execute(f"SELECT count(*), inet_server_port() FROM {name}").fetchone()
            assert seen == (rows, cluster.primary.port)

        def on_the_standby() -> bool:
            rows, port = conn.execute(f"SELECT count(*), inet_server_port() FROM {name}").fetchone()
            assert rows == 2
            return port == cluster.standby.port

        wait_until(on_the_standby, "reads to come back when it has replayed the writes")


def test_delays_from_a_command(make_pgpool, cluster, tmp_path):
    """replication_delay_source_cmd: its numbers count, and a node it knows nothing of gets no reads."""
    said, args = tmp_path / "said", tmp_path / "args"
    tmp_path.chmod(0o777)
    said.write_text("3.5")
    said.chmod(0o666)
    code = f"import sys; open('{args}', 'w').write(' '.join(sys.argv[1:])); print(open('{said}').read())"
    command = f'{sys.executable} -c "{code}"'
    pgpool = make_pgpool(
        {"backend_weight0": 0, "delay_threshold_by_time": 10, "sr_check_period": 1, "replication_delay_source_cmd": command}
    )
    with pgpool.connect() as conn:
        wait_until(lambda: where(conn, cluster) == "standby", "a small delay")
        assert args.read_text() == f"{cluster.standby.host}:{cluster.standby.port}"
        for text in ("5000", "-1 -1"):
            said.write_text(text)
            wait_until(lambda: where(conn, cluster) == "primary", f"what {text} means")
            said.write_text("0")
            wait_until(lambda: where(conn, cluster) == "standby", "the small delay again")
    assert "replication_delay_source_cmd failed" in pgpool.log_text()
