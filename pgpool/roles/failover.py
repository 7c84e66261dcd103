"""Carries out what policy/failover decides: node states, sessions, the search for the primary (behaviour.md 10.3).

Requests are worked off one by one. A job is a generator of pauses: it does a step, yields how many seconds it wants to
wait, and goes on when the parent's tick finds that they are over; the parent stays awake meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..errors import ProcessExit
from ..model import ClusterMode, NodeState, NodeView
from ..policy.failover import (
    Answer,
    Ask,
    Cause,
    Change,
    Health,
    Plan,
    Rules,
    Sessions,
    choose_primary,
    decide,
    needs_look,
    primary_without_asking,
)
from ..shared import Request, RequestFlag, RequestKind
from ..system.logs import DEBUG1, LOG, log

if TYPE_CHECKING:
    from ..config.settings import BackendConf, Settings
    from ..shared import Shared
    from .probe import Prober

SEARCH_PAUSE = 1.0
BACKLOG_MAX = 64
"""Requests that wait while one is worked on; more than that are copies of each other."""

_CHANGES = {
    RequestKind.DOWN: Change.DETACH,
    RequestKind.UP: Change.ATTACH,
    RequestKind.PROMOTE: Change.PROMOTE,
    RequestKind.QUARANTINE: Change.QUARANTINE,
    RequestKind.CONNECTED: Change.CONNECTED,
    RequestKind.FIND_PRIMARY: Change.FIND_PRIMARY,
}


class Boss(Protocol):
    """What the parent gives to a job."""

    settings: Settings
    shared: Shared
    prober: Prober

    def clock(self) -> float: ...
    def tell_sessions(self, what: Sessions, node_ids: tuple[int, ...]) -> None: ...
    def close_idle_links(self) -> None: ...
    def save_status(self) -> None: ...
    def wake_workers(self) -> None: ...


def ask_of(request: Request) -> Ask:
    """A queued request in the words of policy/failover."""
    flags = request.flags
    if request.kind is RequestKind.FIND_PRIMARY:
        cause = Cause.SR_CHECK
    elif flags & RequestFlag.SHUTDOWN:
        cause = Cause.SHUTDOWN
    elif flags & RequestFlag.BACKEND_ERROR:
        cause = Cause.SESSION_ERROR
    elif flags & RequestFlag.TIMEOUT:
        cause = Cause.HEALTH_TIMEOUT
    elif flags & RequestFlag.SWITCHOVER or request.kind is not RequestKind.DOWN:
        cause = Cause.OPERATOR
    else:
        cause = Cause.HEALTH_CHECK
    return Ask(_CHANGES[request.kind], request.node_ids, cause)


class Failover:
    """The parent's desk for requests about nodes."""

    def __init__(self, boss: Boss):
        self._boss = boss
        self._backlog: deque[Ask] = deque()
        self._job: Iterator[float] | None = None
        self._due = 0.0
        self._cannot_ask_told = False

    # -- the parent's side ----------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self._job is not None

    def take(self) -> None:
        """Empty the shared queue: what needs no thought is done at once, the rest waits, doubles are dropped."""
        shared = self._boss.shared
        while (request := shared.queue.pop()) is not None:
            if request.kind is RequestKind.CLOSE_IDLE:
                self._boss.close_idle_links()
                continue
            ask = ask_of(request)
            if ask.change is Change.CONNECTED:
                self._set_states(decide(ask, self._nodes(), shared.primary_id, self.rules()), "a session connected")
            elif ask not in self._backlog and len(self._backlog) < BACKLOG_MAX:
                self._backlog.append(ask)

    def start_search(self) -> None:
        """Look for the primary as soon as nothing else is worked on."""
        self._backlog.appendleft(Ask(Change.FIND_PRIMARY, (), Cause.SR_CHECK))

    def work(self) -> None:
        """Go on with the present job, or begin the next ones, as far as no pause is due."""
        while self._job is not None or self._backlog:
            if self._job is None:
                self._job = self._carry_out(self._backlog.popleft())
                self._due = 0.0
            if self._boss.clock() < self._due:
                return
            try:
                self._due = self._boss.clock() + next(self._job)
            except StopIteration:
                self._end_job()
            except ProcessExit:
                raise
            except Exception as err:
                log.unexpected("a request about a node failed", err)
                self._end_job()

    def next_due(self) -> float | None:
        """When ``work`` has something to do; None when that is not known."""
        return self._due if self._job is not None else None

    def _end_job(self) -> None:
        self._job = None
        self._boss.shared.set_condition(switching=False)

    # -- one job --------------------------------------------------------------------------------------------------

    def rules(self) -> Rules:
        s = self._boss.settings
        flags = {backend.id: backend.flags for backend in s.backends}
        return Rules(s.mode, s.failover_on_backend_error, s.failover_on_backend_shutdown, flags)

    def _nodes(self) -> tuple[NodeView, ...]:
        return self._boss.shared.node_views(self._boss.settings)

    def _backend(self, node_id: int) -> BackendConf:
        return self._boss.settings.backends[node_id]

    def _place(self, node_id: int) -> str:
        backend = self._backend(node_id)
        return f"{backend.hostname}({backend.port})"

    def _carry_out(self, ask: Ask) -> Iterator[float]:
        shared, rules = self._boss.shared, self.rules()
        plan = self._decide(ask, rules)
        for node_id, why in plan.refused:
            level = DEBUG1 if needs_look(ask.cause) else LOG
            log.log(level, f"request to {ask.change.value} node {node_id} is not carried out: {why}")
        if plan.empty:
            return
        if plan.search_primary and not plan.states:
            yield from self._find_primary(plan)
            return
        shared.set_condition(switching=True)
        log.log(LOG, "Pgpool-II parent process has received failover request", f"reason: {ask.cause.value}")
        ids = tuple(node_id for node_id, _ in plan.states)
        for node_id in ids:
            if ask.change is Change.ATTACH:
                log.log(LOG, f"starting fail back. reconnect host {self._place(node_id)}")
            else:
                log.log(LOG, f"starting degeneration. shutdown host {self._place(node_id)}")
        before = shared.primary_id
        self._set_states(plan, ask.cause.value)
        if shared.main_id < 0:
            log.log(LOG, "failover: no valid backend node found")
        self._tell_sessions(plan, ids)
        yield from self._settle_primary(plan)
        self._tell_result(ask, ids, before)

    def _decide(self, ask: Ask, rules: Rules) -> Plan:
        """The plan; where a look is needed, only the nodes that would be detached are looked at."""
        nodes, primary = self._nodes(), self._boss.shared.primary_id
        if not needs_look(ask.cause):
            return decide(ask, nodes, primary, rules)
        blind = decide(replace(ask, seen=dict.fromkeys(ask.node_ids, Health.SILENT)), nodes, primary, rules)
        seen = {}
        for node_id, _ in blind.states:
            seen[node_id], text = self._boss.prober.knock(self._backend(node_id))
            log.log(LOG, f"node {node_id} was reported by a session, the parent process looked: {text}")
        return decide(replace(ask, seen=seen), nodes, primary, rules)

    def _set_states(self, plan: Plan, reason: str) -> None:
        for node_id, state in plan.states:
            self._boss.shared.set_node_state(node_id, state, reason, quarantined=plan.quarantine)
        if plan.save:
            self._boss.save_status()

    def _tell_sessions(self, plan: Plan, ids: tuple[int, ...]) -> None:
        if plan.sessions is Sessions.END_ALL:
            log.log(LOG, "Restart all children")
        elif plan.sessions is Sessions.END_USERS:
            for node_id in ids:
                backend = self._backend(node_id)
                log.log(
                    LOG,
                    f"Do not restart children because we are switching over node id {node_id} host: {backend.hostname} "
                    f"port: {backend.port} and we are in streaming replication mode",
                )
        self._boss.tell_sessions(plan.sessions, ids)

    def _tell_result(self, ask: Ask, ids: tuple[int, ...], before: int) -> None:
        shared = self._boss.shared
        log.log(LOG, f"failover: set new primary node: {shared.primary_id}")
        if shared.main_id >= 0:
            log.log(LOG, f"failover: set new main node: {shared.main_id}")
        for node_id in ids:
            if ask.change is Change.ATTACH:
                log.log(LOG, f"failback done. reconnect host {self._place(node_id)}")
            else:
                log.log(LOG, f"failover done. shutdown host {self._place(node_id)}")
        if ask.change is Change.PROMOTE:
            log.log(LOG, f"failover done. promoted node {shared.primary_id}, it was node {before}")
        self._boss.wake_workers()

    # -- the primary ----------------------------------------------------------------------------------------------

    def _settle_primary(self, plan: Plan) -> Iterator[float]:
        shared = self._boss.shared
        if plan.primary is not None:
            shared.set_primary(plan.primary)
        elif plan.search_primary:
            yield from self._search()
        elif self._boss.settings.mode is not ClusterMode.STREAMING_REPLICATION:
            shared.set_primary(primary_without_asking(self._nodes(), self.rules()))

    def _find_primary(self, plan: Plan) -> Iterator[float]:
        """A search without a change of states: at the start, or because the sr check saw another primary."""
        shared = self._boss.shared
        before = shared.primary_id
        if before < 0:
            shared.set_condition(switching=True)
        yield from self._search()
        if before >= 0 and shared.primary_id != before:
            log.log(LOG, f"failover: set new primary node: {shared.primary_id}")
            self._boss.tell_sessions(Sessions.END_ALL, ())
            self._boss.wake_workers()

    def _search(self) -> Iterator[float]:
        """Ask all usable nodes until one says it is the primary (find_primary_node_repeatedly)."""
        shared, settings = self._boss.shared, self._boss.settings
        log.log(LOG, "find_primary_node_repeatedly: waiting for finding a primary node")
        timeout = settings.search_primary_node_timeout
        end = self._boss.clock() + timeout if timeout else None
        while True:
            nodes = self._nodes()
            if not any(node.usable for node in nodes):
                log.log(
                    LOG, "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node"
                )
                shared.set_primary(-1)
                return
            if not any(node.usable and node.id == shared.primary_id for node in nodes):
                shared.set_primary(-1)
            primary = self._ask_roles(nodes)
            if primary >= 0:
                log.log(LOG, f"find_primary_node: primary node id is {primary}")
                shared.set_primary(primary)
                return
            if end is not None and self._boss.clock() >= end:
                log.log(LOG, "find_primary_node_repeatedly: expired, no primary node was found")
                return
            yield SEARCH_PAUSE

    def _ask_roles(self, nodes: tuple[NodeView, ...]) -> int:
        """One round: the primary's id, -1 when none was found yet."""
        rules, prober = self.rules(), self._boss.prober
        if not prober.account()[0]:
            return self._cannot_ask(nodes, "sr_check_user is not set")
        answers = []
        refusals = 0
        usable = [node for node in nodes if node.usable]
        for node in usable:
            log.log(LOG, f"find_primary_node: checking backend no {node.id}")
            in_recovery, why, refused = prober.ask_recovery(self._backend(node.id))
            answers.append(Answer(node.id, in_recovery))
            refusals += refused
            if in_recovery is None:
                log.log(LOG, f"find_primary_node: could not ask node {node.id}", why)
            elif in_recovery:
                log.log(LOG, f"find_primary_node: standby node is {node.id}")
                if node.id == self._boss.shared.primary_id:
                    self._boss.shared.set_primary(-1)
        found = choose_primary(tuple(answers), self._boss.shared.primary_id, rules)
        if found.others:
            log.warning(
                f"more than one node says it is the primary: {', '.join(map(str, (found.primary, *found.others)))}",
                detail=f"node {found.primary} is used as the primary",
            )
        if found.primary < 0 and refusals == len(usable):
            return self._cannot_ask(nodes, "every backend refused the login of sr_check_user")
        return found.primary

    def _cannot_ask(self, nodes: tuple[NodeView, ...], why: str) -> int:
        """Nobody can be asked, so the main node is taken for the primary; told once."""
        primary = primary_without_asking(nodes, self.rules())
        if not self._cannot_ask_told:
            self._cannot_ask_told = True
            log.warning(
                f"the backends cannot be asked for their role: {why}",
                detail=f"node {primary} is taken for the primary",
                hint="set sr_check_user, sr_check_password and sr_check_database to an account that may log in on all "
                "backends (no privileges are needed to find the primary)",
            )
        return primary

    def reloaded(self) -> None:
        """The settings have changed: what could not be asked may be asked now."""
        if self._cannot_ask_told:
            self._cannot_ask_told = False
            self.start_search()


def settle_without_asking(boss: Boss, rules: Rules) -> None:
    """The primary in modes where nobody needs to be asked: the main node, or the one flagged ALWAYS_PRIMARY."""
    if boss.settings.mode is not ClusterMode.STREAMING_REPLICATION:
        boss.shared.set_primary(primary_without_asking(boss.shared.node_views(boss.settings), rules))


def state_number(state: NodeState, primary: bool) -> int:
    """``node status[N]`` in the start message: 1 primary, 2 standby, 0 not in use."""
    return 0 if not state.usable else 1 if primary else 2
