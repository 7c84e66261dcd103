"""The streaming replication check: which node is the primary, and how far behind it is each standby?

One process. Every sr_check_period it asks all usable nodes and fills their delay cells (behaviour.md 10.7).
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..backend.connect import simple_query
from ..backend.probe import hang_up, reason_of, refused_login
from ..errors import BackendFailed, PgpoolError
from ..model import ClusterMode
from ..policy.balance import in_time
from ..policy.failover import Answer, Rules, choose_primary, false_primaries
from ..policy.route import RoutingSettings, delay_limit
from ..shared import RequestKind
from ..system import process, sockets
from ..system.logs import DEBUG1, LOG, WARNING, log
from .discovery import Client, Discovery
from .loop import Loop
from .search import ask_all, ask_outside, kept_out
from .upstream import split_upstream

if TYPE_CHECKING:
    from ..config.settings import BackendConf, Settings
    from ..shared import Shared
    from .options import Options

_POSITION = (
    "SELECT pg_is_in_recovery(), pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery()"
    " THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0')"
)
_STANDBYS = (
    "SELECT application_name, state, sync_state, (EXTRACT(EPOCH FROM replay_lag) * 1000000)::bigint, host(client_addr)"
    " FROM pg_stat_replication"
)
_UPSTREAM = "SELECT status, conninfo FROM pg_stat_wal_receiver"

WHAT = "worker child process"
"""What the parent calls this process in the log."""
CALM = 0.25
"""Seconds between two rounds at least."""
LEAST_PATIENCE = 2.0
"""Seconds in which a node must answer at least, however short the period and however many the nodes."""


@dataclass(frozen=True, slots=True)
class Sender:
    """One row of pg_stat_replication; ``lag`` in microseconds, 0 when the server does not know it."""

    state: str
    sync_state: str
    lag: int
    alone: bool = True
    """No other row has its application_name."""


_NO_SENDER = Sender("", "", 0)


@dataclass(frozen=True, slots=True)
class Position:
    """What one node said. ``lsn`` in bytes; ``senders`` by application_name, filled for a primary."""

    node_id: int
    in_recovery: bool
    lsn: int
    senders: dict[str, Sender]
    clients: tuple[Client, ...] = ()
    """All that stream from a primary, whatever their names."""
    upstream: tuple[str, int] | None = None
    """(host, port) that a standby streams from, looked at for detach_false_primary only."""
    name: str = ""
    """The application_name with which a standby streams, looked at where none is configured."""


def srcheck_main(settings: Settings, shared: Shared, options: Options) -> int:
    """The life of the sr check worker; returns its exit code."""
    process.set_title("pgpool: worker process")
    log.set_process("sr_check_worker", "WORKER")
    worker = SrCheck(settings, shared, options)
    log.log(LOG, "process started")
    while True:
        period = worker.settings.sr_check_period
        if (period or worker.urgent) and worker.settings.mode is ClusterMode.STREAMING_REPLICATION:
            worker.check()
        elif worker.urgent:
            worker.urgent = False
        worker.pause(max(CALM, worker.began + period - time.monotonic()) if period else None)


class SrCheck(Loop):
    def __init__(self, settings: Settings, shared: Shared, options: Options):
        super().__init__(settings, shared, options)
        self._discovery = Discovery(self)

    _silent: frozenset[int] = frozenset()
    """Nodes that could not be asked last time: told once, not every period."""
    _disowned: tuple[str, ...] = ()
    """What was told of primaries that own some standbys only."""

    _names: Mapping[int, str] = MappingProxyType({})
    """How the primary knows the standbys without backend_application_name, as they said themselves."""
    began = 0.0
    """When the last round began (time.monotonic)."""
    _hopeless = False
    """The nodes that are asked now did not answer last time: a check that is wanted at once does not wait for them."""

    def on_wake(self) -> None:
        super().on_wake()
        if self.urgent and self._hopeless:
            raise BackendFailed(-1, "gave up asking a silent node", detail="another check is wanted at once")

    def check(self) -> None:
        """One round. One that a session asked for begins at least ``CALM`` after the last: they ask in crowds.

        What the nodes say that answered last time is acted upon before the others are asked.
        """
        while self.urgent and (left := self.began + CALM - time.monotonic()) > 0:
            if sockets.wait([self.wakeup_fd], left):
                self.on_wake()
        self.urgent, self.began = False, time.monotonic()
        if not self.prober.account()[0]:
            return
        views = self.shared.node_views(self.settings)
        down = [node.id for node in views if not node.usable]
        usable = [node.id for node in views if node.usable]
        later = [node_id for node_id in usable if node_id in self._silent]
        positions = self._ask_all([node_id for node_id in usable if node_id not in self._silent])
        primary = self._conclude(positions, down)
        self._hopeless = True
        try:
            more = self._ask_all(later)
        finally:
            self._hopeless = False
        if more:
            primary = self._conclude(positions + more, down)
        self._silent = frozenset(usable) - {p.node_id for p in positions + more}
        if primary < 0:
            self._look_outside()
            return
        for position in positions + more:
            if position.node_id == primary:
                self._discovery.look(primary, position.clients)

    def _ask_all(self, node_ids: list[int]) -> list[Position]:
        """What these nodes say. One that does not answer in its share of the period has no more to say in this round."""
        positions: list[Position] = []
        patience = max(LEAST_PATIENCE, self.settings.sr_check_period / max(1, len(self.settings.backends)))
        for node_id in node_ids:
            if self.urgent and self._hopeless:
                break
            try:
                positions.append(self._ask(self.settings.backends[node_id], min(patience, self.prober.limit())))
            except PgpoolError as err:
                log.log(
                    DEBUG1 if node_id in self._silent else WARNING,
                    f"failed to check the replication of node {node_id}",
                    detail=reason_of(err),
                    hint="check sr_check_user and sr_check_password" if refused_login(err) else None,
                )
        return positions

    def _conclude(self, positions: list[Position], down: list[int]) -> int:
        """Put what was seen into the nodes' cells; who is the primary, -1 when nobody is that is in use."""
        before = self._lagging()
        for node_id in {b.id for b in self.settings.backends if b.used} - {p.node_id for p in positions} - set(down):
            self.shared.nodes[node_id].forget_delay()
        primary = self._note(positions, down)
        if self._lagging() != before:
            self.shared.bump_epoch()  # sessions choose anew where they read
        return primary

    def _lagging(self) -> set[int]:
        """Standbys that may answer no reads now."""
        rules = self._routing
        return {n.id for n in self.shared.node_views(self.settings) if n.usable and not in_time(n, rules)}

    @property
    def _routing(self) -> RoutingSettings:
        return RoutingSettings(delay_limit=delay_limit(self.settings))

    def _ask(self, backend: BackendConf, limit: float) -> Position:
        deadline = time.monotonic() + limit
        link = self.prober.connect(backend, *self.prober.account(), deadline, max(1, int(limit * 1000)))
        try:
            [[recovering, lsn]] = simple_query(link.channel, _POSITION, backend.id)
            senders: dict[str, Sender] = {}
            clients: list[Client] = []
            upstream, known_as = None, ""
            if recovering == "f":
                for name, state, sync_state, lag, address in simple_query(link.channel, _STANDBYS, backend.id):
                    if state == "streaming":
                        clients.append(Client(name or "", address or ""))
                    alone = name not in senders
                    senders[name or ""] = Sender(state or "", sync_state or "", int(lag or 0), alone)
            elif self.settings.detach_false_primary or not backend.application_name:
                for status, conninfo in simple_query(link.channel, _UPSTREAM, backend.id):
                    upstream, known_as = split_upstream(status or "", conninfo or "")
        except ValueError:
            raise PgpoolError("the backend's answer has another shape than expected") from None
        finally:
            hang_up(link)
        return Position(backend.id, recovering == "t", int(lsn or 0), senders, tuple(clients), upstream, known_as)

    def _look_outside(self) -> None:
        """No node in use is the primary: is one of those that are kept out? The parent looks closer."""
        shared, settings = self.shared, self.settings
        if shared.switching or shared.following:
            return
        out = kept_out(shared, shared.node_views(settings), external=settings.failover_owner == "external")
        for answer in ask_outside(self.prober, settings.backends, out):
            if answer.in_recovery is False:
                self.ask_parent(RequestKind.FIND_PRIMARY, (answer.node_id,))
                return

    def _note(self, positions: list[Position], down: list[int]) -> int:
        """Put what was seen into the delay cells; another primary than the present one is told to the parent. Who is the
        primary; -1: nobody that is in use."""
        if self.settings.detach_false_primary and not (self.shared.switching or self.shared.following):
            false = self._false_primaries(positions)
            positions = [p for p in positions if p.node_id not in false]
        backends = self.settings.backends
        external = self.settings.failover_owner == "external"
        rules = Rules(self.settings.mode, "off", False, {b.id: b.flags for b in backends}, external)
        current = self.shared.primary_id
        answers = [Answer(p.node_id, p.in_recovery) for p in positions]
        if external and len(positions) - sum(p.in_recovery for p in positions) > 1:
            answers = [ask_all(self.prober, backends[p.node_id]) for p in positions if not p.in_recovery]
        found = choose_primary(tuple(answers), current, rules)
        if found.primary >= 0 and found.primary != current:
            log.log(LOG, f"node {found.primary} is the primary now, it was node {current}")
            self.ask_parent(RequestKind.FIND_PRIMARY, (found.primary,))
        primary = next((p for p in positions if p.node_id == found.primary), None)
        self._names = {**self._names, **{p.node_id: p.name for p in positions if p.name}}
        told = self._from_source(found.primary) if self.settings.replication_delay_source_cmd else None
        for position in positions:
            if primary is not None:
                self._note_delay(position, primary, told)
        for node_id in down:  # auto_failback looks at the state of a node that is not used
            sender = self._sender(node_id, primary)
            self.shared.nodes[node_id].set_delay(0, sender.state, sender.sync_state, time.time())
        return found.primary

    def _false_primaries(self, positions: list[Position]) -> tuple[int, ...]:
        """Detach the nodes that say they are primaries and have not all standbys; which they are."""
        claims = tuple(p.node_id for p in positions if not p.in_recovery)
        upstreams = {p.node_id: p.upstream for p in positions if p.in_recovery}
        places = {b.id: (b.hostname, b.port) for b in self.settings.backends}
        false, texts = false_primaries(claims, upstreams, places)
        for text in texts if texts != self._disowned else ():
            log.log(LOG, text)
        self._disowned = texts
        if false:
            log.log(LOG, f"detach_false_primary: not the true primary: node {', '.join(map(str, false))}")
            self.ask_parent(RequestKind.DOWN, false)
        return false

    def _sender(self, node_id: int, primary: Position | None) -> Sender:
        """What the primary says of a standby, found by its application_name: the configured one, else the one by which it
        streams, when no other node or standby has it."""
        name = self.settings.backends[node_id].application_name
        known = name or self._names.get(node_id, "")
        sender = primary.senders.get(known, _NO_SENDER) if primary is not None and known else _NO_SENDER
        return sender if name or (sender.alone and [*self._names.values()].count(known) == 1) else _NO_SENDER

    def _from_source(self, primary: int) -> dict[int, int]:
        """What replication_delay_source_cmd says: node id -> microseconds; a node it calls down, or about which it says
        nothing of use, is missing (behaviour.md 5.5)."""
        settings = self.settings
        standbys = [b for b in settings.backends if b.used and b.id != primary]
        limit = settings.replication_delay_source_timeout
        try:
            argv = shlex.split(settings.replication_delay_source_cmd)
            argv += [f"{b.hostname}:{b.port}" for b in standbys]
            code, output = process.run(argv, env=process.outer_environment(), timeout=limit)
            words = output.strip().split() if code == 0 else []
            delays = [float(word) for word in words]
            if code or len(delays) != len(standbys) or not all(math.isfinite(d) for d in delays):
                raise ValueError(f"exit code {code}, {len(words)} numbers for {len(standbys)} standbys: {output[:200]!r}")
        except (OSError, ValueError, TimeoutError) as err:
            log.log(WARNING, "replication_delay_source_cmd failed, no delay is known", detail=str(err))
            return {}
        found = {}
        for backend, delay in zip(standbys, delays, strict=True):
            if delay < 0:
                log.log(LOG, f"node {backend.id} seems to be down, says replication_delay_source_cmd")
            else:
                found[backend.id] = round(min(delay, 1e15) * 1000)
        return found

    def _note_delay(self, position: Position, primary: Position, told: dict[int, int] | None = None) -> None:
        settings = self.settings
        by_time = settings.delay_threshold_by_time > 0 or told is not None
        sender = self._sender(position.node_id, primary)
        delay, known = 0, True
        if position.node_id != primary.node_id:
            delay = sender.lag if by_time else max(0, primary.lsn - position.lsn)
            known = bool(sender.state) or not by_time  # who is not in pg_stat_replication is not in step
            if told is not None:
                delay, known = told.get(position.node_id, 0), position.node_id in told
        self.shared.nodes[position.node_id].set_delay(
            delay, sender.state, sender.sync_state, time.time(), known=known
        )
        threshold = settings.delay_threshold_by_time * 1000 if by_time else settings.delay_threshold
        how = settings.log_standby_delay
        if delay and (how == "always" or (how == "if_over_threshold" and 0 < threshold < delay)):
            amount = f"{delay / 1e6:.6f} second(s)" if by_time else f"{delay} bytes"
            log.log(
                LOG,
                f"Replication of node: {position.node_id} is behind {amount} from the primary server "
                f"(node: {primary.node_id})",
            )
