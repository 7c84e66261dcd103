"""What /metrics tells: families of samples out of a snapshot of shared memory. docs/operating.md lists the table below."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgpool import version_text
from pgpool.model import Counter, Reason, Role
from pgpool.shared.children import ChildStatus
from pgpool.shared.layout import BUCKETS, FIRST_BITS, HISTOGRAM_WORDS

if TYPE_CHECKING:
    from pgpool.config.settings import Settings
    from pgpool.model import NodeView
    from pgpool.shared import Shared

GAUGE, COUNTER, UNKNOWN, HISTOGRAM = "gauge", "counter", "unknown", "histogram"
"""``unknown``: a counter under the name that pgpool2_exporter gives it, without the ending _total of OpenMetrics."""

Labels = dict[str, str]
Sample = tuple[str, Labels, float]
"""(ending of the name, labels, value)"""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. ``name`` without the ending _total of a counter, _bucket ... of a histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


NODE = ("hostname", "port", "role")
STATS = (*NODE, "status")
PLACE = ("node_id", "hostname", "port")
_STATEMENTS = ("select", "insert", "update", "delete", "ddl", "other")
_SEVERITIES = ("panic", "fatal", "error")
_HEALTH = {
    "total_count": (UNKNOWN, "Health checks, skipped ones included"),
    "success_count": (UNKNOWN, "Health checks that succeeded"),
    "fail_count": (UNKNOWN, "Health checks that failed"),
    "skip_count": (UNKNOWN, "Health checks not made because the node was down"),
    "retry_count": (UNKNOWN, "Retries of health checks"),
    "average_retry_count": (GAUGE, "Retries per health check"),
    "max_retry_count": (GAUGE, "Most retries of one health check"),
    "max_duration": (GAUGE, "Longest health check, milliseconds"),
    "min_duration": (GAUGE, "Shortest health check, milliseconds"),
    "average_duration": (GAUGE, "Average health check, milliseconds"),
}

METRICS: tuple[Row, ...] = (
    Row("pgpool2_up", GAUGE, (), "1: this is a scrape of pgpool itself"),
    Row("pgpool2_last_scrape_duration_seconds", GAUGE, (), "Time that collecting these numbers took"),
    Row("pgpool2_last_scrape_error", GAUGE, (), "0: they could be collected"),
    Row("pgpool2_frontend_total", GAUGE, (), "Clients that can be served at once (num_init_children)"),
    Row("pgpool2_frontend_used", GAUGE, (), "Clients served now"),
    Row("pgpool2_frontend_used_ratio", GAUGE, (), "Used divided by total"),
    Row("pgpool2_pool_nodes_status", GAUGE, NODE, "1 for a node that is up or waiting, else 0"),
    Row("pgpool2_pool_nodes_select_cnt", UNKNOWN, NODE, "SELECTs sent to the node"),
    Row("pgpool2_pool_nodes_replication_delay", GAUGE, NODE, "Bytes behind, or microseconds with delay_threshold_by_time"),
    *(
        Row(f"pgpool2_pool_backend_stats_{what}_cnt", UNKNOWN, STATS, f"{what.upper()} statements sent to the node")
        for what in _STATEMENTS
    ),
    *(
        Row(f"pgpool2_pool_backend_stats_{what}_cnt", UNKNOWN, STATS, f"{what.upper()} messages the node sent")
        for what in _SEVERITIES
    ),
    *(Row(f"pgpool2_pool_health_check_stats_{what}", kind, STATS, text) for what, (kind, text) in _HEALTH.items()),
    Row("pgpool_build", "info", ("version",), "Version of this program"),
    Row("pgpool_start_time_seconds", GAUGE, (), "When pgpool started, seconds since 1970"),
    Row("pgpool_children", GAUGE, ("state",), "Child processes by what they do; none: no process in this place now"),
    Row("pgpool_pool_slots", GAUGE, ("state",), "Pool slots of all children: used by a client, cached for the next, free"),
    Row("pgpool_clients", COUNTER, (), "Clients accepted since start"),
    Row("pgpool_returning_clients", COUNTER, (), "Those of them who were let in as the last time, without a new decision"),
    Row("pgpool_client_wait_seconds", HISTOGRAM, (), "Wait of TCP clients for a free child, to the kernel's milliseconds"),
    Row("pgpool_accept_queue", GAUGE, ("address",), "TCP clients that wait for a free child now"),
    Row("pgpool_accept_queue_limit", GAUGE, ("address",), "TCP clients that may wait; more are dropped by the kernel"),
    Row("pgpool_requests", COUNTER, (), "Requests of clients: simple queries, Parses, Binds"),
    Row("pgpool_verdict_hits", COUNTER, (), "Statements whose route the shared table knew"),
    Row("pgpool_verdict_misses", COUNTER, (), "Statements that had to be analysed"),
    Row("pgpool_routed", COUNTER, ("reason",), "Simple queries and Binds by why they went where they went"),
    Row("pgpool_statements", COUNTER, (*PLACE, "kind"), "Statements sent to a node, as SHOW pool_backend_stats counts"),
    Row("pgpool_backend_errors", COUNTER, (*PLACE, "severity"), "ErrorResponses that a node sent"),
    Row("pgpool_query_duration_seconds", HISTOGRAM, (*PLACE, "destination"),
        "Request sent to ReadyForQuery, by node, as primary or as load balance node (standby)"),
    Row("pgpool_node_up", GAUGE, PLACE, "1 for a node that is up or waiting, else 0"),
    Row("pgpool_node_primary", GAUGE, PLACE, "1 for the primary (raw mode: the main node), else 0"),
    Row("pgpool_node_down", COUNTER, PLACE, "How often the node was taken out (failover, detach)"),
    Row("pgpool_node_return", COUNTER, PLACE, "How often the node was taken in again (failback, attach)"),
    Row("pgpool_primary_changes", COUNTER, (), "How often another node became the primary"),
    Row("pgpool_reloads", COUNTER, (), "Reloads of pgpool.conf that succeeded"),
)  # fmt: skip


def samples(
    shared: Shared, settings: Settings, queues: Sequence[tuple[str, int, int]]
) -> Iterator[tuple[Row, list[Sample]]]:
    """Every metric with its samples. ``queues``: (address, clients waiting, limit) of each TCP listener."""
    began = time.perf_counter()
    values: dict[str, list[Sample]] = {row.name: [] for row in METRICS}

    def add(name: str, value: float, ending: str = "", **labels: str) -> None:
        values[name].append((ending, labels, float(value)))

    _clients(add, values, shared, settings)
    for view in shared.node_views(settings):
        if view.state:
            _node(add, values, shared, view)
    for address, waiting, limit in queues:
        add("pgpool_accept_queue", waiting, address=address)
        add("pgpool_accept_queue_limit", limit, address=address)
    _relay(add, shared)
    add("pgpool2_up", 1)
    add("pgpool2_last_scrape_error", 0)
    add("pgpool_build", 1, "_info", version=version_text())
    add("pgpool_start_time_seconds", shared.start_time)
    add("pgpool_primary_changes", shared.primary_changes, "_total")
    add("pgpool_reloads", shared.reload_count, "_total")
    add("pgpool2_last_scrape_duration_seconds", time.perf_counter() - began)
    for row in METRICS:
        yield row, values[row.name]


def _clients(add, values, shared: Shared, settings: Settings) -> None:
    """Children, clients, pool slots."""
    states = {status.name.lower(): 0 for status in ChildStatus} | {"none": 0}
    slots = {"used": 0, "cached": 0, "free": 0}
    connected = clients = 0
    for child in shared.children:
        states[child.status.name.lower() if child.pid else "none"] += 1
        connected += child.connected
        clients += child.clients
        for slot in child.slots:
            slots["used" if slot.connected else "cached" if slot.filled else "free"] += 1
    total = len(shared.children)
    add("pgpool2_frontend_total", total)
    add("pgpool2_frontend_used", connected)
    add("pgpool2_frontend_used_ratio", connected / total if total else 0.0)
    add("pgpool_clients", clients, "_total")
    add("pgpool_returning_clients", sum(child.guests for child in shared.children), "_total")
    for state, count in states.items():
        add("pgpool_children", count, state=state)
    for state, count in slots.items():
        add("pgpool_pool_slots", count, state=state)
    values["pgpool_client_wait_seconds"] += _histogram([child.waits for child in shared.children], {})


def _node(add, values, shared: Shared, view: NodeView) -> None:
    """One backend: under the exporter's names, and under ours."""
    node = shared.nodes[view.id]
    role = {"hostname": view.hostname, "port": str(view.port), "role": view.role.name.lower()}
    stats = role | {"status": "quarantine" if view.quarantined else view.state.name.lower()}
    place = {"node_id": str(view.id), "hostname": view.hostname, "port": str(view.port)}
    counts = shared.counters(view.id)
    add("pgpool2_pool_nodes_status", view.usable, **role)
    add("pgpool2_pool_nodes_select_cnt", counts[Counter.SELECT], **role)
    add("pgpool2_pool_nodes_replication_delay", view.delay, **role)
    for counter in Counter:
        what = counter.name.lower()
        add(f"pgpool2_pool_backend_stats_{what}_cnt", counts[counter], **stats)
        if what in _STATEMENTS:
            add("pgpool_statements", counts[counter], "_total", **place, kind=what)
        else:
            add("pgpool_backend_errors", counts[counter], "_total", **place, severity=what)
    h = node.health()
    made = h.total - h.skip
    for what, value in zip(_HEALTH, (
        h.total, h.success, h.fail, h.skip, h.retry, h.retry / made if made else 0.0, h.max_retry,
        round(h.max_ms), round(h.min_ms), h.sum_ms / made if made else 0.0,
    ), strict=True):  # fmt: skip
        add(f"pgpool2_pool_health_check_stats_{what}", value, **stats)
    both = [child.latency(view.id) for child in shared.children]
    for at, destination in enumerate(("primary", "standby")):
        values["pgpool_query_duration_seconds"] += _histogram(
            [pair[at] for pair in both], place | {"destination": destination}
        )
    downs, ups = node.changes
    add("pgpool_node_up", view.usable, **place)
    add("pgpool_node_primary", view.role in (Role.PRIMARY, Role.MAIN), **place)
    add("pgpool_node_down", downs, "_total", **place)
    add("pgpool_node_return", ups, "_total", **place)


