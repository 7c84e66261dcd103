"""Carries out what policy/failover decides: node states, sessions, the search for the primary (behaviour.md 10.3).

Requests are worked off one by one. A job is a generator of pauses: it does a step, yields how many seconds it wants to
wait, and goes on when the parent's tick finds that they are over; the parent stays awake meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import ProcessExit
from ..model import ClusterMode, NodeState, NodeView
from ..policy.commands import Happening, Place
from ..policy.failover import (
    Ask,
    Cause,
    Change,
    Health,
    Plan,
    Rules,
    Sessions,
    Step,
    check_first,
    decide,
    needs_look,
    primary_without_asking,
)
from ..shared import Request, RequestFlag, RequestKind
from ..system.logs import DEBUG1, LOG, log
from .search import Boss, Census

if TYPE_CHECKING:
    from ..config.settings import BackendConf

SEARCH_PAUSE, CLIENTS_PAUSE = 1.0, 0.2
QUICK_LOOK = 0.1
"""Between the rounds that the log tells of, a promotion is looked for this often (seconds)."""
OUTSIDE_PAUSE = 5.0
"""The nodes that are not in use are asked this often while a primary is searched (seconds)."""
COMMAND_PATIENCE = 30.0
"""A command that takes longer (seconds) is told of."""
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


def ask_of(request: Request) -> Ask:
    """A queued request in the words of policy/failover."""
    flags = request.flags
    graceful, switchover = bool(flags & RequestFlag.GRACEFUL), bool(flags & RequestFlag.SWITCHOVER)
    if request.kind is RequestKind.FIND_PRIMARY:
        cause = Cause.SR_CHECK
    elif flags & RequestFlag.SHUTDOWN:
        cause = Cause.SHUTDOWN
    elif flags & RequestFlag.BACKEND_ERROR:
        cause = Cause.SESSION_ERROR
    elif flags & RequestFlag.TIMEOUT:
        cause = Cause.HEALTH_TIMEOUT
    elif switchover or graceful or request.kind is not RequestKind.DOWN:
        cause = Cause.OPERATOR
    else:
        cause = Cause.HEALTH_CHECK
    return Ask(_CHANGES[request.kind], request.node_ids, cause, switchover=switchover, graceful=graceful)


@dataclass(slots=True)
class Job:
    """One plan on its way: what was so before it began."""

    ask: Ask
    plan: Plan
    old_main: int
    old_primary: int
    ids: tuple[int, ...] = ()
    """Nodes whose state changes."""
    followers: list[int] = field(default_factory=list)
    """Nodes that are told to follow the new primary."""


class Failover:
    """The parent's desk for requests about nodes."""

    def __init__(self, boss: Boss):
        self._boss = boss
        self._backlog: deque[Ask] = deque()
        self._job: Iterator[float] | None = None
        self._due = 0.0
        self._census = Census(boss)
        self._last_main = self._last_primary = -1
        """The last ones there were: what commands call the old ones."""
        self._followed: Callable[[], bool] = lambda: True
        """Has follow_primary_command ended?"""
        self._outside = -1
        """A primary that is not in use, as the log was told."""
        self._owed: Job | None = None
        """Its primary was not found yet: the others are told to follow it when it is."""

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
            if request.kind is RequestKind.ROTATE_LOG:
                self._boss.rotate_log()
                continue
            if request.kind is RequestKind.LOOK:
                self._boss.check_roles_now()
                continue
            ask = ask_of(request)
            if ask.change is Change.CONNECTED:
                plan = decide(ask, self._nodes(), shared.primary_id, self.rules())
                self._set_states(plan, "a session connected")
                if plan.save:
                    self._boss.save_status()
            elif check_first(ask, self.rules()):
                for node_id in ask.node_ids:
                    self._boss.check_now(node_id)
            else:
                self._want(ask)

    def _want(self, ask: Ask) -> None:
        if ask not in self._backlog and len(self._backlog) < BACKLOG_MAX:
            self._backlog.append(ask)

    def start_search(self) -> None:
        """Look for the primary as soon as nothing else is worked on."""
        self._backlog.appendleft(Ask(Change.FIND_PRIMARY, (), Cause.SR_CHECK))

    def work(self) -> None:
        """Go on with the present job, or begin the next ones, as far as no pause is due."""
        while self._job is not None or self._backlog:
            if self._job is None:
                ask = self._next()
                if ask is None:
                    return
                self._job = self._carry_out(ask)
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

    def _next(self) -> Ask | None:
        """The next request; while follow_primary_command runs only nodes that come back are seen to."""
        if self._followed():
            if self._boss.shared.following:
                self._boss.shared.set_condition(following=False)
                log.log(LOG, "follow_primary_command has ended for all nodes")
            return self._backlog.popleft()
        for ask in self._backlog:
            if ask.change is Change.ATTACH:
                self._backlog.remove(ask)
                return ask
        return None

    def poke(self) -> None:
        """A command has ended: whoever waits for it looks again."""
        self._due = 0.0
        if self._boss.shared.following and self._followed():
            self._boss.shared.set_condition(following=False)

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
        external = s.failover_owner == "external"
        return Rules(s.mode, s.failover_on_backend_error, s.failover_on_backend_shutdown, flags, external)

    def _nodes(self) -> tuple[NodeView, ...]:
        return self._boss.shared.node_views(self._boss.settings)

    def _backend(self, node_id: int) -> BackendConf:
        return self._boss.settings.backends[node_id]

    def _place(self, node_id: int) -> str:
        backend = self._backend(node_id)
        return f"{backend.hostname}({backend.port})"

    def _carry_out(self, ask: Ask) -> Iterator[float]:
        shared = self._boss.shared
        plan = self._decide(ask, self.rules())
        for node_id, why in plan.refused:
            level = DEBUG1 if needs_look(ask.cause) else LOG
            log.log(level, f"request to {ask.change.value} node {node_id} is not carried out: {why}")
        if plan.empty:
            return
        if plan.search_primary and not plan.states:
            if any(not node.usable for node in self._nodes() if node.id in ask.node_ids):
                self._look_outside(self._nodes())
            else:
                yield from self._find_primary(once=bool(ask.node_ids))
            return
        shared.set_condition(switching=True)
        if ask.graceful:
            yield from self._wait_for_clients()
            if shared.connected_clients():
                log.warning("the node is not detached: clients are still connected", hint="see recovery_timeout")
                return
        log.log(LOG, "Pgpool-II parent process has received failover request", f"reason: {ask.cause.value}")
        self._remember()
        job = Job(ask, plan, self._last_main, self._last_primary, tuple(node_id for node_id, _ in plan.states))
        for node_id in job.ids:
            if ask.change is Change.ATTACH:
                log.log(LOG, f"=== Starting fail back. reconnect host {self._place(node_id)} ===")
            else:
                log.log(LOG, f"=== Starting degeneration. shutdown host {self._place(node_id)} ===")
        steps: dict[Step, Callable[[Job], Iterator[float]]] = {
            Step.STATES: self._step_states,
            Step.SAVE: self._step_save,
            Step.SESSIONS: self._step_sessions,
            Step.COMMANDS: self._step_commands,
            Step.PRIMARY: self._step_primary,
            Step.FOLLOW: self._step_follow,
        }
        for step in plan.steps:
            log.debug1(f"failover step: {step.value}")
            yield from steps[step](job)
        self._tell_result(job)

    def _remember(self) -> None:
        shared = self._boss.shared
        self._last_main = shared.main_id if shared.main_id >= 0 else self._last_main
        self._last_primary = shared.primary_id if shared.primary_id >= 0 else self._last_primary

    def _wait_for_clients(self) -> Iterator[float]:
        """pcp_detach_node -g: new sessions wait, the present ones may end."""
        end = self._boss.clock() + self._boss.settings.recovery_timeout
        while self._boss.shared.connected_clients() and self._boss.clock() < end:
            yield CLIENTS_PAUSE

    # -- the steps ------------------------------------------------------------------------------------------------

    def _step_states(self, job: Job) -> Iterator[float]:
        shared = self._boss.shared
        self._set_states(job.plan, job.ask.cause.value)
        if self._boss.settings.mode is ClusterMode.STREAMING_REPLICATION and any(
            node_id == shared.primary_id and state is NodeState.DOWN for node_id, state in job.plan.states
        ):
            shared.set_primary(-1)
        if shared.main_id < 0:
            log.log(LOG, "failover: no valid backend node found")
        yield from ()

    def _step_save(self, job: Job) -> Iterator[float]:
        self._boss.save_status()
        yield from ()

    def _step_sessions(self, job: Job) -> Iterator[float]:
        if job.plan.primary is not None:
            self._boss.shared.set_primary(-1)  # a session that looks now waits for the new one
        self._tell_sessions(job.plan, job.ids)
        yield from ()

    def _step_commands(self, job: Job) -> Iterator[float]:
        """One command per node, one after the other; the parent stays awake. New clients wait only for a new primary."""
        shared, name = self._boss.shared, job.plan.command.value
        happenings = [self._happening(job, node_id) for node_id in job.ids]
        ended = self._boss.run_command(name, happenings)
        shared.set_condition(switching=not any(n.usable and n.id == shared.primary_id for n in self._nodes()))
        began, patience = self._boss.clock(), COMMAND_PATIENCE
        while not ended():
            yield SEARCH_PAUSE
            if self._boss.clock() - began > patience:
                log.warning(f"{name} runs since {patience:g} s, no other request about a node is carried out before its end")
                patience *= 2
        shared.set_condition(switching=True)

    def _step_primary(self, job: Job) -> Iterator[float]:
        yield from self._settle_primary(job.plan)

    def _step_follow(self, job: Job) -> Iterator[float]:
        """Nodes other than a new primary are set down, and follow_primary_command is run for each, behind our back."""
        shared, settings = self._boss.shared, self._boss.settings
        primary = shared.primary_id
        self._owed = job if primary < 0 else None
        if primary < 0 or primary == job.old_primary or not settings.follow_primary_command:
            return
        nodes = [node for node in self._nodes() if node.id != primary and settings.backends[node.id].used]
        for node in nodes:
            if node.usable:
                log.log(LOG, f"=== Starting follow degeneration. shutdown host {self._place(node.id)} ===")
                shared.set_node_state(node.id, NodeState.DOWN, "is to follow the new primary")
        followers = [node.id for node in nodes if shared.nodes[node.id].state is NodeState.DOWN]
        log.log(LOG, f"failover: {len(followers)} follow backends have been degenerated")
        self._boss.save_status()
        shared.set_condition(following=True)
        happenings = [self._happening(job, node_id, primary) for node_id in followers]
        self._followed = self._boss.run_command("follow_primary_command", happenings)
        yield from ()

    def _happening(self, job: Job, node_id: int, new_main: int | None = None) -> Happening:
        """What a command is told; ``new_main``: the new primary, for follow_primary_command."""
        if new_main is None:
            wanted = job.plan.new_main
            return Happening(
                self._named(node_id),
                self._named(self._boss.shared.main_id if wanted is None else wanted),
                job.old_main,
                self._named(job.old_primary),
            )
        old = self._named(job.old_primary)
        return Happening(self._named(node_id), self._named(new_main), job.old_primary, old)

    def _named(self, node_id: int) -> Place:
        if node_id < 0:
            return Place()
        backend = self._backend(node_id)
        return Place(node_id, backend.hostname, backend.port, backend.data_directory)

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

    def _tell_result(self, job: Job) -> None:
        shared = self._boss.shared
        log.log(LOG, f"failover: set new primary node: {shared.primary_id}")
        if shared.main_id >= 0:
            log.log(LOG, f"failover: set new main node: {shared.main_id}")
        for node_id in job.ids:
            if job.ask.change is Change.ATTACH:
                log.log(LOG, f"=== Failback done. reconnect host {self._place(node_id)} ===")
            else:
                log.log(LOG, f"=== Failover done. shutdown host {self._place(node_id)} ===")
        if job.plan.primary is not None:
            log.log(LOG, f"=== Failover done. promoted node {shared.primary_id}, it was node {job.old_primary} ===")
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

    def _find_primary(self, *, once: bool) -> Iterator[float]:
        """A search without a change of states: at the start, or ``once`` because the sr check saw another primary."""
        shared = self._boss.shared
        before = shared.primary_id
        if before < 0:
            shared.set_condition(switching=True)
        yield from self._search(once=once)
        if self._owed is not None and shared.primary_id >= 0:
            yield from self._step_follow(self._owed)
        if before >= 0 and shared.primary_id != before:
            log.log(LOG, f"failover: set new primary node: {shared.primary_id}")
            self._boss.tell_sessions(Sessions.END_ALL, ())
            self._boss.wake_workers()

    def _search(self, *, once: bool = False) -> Iterator[float]:
        """Ask all usable nodes, ``once`` or until one says it is the primary (find_primary_node_repeatedly)."""
        shared, settings = self._boss.shared, self._boss.settings
        log.log(LOG, "find_primary_node_repeatedly: waiting for finding a primary node")
        timeout = settings.search_primary_node_timeout
        end = self._boss.clock() + timeout if timeout else None
        next_told = 0.0
        next_outside = 0.0 if self._census.fresh else self._boss.clock() + OUTSIDE_PAUSE
        while True:
            nodes = self._nodes()
            if self._boss.clock() >= next_outside:
                next_outside = self._boss.clock() + OUTSIDE_PAUSE
                self._look_outside(nodes)
            if not any(node.usable for node in nodes):
                log.log(
                    LOG, "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node"
                )
                shared.set_primary(-1)
                return
            if not any(node.usable and node.id == shared.primary_id for node in nodes):
                shared.set_primary(-1)
            loud = self._boss.clock() >= next_told
            if loud:
                next_told = self._boss.clock() + SEARCH_PAUSE
            primary = self._census.ask(nodes, self.rules(), LOG if loud else DEBUG1)
            for node_id in (i for i in self._census.refused if not self.rules().pinned(i)):
                self._want(Ask(Change.DETACH, (node_id,), Cause.HISTORY))
            if primary >= 0:
                log.log(LOG, f"find_primary_node: primary node id is {primary}")
                shared.set_primary(primary)
                return
            if once:
                return
            if end is not None and self._boss.clock() >= end:
                log.log(LOG, "find_primary_node_repeatedly: expired, no primary node was found")
                return
            if any(ask.change is not Change.FIND_PRIMARY for ask in self._backlog):
                log.log(LOG, "find_primary_node_repeatedly: another request came, the search goes on after it")
                self._backlog.append(Ask(Change.FIND_PRIMARY, (), Cause.SR_CHECK))
                return
            yield QUICK_LOOK

    def _look_outside(self, nodes: tuple[NodeView, ...]) -> None:
        """Is the primary of the nodes in use a node that is kept out, by an old status file say? It is attached where
        pgpool may do so by itself, and anyway when an old primary takes writes in its place."""
        if not self._boss.prober.account()[0]:
            return
        rules = self.rules()
        node_id, rivals = self._census.lost(nodes, rules)
        if node_id < 0:
            return
        text = f"node {node_id} is the primary of the others, and not in use"
        if self._boss.settings.auto_failback or rules.external or rivals:
            log.log(LOG, f"{text}: it is attached")
            self._want(Ask(Change.ATTACH, (node_id,), Cause.LOST_PRIMARY))
        elif node_id != self._outside:
            self._outside = node_id
            hint = "attach it with pcp_attach_node, start pgpool with -D, or switch auto_failback on"
            log.warning(f"{text}: no statement can write", hint=hint)

    def reloaded(self) -> None:
        """The settings have changed: what could not be asked may be asked now."""
        if self._census.cannot_ask_told:
            self._census.cannot_ask_told = False
            self.start_search()
