"""PCP commands: a table of letter -> function (pcp_protocol.md 3). Each gets the desk and the payload, and returns the
reply. StatementError is answered as ERROR and the connection goes on, SessionFatal as FATAL and it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ..config.settings import BackendConf
from ..errors import SessionFatal, StatementError
from ..model import ClusterMode
from ..session import show_settings, show_tables
from ..shared import RequestFlag, RequestKind
from ..system import signals
from ..system.logs import LOG, log
from ..wire import pcp
from . import recovery
from .desk import Desk

Command = Callable[[Desk, bytes], bytes]
BY_A_PERSON = RequestFlag.SWITCHOVER | RequestFlag.CONFIRMED
GRACE = 5.0
"""Seconds that the parent gets beyond recovery_timeout to carry a graceful request out."""
_LEVELS = {
    "debug5": 10, "debug4": 11, "debug3": 12, "debug2": 13, "debug1": 14, "log": 15, "commerror": 16, "info": 17,
    "notice": 18, "warning": 19, "error": 20,
}  # fmt: skip
_MODES = {b"s": signals.SIGTERM, b"f": signals.SIGINT, b"i": signals.SIGQUIT}


def _node_id(payload: bytes) -> tuple[int | None, str]:
    """(id, the text it came in)."""
    written = pcp.one_text(payload)
    return pcp.number(written), written


def _known(desk: Desk, node_id: int | None) -> BackendConf | None:
    """The configured backend with this id."""
    backends = desk.settings.backends
    if node_id is None or not 0 <= node_id < min(len(backends), len(desk.shared.nodes)):
        return None
    return backends[node_id] if backends[node_id].used else None


# -- reports ----------------------------------------------------------------------------------------------------------


def _node_count(desk: Desk, payload: bytes) -> bytes:
    return pcp.done(b"L", str(len(desk.settings.backends)))


def _node_info(desk: Desk, payload: bytes) -> bytes:
    node_id, written = _node_id(payload)
    if node_id != -1 and (node_id is None or not 0 <= node_id < len(desk.settings.backends)):
        raise StatementError("informing node info failed", detail=f"invalid node ID : {written}")
    settings, shared, probe = desk.settings, desk.shared, desk.probe()
    views = shared.node_views(settings)
    weights = show_tables.normal_weights(views)
    table = []
    for view in views:
        if node_id not in (-1, view.id):
            continue
        pg_status, pg_role = show_tables.pg_columns(view, settings, probe)
        delay = shared.nodes[view.id].delay()
        info = pcp.NodeInfo(
            view.hostname, view.port, int(view.state), view.quarantined, pg_status, weights[view.id], int(view.role),
            pg_role, settings.delay_threshold_by_time > 0, delay.delay, delay.replication_state, delay.sync_state,
            int(view.last_change),
        )  # fmt: skip
        table.append(info.fields(desk.generation))
    return pcp.rows(b"I", pcp.NODE_ROW, table)


def _health_check_stats(desk: Desk, payload: bytes) -> bytes:
    node_id, written = _node_id(payload)
    rows = {row[0]: row for row in show_tables.health_rows(desk.shared, desk.settings)}
    if str(node_id) not in rows:
        raise StatementError("informing health check stats info failed", detail=f"invalid node ID {written}")
    return pcp.done(b"H", *rows[str(node_id)])


def _pool_status(desk: Desk, payload: bytes) -> bytes:
    table = show_settings.status_rows(desk.shared, desk.settings)
    return pcp.rows(b"B", pcp.CONFIG_ROW, table, binary_count=True)


def _process_count(desk: Desk, payload: bytes) -> bytes:
    pids = [str(child.pid) for child in desk.shared.children if child.pid]
    return pcp.done(b"N", str(len(pids)), *pids)


def _process_info(desk: Desk, payload: bytes) -> bytes:
    written = pcp.one_text(payload)
    pid = pcp.number(written)
    if pid == 0:
        children = [child for child in desk.shared.children if child.pid]
    else:
        child = desk.shared.child_of(pid or 0)
        children = [child] if child is not None else []
    if not children and pid != 0:
        raise StatementError("informing process info failed", detail=f"invalid process ID : {written}")
    table = show_tables.pool_rows(desk.shared, desk.settings, time.time(), children)
    return pcp.rows(b"P", pcp.PROCESS_ROW, [pcp.process_fields(row, desk.generation) for row in table])


def _watchdog_info(desk: Desk, payload: bytes) -> bytes:
    pcp.one_text(payload)
    raise StatementError("PCP: informing watchdog info failed", detail="watchdog is not enabled")


# -- nodes ------------------------------------------------------------------------------------------------------------


def _attach(desk: Desk, payload: bytes) -> bytes:
    node_id, written = _node_id(payload)
    backend = _known(desk, node_id)
    if backend is None or node_id is None:
        last = len(desk.settings.backends) - 1
        raise StatementError(
            f"invalid failback request, node id: {written} is out of range. node id must be between [0 and {last}]"
        )
    state = desk.shared.nodes[node_id].state
    if state.usable and desk.settings.mode is ClusterMode.RAW:
        raise StatementError(
            f"invalid failback request, node id : {node_id} status: [{int(state)}] not valid for failback"
        )
    log.log(LOG, f"received failback request for node_id: {node_id} from pid [{os.getpid()}]")
    desk.ask_parent(RequestKind.UP, (node_id,))
    return pcp.done(b"C")


def _detach(desk: Desk, payload: bytes) -> bytes:
    node_id = _detachable(desk, payload)
    _log_detach(node_id)
    desk.ask_parent(RequestKind.DOWN, (node_id,), BY_A_PERSON)
    return pcp.done(b"D")


def _detach_gracefully(desk: Desk, payload: bytes) -> bytes:
    """The parent holds new sessions back and waits for the present ones; the answer comes when the node is detached."""
    node_id = _detachable(desk, payload)
    _log_detach(node_id)
    desk.ask_parent(RequestKind.DOWN, (node_id,), BY_A_PERSON | RequestFlag.GRACEFUL)
    patience = desk.settings.recovery_timeout + GRACE
    if not desk.wait_for(lambda: not desk.shared.nodes[node_id].state.usable, patience):
        raise StatementError(
            f"node id: {node_id} was not detached",
            detail="clients are still connected after recovery_timeout",
            sqlstate="55006",
        )
    return pcp.done(b"d")


def _log_detach(node_id: int) -> None:
    log.log(LOG, f"received degenerate backend request for node_id: {node_id} from pid [{os.getpid()}]")


def _detachable(desk: Desk, payload: bytes) -> int:
    """The id of a node that may be detached. Raises StatementError (texts: pcp_protocol.md 3.8)."""
    node_id, written = _node_id(payload)
    backend = _known(desk, node_id)
    if backend is None or node_id is None:
        last = len(desk.settings.backends) - 1
        raise StatementError(
            f"invalid degenerate backend request, node id: {written} is out of range. "
            f"node id must be between [0 and {last}]"
        )
    view = desk.shared.nodes[node_id].view()
    if not view.state.usable and not view.quarantined:
        raise StatementError(
            f"invalid degenerate backend request, node id : {node_id} status: [{int(view.state)}] "
            "is not valid for failover"
        )
    if "DISALLOW_TO_FAILOVER" in backend.flags:
        raise StatementError(
            f"degenerate backend request for node_id: {node_id} from pid [{os.getpid()}] is canceled "
            "because failover is disallowed on the node"
        )
    return node_id


def _promote(desk: Desk, payload: bytes) -> bytes:
    return _ask_promotion(desk, payload, RequestFlag.NONE)


def _promote_gracefully(desk: Desk, payload: bytes) -> bytes:
    return _ask_promotion(desk, payload, RequestFlag.GRACEFUL)


def _ask_promotion(desk: Desk, payload: bytes, flags: RequestFlag) -> bytes:
    node_id, switchover = pcp.read_promote(payload)
    if node_id is None or _known(desk, node_id) is None:
        raise StatementError("could not process promote request", detail=f"node id {node_id} is not valid")
    if desk.settings.mode is not ClusterMode.STREAMING_REPLICATION:
        raise SessionFatal(
            "invalid pgpool mode for process promote request",
            detail=f"not in streaming replication mode, can't promote node id {node_id}",
        )
    if node_id == desk.shared.primary_id:
        raise SessionFatal(
            "invalid promote request",
            detail=f"specified node is already primary node, can't promote node id {node_id}",
        )
    if switchover:
        if not desk.shared.nodes[node_id].state.usable:
            raise StatementError("could not process promote request", detail=f"node id {node_id} is down")
        flags |= BY_A_PERSON
    log.log(LOG, f"received promote backend request for node_id: {node_id} from pid [{os.getpid()}]")
    desk.ask_parent(RequestKind.PROMOTE, (node_id,), flags)
    return pcp.done(b"J")


def _recovery(desk: Desk, payload: bytes) -> bytes:
    node_id, written = _node_id(payload)
    backend = _known(desk, node_id)
    if backend is None:
        raise StatementError("process recovery request failed", detail=f"node id {written} is not valid")
    _refuse_while_busy(desk)
    recovery.recover(desk, backend)
    return pcp.done(b"O")


def _refuse_while_busy(desk: Desk) -> None:
    if desk.shared.switching:
        raise StatementError("failed to process PCP request at the moment", detail="failover is in progress")


# -- pgpool itself ----------------------------------------------------------------------------------------------------


def _stop(desk: Desk, payload: bytes) -> bytes:
    mode = payload[:1]
    if mode not in _MODES or len(payload) > 2:
        raise StatementError(
            "PCP: error while processing shutdown request", detail=f'invalid shutdown mode "{pcp.text(mode)}"'
        )
    log.log(LOG, f"shutdown requested by PCP, mode {pcp.text(mode)}")
    desk.afterwards = lambda: desk.signal_parent(_MODES[mode])
    return pcp.done(b"T")


def _stop_local(desk: Desk, payload: bytes) -> bytes:
    _refuse_while_busy(desk)
    return _stop(desk, payload)


def _scope(payload: bytes) -> None:
    """Without a watchdog the cluster is this pgpool."""
    if payload.rstrip(b"\0") not in (b"l", b"c", b""):
        raise StatementError("PCP: invalid command scope", detail='the scope is "l" (local) or "c" (cluster)')


def _reload(desk: Desk, payload: bytes) -> bytes:
    _scope(payload)
    desk.signal_parent(signals.SIGHUP)
    return pcp.done(b"Z")


def _rotate_log(desk: Desk, payload: bytes) -> bytes:
    _scope(payload)
    if not desk.settings.logging_collector:
        raise StatementError(
            "rotation not possible because log collection not active", hint="set logging_collector = on"
        )
    desk.ask_parent(RequestKind.ROTATE_LOG, ())
    return pcp.done(b"V")


def _invalidate_query_cache(desk: Desk, payload: bytes) -> bytes:
    raise StatementError("query cache is not enabled")


def _set_parameter(desk: Desk, payload: bytes) -> bytes:
    parts = [pcp.text(part) for part in pcp.strings(payload)]
    name, value = [*parts, "", ""][:2]
    if name.lower() != "client_min_messages" or value.lower() not in _LEVELS or len(parts) != 2:
        wrong = name if name.lower() != "client_min_messages" else value
        raise StatementError("PCP: set configuration parameter failed", detail=f'invalid parameter "{wrong}"')
    desk.notices_from = _LEVELS[value.lower()]
    return pcp.done(b"A")


def _stop_recovery(desk: Desk, payload: bytes) -> bytes:
    """A relic: it has never had a reply."""
    return b""


COMMANDS: dict[bytes, Command] = {
    b"A": _set_parameter,
    b"B": _pool_status,
    b"C": _attach,
    b"D": _detach,
    b"d": _detach_gracefully,
    b"F": _stop_recovery,
    b"G": _invalidate_query_cache,
    b"H": _health_check_stats,
    b"I": _node_info,
    b"J": _promote,
    b"j": _promote_gracefully,
    b"L": _node_count,
    b"N": _process_count,
    b"O": _recovery,
    b"P": _process_info,
    b"T": _stop_local,
    b"t": _stop,
    b"V": _rotate_log,
    b"W": _watchdog_info,
    b"Z": _reload,
}
"""Kind of a request -> its function. M, R and X are the server's own (pcp/server.py)."""
