"""What /metrics and /readyz say of a shared memory, in both formats; the table in the docs."""

import json
import struct
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from pgpool.model import Counter, NodeState, Reason
from pgpool.shared import layout as lay
from pgpool.web import answers, families

from ..shared.support import settings, shared

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def area(**more):
    conf = settings(backend_clustering_mode="streaming_replication", **more)
    made = shared()
    for node in (0, 1):
        made.set_node_state(node, NodeState.UP, "test")
    made.set_primary(0)
    return made, conf


def scrape(made, conf, accept=""):
    """(name, labels as a sorted tuple) -> value"""
    answer = answers.metrics(made, conf, [("0.0.0.0:9999", 3, 64)], accept)
    reader = read_openmetrics if accept else read_text
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in reader(answer.body.decode()) for s in f.samples
    }


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_both_formats_can_be_read_and_hold_every_metric(accept):
    made, conf = area()
    names = {name for name, _ in scrape(made, conf, accept)}
    for row in families.METRICS:
        assert any(name.startswith(row.name) for name in names), row.name
    assert answers.metrics(made, conf, [], OPENMETRICS).body.endswith(b"# EOF\n")


def test_values():
    made, conf = area()
    for child in (0, 2):
        hot = made.children[child].hot
        struct.pack_into("@Q", hot, lay.HOT_COUNTERS + lay.HOT_NODE_SIZE + 8 * Counter.SELECT, 20 + child)
        struct.pack_into("@Q", hot, lay.HOT_REASONS + 8 * Reason.LOCKING, 5)
    made.children[1].start(77, 1.0)
    made.children[1].begin_session("h", 1, 2.0)
    struct.pack_into("@2Q", made.children[1].hot, lay.HOT_CLIENTS, 3, 2)
    found = scrape(made, conf)
    place = (("hostname", "host1"), ("node_id", "1"), ("port", "5433"))
    assert found["pgpool_statements_total", tuple(sorted((*place, ("kind", "select"))))] == 42
    role = (("hostname", "host1"), ("port", "5433"), ("role", "standby"))
    assert found["pgpool2_pool_nodes_select_cnt", role] == 42
    assert found["pgpool2_pool_backend_stats_select_cnt", (*role, ("status", "up"))] == 42
    assert found["pgpool_routed_total", (("reason", "locking"),)] == 10
    assert found["pgpool2_frontend_used", ()] == 1
    assert found["pgpool2_frontend_used_ratio", ()] == pytest.approx(1 / 3)
    assert (found["pgpool_clients_total", ()], found["pgpool_returning_clients_total", ()]) == (3, 2)
    assert found["pgpool_children", (("state", "connecting"),)] == 1
    assert found["pgpool_children", (("state", "none"),)] == 2
    assert found["pgpool_accept_queue", (("address", "0.0.0.0:9999"),)] == 3


def test_histograms_are_cumulative():
    made, conf = area()
    waits = (0, 63, 64, 1_000_000, 10**9)
    histogram = [sum(waits), *[0] * lay.BUCKETS]
    for microseconds in waits:
        histogram[1 + min((microseconds >> lay.FIRST_BITS).bit_length(), lay.BUCKETS - 1)] += 1
    struct.pack_into(f"@{lay.HISTOGRAM_WORDS}Q", made.children[0].hot, lay.HOT_WAIT, *histogram)
    found = scrape(made, conf)
    name = "pgpool_client_wait_seconds"
    buckets = {labels[0][1]: value for (n, labels), value in found.items() if n == f"{name}_bucket"}
    assert len(buckets) == lay.BUCKETS
    assert (buckets["6.4e-05"], buckets["0.000128"], buckets["+Inf"]) == (2, 3, 5)
    assert buckets["1.048576"] == 4
    assert found[f"{name}_count", ()] == 5
    assert found[f"{name}_sum", ()] == pytest.approx(1001.000127)


def test_nodes_going_and_coming_are_counted():
    made, _ = area()
    made.set_node_state(1, NodeState.DOWN, "test")
    made.set_node_state(1, NodeState.DOWN, "again")
    made.set_node_state(1, NodeState.WAITING, "test")
    made.set_node_state(1, NodeState.UP, "test")
    assert made.nodes[1].changes == (1, 1)
    assert made.nodes[0].changes == (0, 0)
    made.set_primary(-1)
    made.set_primary(0)
    assert made.primary_changes == 0
    made.set_primary(1)
    assert made.primary_changes == 1


def why(made, conf):
    answer = answers.ready(made, conf)
    content = json.loads(answer.body)
    assert content["ready"] == (answer.status == 200) == (not content["reasons"])
    return content


def test_ready_and_why_not():
    made, conf = area()
    assert why(made, conf)["reasons"] == []
    for child in made.children:
        child.begin_session("h", 1, 2.0)
    assert why(made, conf)["all_children_busy"] is True and why(made, conf)["ready"]
    made.set_condition(switching=True)
    assert why(made, conf)["reasons"] == ["a failover is under way"]
    made.set_condition(switching=False, stopping=True)
    assert why(made, conf)["reasons"] == ["pgpool is shutting down"]
    made.set_condition(stopping=False)
    made.set_primary(-1)
    assert why(made, conf)["reasons"] == ["the primary is unknown or down"]
    for node in (0, 1):
        made.set_node_state(node, NodeState.DOWN, "test")
    assert why(made, conf)["reasons"] == ["no backend is up"]
    assert answers.live(made).status == 200


def test_the_table_in_the_docs_is_fresh():
    text = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
    assert families.table() in text
