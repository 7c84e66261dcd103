"""The pages of the monitoring endpoint: /metrics, /livez, /readyz."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgpool.web.families import samples

if TYPE_CHECKING:
    from pgpool.config.settings import Settings
    from pgpool.shared import Shared

PLAIN, JSON = "text/plain; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is left out for HEAD, its length is told all the same."""

    status: int
    body: bytes
    content_type: str = PLAIN


def metrics(shared: Shared, settings: Settings, queues: Sequence[tuple[str, int, int]], accept: str) -> Answer:
    """All metrics, in OpenMetrics when ``accept`` asks for it, else in Prometheus' text format."""
    from prometheus_client.core import Metric  # heavy, and needed only where the endpoint is switched on
    from prometheus_client.exposition import choose_encoder  # likewise heavy

    class Snapshot:
        def collect(self):
            for row, values in samples(shared, settings, queues):
                metric = Metric(row.name, row.help, row.kind)
                for ending, labels, value in values:
                    metric.add_sample(row.name + ending, labels, value)
                yield metric

    encode, content_type = choose_encoder(accept)
    return Answer(200, encode(Snapshot()), content_type)


def live(shared: Shared) -> Answer:
    """This process answers; it ends together with the parent."""
    return _json(200, {"alive": True, "parent_pid": shared.parent_pid})


def ready(shared: Shared, settings: Settings) -> Answer:
    """200 when a new client can be served, else 503 and why not. Busy children do not make it unready."""
    nodes = [view for view in shared.node_views(settings) if view.state]
    usable = {view.id for view in nodes if view.usable}
    reasons = []
    if shared.stopping:
        reasons.append("pgpool is shutting down")
    if not usable:
        reasons.append("no backend is up")
    elif settings.mode.has_primary and shared.primary_id not in usable:
        reasons.append("the primary is unknown or down")
    if shared.switching:
        reasons.append("a failover is under way")
    if shared.recovery[0] and shared.recovery[2] >= 2:
        reasons.append("online recovery is in its second stage")
    busy = shared.connected_clients()
    return _json(
        503 if reasons else 200,
        {
            "ready": not reasons,
            "reasons": reasons,
            "clients": busy,
            "max_clients": len(shared.children),
            "all_children_busy": busy >= len(shared.children),
            "nodes": {str(view.id): view.state.name.lower() for view in nodes},
        },
    )


def _json(status: int, content: dict) -> Answer:
    return Answer(status, json.dumps(content).encode() + b"\n", JSON)


Page = Callable[[str], Answer]
"""Makes the answer to GET; given the Accept header."""