def _relay(add, shared: Shared) -> None:
    """What the hot path has counted."""
    counts = shared.relay_counts()
    add("pgpool_requests", counts.queries, "_total")
    add("pgpool_verdict_hits", counts.verdict_hits, "_total")
    add("pgpool_verdict_misses", counts.verdict_misses, "_total")
    totals = [sum(column) for column in zip(*(child.reasons for child in shared.children), strict=True)]
    for reason in Reason:
        add("pgpool_routed", totals[reason], "_total", reason=reason.name.lower())


def _histogram(rows: Iterable[tuple[int, ...]], labels: Labels) -> list[Sample]:
    """Cells of all children (microseconds, then counts) as cumulative buckets in seconds."""
    total, *counts = [sum(column) for column in zip(*rows, strict=True)] or [0] * HISTOGRAM_WORDS
    out: list[Sample] = []
    sofar = 0
    for bucket, count in enumerate(counts):
        sofar += count
        limit = f"{(1 << FIRST_BITS + bucket) / 1e6}" if bucket < BUCKETS - 1 else "+Inf"
        out.append(("_bucket", labels | {"le": limit}, float(sofar)))
    return [*out, ("_count", labels, float(sofar)), ("_sum", labels, total / 1e6)]


def table() -> str:
    """The table of docs/operating.md."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for row in METRICS:
        name = row.name + {COUNTER: "_total", "info": "_info"}.get(row.kind, "")
        lines.append(f"| `{name}` | {row.kind} | {', '.join(row.labels)} | {row.help} |")
    return "\n".join(lines) + "\n"
