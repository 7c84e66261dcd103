"""The monitoring endpoint of a running pgpool, and counters: what counts as what, and that they outlive a child."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.places import free_port, wait_until
from tests.support.wire import SYNC, RawClient, bind, execute, parse

pytestmark = pytest.mark.needs_pgpool
HISTORY = ("select", "insert", "update", "delete", "ddl", "other", "panic", "fatal", "error")


@pytest.fixture(scope="module")
def monitored(shared, proxy_kind):
    if proxy_kind != "ours":
        pytest.skip("the endpoint is ours")
    made = shared(num_init_children=1, metrics_port=free_port(), metrics_listen_addresses="127.0.0.1")
    wait_until(lambda: get(made, "/livez")[0] == 200, "the monitoring endpoint")
    return made


def get(pgpool, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{pgpool.settings['metrics_port']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()
    except OSError as err:
        return 0, str(err)


def values(pgpool, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    status, text = get(pgpool, "/metrics")
    assert status == 200
    return sum(
        s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == name and labels.items() <= s.labels.items()
    )


def test_a_query_is_seen(monitored):
    name = "pgpool_query_duration_seconds"
    before = values(monitored, f"{name}_count"), values(monitored, f"{name}_sum")
    reason = values(monitored, "pgpool_routed_total", reason="locking")
    with monitored.connect() as conn:
        conn.execute("SELECT pg_sleep(0.2) FOR UPDATE")
        assert values(monitored, "pgpool2_frontend_used") == 1
        assert values(monitored, "pgpool_accept_queue") == 0
    assert values(monitored, f"{name}_count") > before[0]
    assert 0.2 <= values(monitored, f"{name}_sum") - before[1] < 60
    assert values(monitored, "pgpool_routed_total", reason="locking") == reason + 1


def test_no_client_slot_is_used_and_the_wait_for_a_child_is_measured(monitored):
    waits = values(monitored, "pgpool_client_wait_seconds_sum")
    held = monitored.connect()
    second: list = []
    thread = threading.Thread(target=lambda: second.append(monitored.connect()))
    try:
        thread.start()
        wait_until(lambda: values(monitored, "pgpool_accept_queue") == 1, "the second client to wait")
        status, text = get(monitored, "/readyz")
        assert (status, json.loads(text)["all_children_busy"]) == (200, True)
        time.sleep(0.3)  # the wait that is to be seen
    finally:
        held.close()
        thread.join(30)
    second[0].close()
    assert values(monitored, "pgpool_client_wait_seconds_sum") - waits >= 0.25


def test_other_paths_and_slow_clients(monitored):
    assert get(monitored, "/")[0] == 404
    address = ("127.0.0.1", monitored.settings["metrics_port"])
    slow = [socket.create_connection(address, timeout=10) for _ in range(40)]
    try:
        for one in slow:
            one.sendall(b"GET /met")
        assert get(monitored, "/livez")[0] == 200
    finally:
        for one in slow:
            one.close()


def stats(pgpool) -> dict[str, int]:
    [row] = [r for r in pgpool.show("pool_backend_stats") if r["node_id"] == "0"]
    return {what: int(row[f"{what}_cnt"]) for what in HISTORY}


def test_counters_outlive_a_killed_child(monitored):
    with monitored.connect() as conn:
        conn.execute("SELECT 1")
        conn.execute("CREATE TEMP TABLE counted (a int)")
        conn.execute("INSERT INTO counted VALUES (1)")
        before = stats_of(conn)
        clients = values(monitored, "pgpool_clients_total")
        os.kill(monitored.child_of(conn).pid, signal.SIGKILL)
    monitored.forgiven += ("was terminated by",)
    assert wait_until(lambda: again(monitored), "a new child") == before
    assert values(monitored, "pgpool_clients_total") > clients


def test_a_fatal_error_of_a_node_is_counted_as_one(monitored, postgres):
    before = stats(monitored)
    with monitored.connect() as victim:
        victim.execute("CREATE TEMP TABLE soon_gone (a int)")
        postgres.execute(f"SELECT pg_terminate_backend({victim.info.backend_pid})")
        with pytest.raises(psycopg.OperationalError):
            victim.execute("CREATE TEMP TABLE never (a int)")
    after = stats(monitored)
    assert {what: after[what] - before[what] for what in ("panic", "fatal", "error")} == {"panic": 0, "fatal": 1, "error": 0}


def stats_of(conn) -> dict[str, int]:
    names = [f"{what}_cnt" for what in HISTORY]
    cursor = conn.execute("SHOW pool_backend_stats")
    at = [[c.name for c in cursor.description].index(name) for name in names]
    row = cursor.fetchone()
    return {what: int(row[i]) for what, i in zip(HISTORY, at, strict=True)}


def again(pgpool) -> dict[str, int] | None:
    try:
        with pgpool.connect() as conn:
            return stats_of(conn)
    except OSError:
        return None


def counted(pgpool, *parts: bytes) -> dict[str, int]:
    """What these messages, in one session, add to the counters of the primary."""
    before = stats(pgpool)
    with RawClient.login(pgpool) as client:
        client.ask(*parts)
    after = stats(pgpool)
    return {what: after[what] - before[what] for what in HISTORY if after[what] != before[what]}


EXTENDED = [
    (parse("SELECT 1"), SYNC),
    (parse("SELECT 1"), bind(), SYNC),
    (parse("SELECT generate_series(1, 3)"), bind(), execute("", 1), execute("", 1), SYNC),
    (parse("SELECT 1/0"), bind(), execute(), execute(), SYNC),
]


@pytest.mark.parametrize("number", range(len(EXTENDED)))
def test_an_execute_counts_and_each_time(shared, number):
    pgpool = shared(backend_weight1=0)
    expected = [{}, {}, {"select": 2}, {"select": 2, "error": 1}][number]
    assert counted(pgpool, *EXTENDED[number]) == expected
