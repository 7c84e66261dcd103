"""What happens to the nodes when somebody asks for a change: a pure decision, which roles/failover carries out.

Source: behaviour.md 10.1 to 10.3 and 10.8. Three differences, all wanted: with failover_on_backend_error = check (the
default) a session's word never detaches a node, the loss of a standby ends only the sessions that wait for its answer, and a
node that was merely unreachable when pgpool started comes back by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ..model import ClusterMode, NodeState, NodeView

DISALLOW_TO_FAILOVER = "DISALLOW_TO_FAILOVER"
ALWAYS_PRIMARY = "ALWAYS_PRIMARY"


class Change(Enum):
    """What is asked for."""

    DETACH = "detach"
    ATTACH = "attach"
    PROMOTE = "promote"
    QUARANTINE = "quarantine"
    FIND_PRIMARY = "find primary"
    CONNECTED = "connected"


class Cause(Enum):
    """Why it is asked for."""

    OPERATOR = "asked for by an administrator"
    HEALTH_CHECK = "health check failed"
    HEALTH_TIMEOUT = "health check timed out"
    SESSION_ERROR = "a session could not talk to it"
    SHUTDOWN = "a session was told that it shuts down"
    SR_CHECK = "seen by the streaming replication check"
    LOST_PRIMARY = "it is the primary of the nodes in use"
    HISTORY = "it says it is a primary, and has another history than the last primary"


class Health(Enum):
    """What the parent saw when it knocked at a node itself."""

    ANSWERS = "answers"
    REFUSES = "refuses connections"
    """It is there, but starting up, shutting down or in crash recovery (57P03)."""
    SILENT = "cannot be reached"


class Sessions(Enum):
    """What the children have to do about a change."""

    GO_ON = "go on"
    RESTART_LATER = "restart when idle"
    """Every child exits when its session has ended, so that new sessions see the change."""
    END_USERS = "end the sessions which use the nodes"
    """A session that waits for an answer of one of them ends; one that does not goes on without it."""
    END_ALL = "end all sessions"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``seen`` is needed for the causes which ``needs_look`` names."""

    change: Change
    node_ids: tuple[int, ...]
    cause: Cause
    seen: Mapping[int, Health] = field(default_factory=dict)
    switchover: bool = False
    """With PROMOTE: the present primary is detached and failover_command is to promote the node."""
    graceful: bool = False
    """With DETACH: not before the clients have gone."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The part of the settings that decides. ``flags``: node id -> backend_flag words."""

    mode: ClusterMode
    failover_on_backend_error: str
    """on, off or check."""
    failover_on_backend_shutdown: bool
    flags: Mapping[int, frozenset[str]] = field(default_factory=dict)
    external: bool = False
    """failover_owner = external: somebody else moves the primary, no command of ours is run."""

    def pinned(self, node_id: int) -> bool:
        return DISALLOW_TO_FAILOVER in self.flags.get(node_id, frozenset())


class Step(Enum):
    """The steps of a plan, in their order (behaviour.md 10.3). After each of them all processes may die: what is stored
    and what is shared then says of no node that it is better than it is."""

    STATES = "the states of the nodes change"
    SAVE = "pgpool_status is rewritten"
    SESSIONS = "sessions are told"
    COMMANDS = "failover_command or failback_command is run for each node"
    PRIMARY = "the primary is found or set"
    FOLLOW = "when the primary has changed, the other nodes are told to follow it"


class Command(Enum):
    """Which command is run for the nodes whose state changes."""

    NONE = ""
    FAILOVER = "failover_command"
    FAILBACK = "failback_command"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do; ``steps`` gives the order."""

    states: tuple[tuple[int, NodeState], ...] = ()
    """Node id and its new state."""
    sessions: Sessions = Sessions.GO_ON
    search_primary: bool = False
    """Ask the nodes which of them is the primary (streaming replication)."""
    primary: int | None = None
    """Set this one without asking."""
    save: bool = False
    """Rewrite pgpool_status (never while all nodes are down)."""
    quarantine: bool = False
    command: Command = Command.NONE
    new_main: int | None = None
    """The node that failover_command is told to promote; None: the new main node."""
    follow: bool = False
    """follow_primary_command is run if the primary has changed."""
    refused: tuple[tuple[int, str], ...] = ()
    """Nodes for which nothing is done, and why."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What there is to do, in order."""
        wanted = {
            Step.STATES: bool(self.states),
            Step.SAVE: self.save,
            Step.SESSIONS: self.sessions is not Sessions.GO_ON,
            Step.COMMANDS: self.command is not Command.NONE,
            Step.PRIMARY: bool(self.states) or self.primary is not None or self.search_primary,
            Step.FOLLOW: self.follow,
        }
        return tuple(step for step in Step if wanted[step])

    @property
    def empty(self) -> bool:
        return not self.states and self.primary is None and not self.search_primary


def needs_look(cause: Cause) -> bool:
    """Must the parent knock at the node itself before it believes this? pg_terminate_backend looks like a shutdown."""
    return cause is Cause.SHUTDOWN


def check_first(ask: Ask, rules: Rules) -> bool:
    """Is a session's word only the reason for a health check at once? The check decides then, not the session."""
    if ask.change is not Change.DETACH or rules.failover_on_backend_error != "check":
        return False
    if ask.cause is Cause.SESSION_ERROR:
        return True
    return ask.cause is Cause.SHUTDOWN and rules.mode.has_primary and not rules.failover_on_backend_shutdown


def decide(ask: Ask, nodes: tuple[NodeView, ...], primary_id: int, rules: Rules) -> Plan:
    """The plan for one request, from one snapshot of the nodes."""
    by_id = {node.id: node for node in nodes}
    known = tuple(i for i in dict.fromkeys(ask.node_ids) if i in by_id)
    unknown = tuple((i, "there is no such node") for i in ask.node_ids if i not in by_id)
    plan = _DECIDERS[ask.change](ask, known, by_id, primary_id, rules)
    if not unknown:
        return plan
    return replace(plan, refused=plan.refused + unknown)


def _detach(ask: Ask, ids: tuple[int, ...], nodes: dict[int, NodeView], primary_id: int, rules: Rules) -> Plan:
    refused: list[tuple[int, str]] = []
    down: list[int] = []
    for node_id in ids:
        reason = _why_not_detach(ask, nodes[node_id], rules)
        if reason:
            refused.append((node_id, reason))
        else:
            down.append(node_id)
    if not down:
        return Plan(refused=tuple(refused))
    streaming = rules.mode is ClusterMode.STREAMING_REPLICATION
    primary_left = primary_id in down or primary_id < 0
    left = any(node.usable for node in nodes.values() if node.id not in down)
    silent = rules.external or ask.change is Change.QUARANTINE or ask.cause is Cause.HISTORY
    if streaming and not primary_left and left and ask.cause is not Cause.HEALTH_TIMEOUT:
        sessions = Sessions.END_USERS
    else:
        sessions = Sessions.END_ALL
    return Plan(
        states=tuple((node_id, NodeState.DOWN) for node_id in down),
        sessions=sessions,
        search_primary=streaming and primary_left,
        save=ask.change is not Change.QUARANTINE,
        quarantine=ask.change is Change.QUARANTINE,
        command=Command.NONE if silent else Command.FAILOVER,
        follow=streaming and primary_left and not rules.external,
        refused=tuple(refused),
    )


def _why_not_detach(ask: Ask, node: NodeView, rules: Rules) -> str:
    """'' when the node shall go."""
    if not node.state.usable:
        return f"the node is {node.state.name.lower()} already"
    if rules.pinned(node.id):
        return "its backend_flag is DISALLOW_TO_FAILOVER"
    if ask.cause is Cause.SESSION_ERROR and rules.failover_on_backend_error != "on":
        return f"failover_on_backend_error is {rules.failover_on_backend_error}"
    if ask.cause is Cause.SHUTDOWN and not rules.failover_on_backend_shutdown and rules.mode.has_primary:
        return "failover_on_backend_shutdown is off"
    if needs_look(ask.cause):
        seen = ask.seen.get(node.id, Health.ANSWERS)
        if seen is Health.ANSWERS:
            return "the node answers"
    return ""


def _attach(ask: Ask, ids: tuple[int, ...], nodes: dict[int, NodeView], primary_id: int, rules: Rules) -> Plan:
    refused = tuple((i, "the node is attached already") for i in ids if nodes[i].usable)
    back = tuple(i for i in ids if not nodes[i].usable)
    if not back:
        return Plan(refused=refused)
    streaming = rules.mode is ClusterMode.STREAMING_REPLICATION
    first = not any(node.usable for node in nodes.values())
    return Plan(
        states=tuple((i, NodeState.WAITING) for i in back),
        sessions=Sessions.RESTART_LATER if streaming and not first else Sessions.END_ALL,
        search_primary=streaming and primary_id < 0,
        save=True,
        command=Command.NONE if rules.external else Command.FAILBACK,
        refused=refused,
    )


def _promote(ask: Ask, ids: tuple[int, ...], nodes: dict[int, NodeView], primary_id: int, rules: Rules) -> Plan:
    """Changes only our view: PostgreSQL is not touched. A switchover detaches the present primary instead, and
    failover_command promotes the node."""
    if rules.mode is not ClusterMode.STREAMING_REPLICATION:
        return Plan(refused=tuple((i, "only streaming replication mode has a primary to choose") for i in ids))
    node = nodes[ids[0]] if ids else None
    if node is None:
        return Plan()
    if node.id == primary_id:
        return Plan(refused=((node.id, "the node is the primary already"),))
    if not node.usable:
        return Plan(refused=((node.id, "the node is down"),))
    if not ask.switchover:
        return Plan(primary=node.id, sessions=Sessions.END_ALL, follow=not rules.external)
    if rules.external:
        return Plan(refused=((node.id, "failover_owner is external: somebody else moves the primary"),))
    if primary_id in nodes and nodes[primary_id].usable:
        ousted = replace(ask, change=Change.DETACH, node_ids=(primary_id,))
        return replace(_detach(ousted, (primary_id,), nodes, primary_id, rules), new_main=node.id)
    return Plan(refused=((node.id, "there is no primary that could make room for it"),))


def _find_primary(ask: Ask, ids: tuple[int, ...], nodes: dict[int, NodeView], primary_id: int, rules: Rules) -> Plan:
    return Plan(search_primary=rules.mode is ClusterMode.STREAMING_REPLICATION)


def _connected(ask: Ask, ids: tuple[int, ...], nodes: dict[int, NodeView], primary_id: int, rules: Rules) -> Plan:
    waiting = tuple((i, NodeState.UP) for i in ids if nodes[i].state is NodeState.WAITING)
    return Plan(states=waiting, save=bool(waiting))


_DECIDERS: dict[Change, Callable[[Ask, tuple[int, ...], dict[int, NodeView], int, Rules], Plan]] = {
    Change.DETACH: _detach,
    Change.QUARANTINE: _detach,
    Change.ATTACH: _attach,
    Change.PROMOTE: _promote,
    Change.FIND_PRIMARY: _find_primary,
    Change.CONNECTED: _connected,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said when it was asked about its role. ``in_recovery`` None: it could not be asked. ``timeline`` 0 and
    ``system`` (the system identifier) '': not known. ``streams``: a standby that receives WAL now."""

    node_id: int
    in_recovery: bool | None
    timeline: int = 0
    system: str = ""
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Who is the primary (-1: nobody), the other nodes which say so too (they are not used as primaries), and those that
    are refused: of another database system, or on an older timeline than the primary had."""

    primary: int
    others: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()


def choose_primary(answers: tuple[Answer, ...], current: int, rules: Rules, last: Answer | None = None) -> Found:
    """The primary among the nodes that answered.

    A node flagged ALWAYS_PRIMARY is believed without asking. The present primary stays when it still says it is one;
    else the one on the highest timeline, and of several there the last one (behaviour.md 10.3 step 6). With an external
    owner the present one stays only while nobody is on a higher timeline: whoever promoted that one has moved the primary.
    ``last``: the last primary; a node with another system identifier or a lower timeline has another history.
    """
    for answer in answers:
        if ALWAYS_PRIMARY in rules.flags.get(answer.node_id, frozenset()):
            return Found(answer.node_id)
    claims = [answer for answer in answers if answer.in_recovery is False]
    refused = tuple(claim.node_id for claim in claims if last is not None and _has_another_history(claim, last))
    timelines = {claim.node_id: claim.timeline for claim in claims if claim.node_id not in refused}
    if not timelines:
        return Found(-1, refused=refused)
    primary = max(timelines, key=lambda i: (timelines[i], i))
    if current in timelines and (not rules.external or timelines[current] == timelines[primary]):
        primary = current
    return Found(primary, tuple(i for i in timelines if i != primary), refused)


def _has_another_history(claim: Answer, last: Answer) -> bool:
    if claim.system and last.system and claim.system != last.system:
        return True
    return 0 < claim.timeline < last.timeline


def lost_primary(
    kept_out: tuple[Answer, ...], used: tuple[Answer, ...], last: Answer | None = None, *, alone: bool = False
) -> int:
    """The node that is the primary of those in use, and is kept out of use itself; -1 when that is not sure.

    ``kept_out``: what nodes say that nobody has taken out on purpose. One of them only may be a primary, with no other
    history than ``last``, the last primary. The nodes in use must be of its database system. A standby must stream, and
    be on no later timeline: one that is being promoted streams no more. Another primary in use must be on an older
    timeline, and a standby in use must have left that one: two primaries alone do not tell who is right (issue 6, 7c).
    ``alone``: it may also be the only one, with no node in use.
    """
    claims = [a for a in kept_out if a.in_recovery is False and a.system and not (last and _has_another_history(a, last))]
    if len(claims) != 1:
        return -1
    [claim] = claims
    if not used:
        return claim.node_id if alone else -1
    standbys = [a for a in used if a.in_recovery and a.streams and a.timeline <= claim.timeline]
    rivals = [a for a in used if a.in_recovery is False and 0 < a.timeline < claim.timeline]
    if len(standbys) + len(rivals) < len(used) or any(a.system != claim.system for a in used):
        return -1
    newest = max((a.timeline for a in standbys), default=0)
    return claim.node_id if all(a.timeline < newest for a in rivals) and standbys else -1


def rival_primaries(kept_out: tuple[Answer, ...], used: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Nodes kept out of use which say they are primaries, of the same database system and on a later timeline than the
    primary in use: one of the two is the wrong one."""
    primaries = [answer for answer in used if answer.in_recovery is False and answer.system and answer.timeline]
    return tuple(
        claim
        for claim in kept_out
        if claim.in_recovery is False
        and any(claim.system == p.system and claim.timeline > p.timeline for p in primaries)
    )


def false_primaries(
    claims: tuple[int, ...], upstreams: Mapping[int, tuple[str, int] | None], places: Mapping[int, tuple[str, int]]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """detach_false_primary: the nodes to detach, and what the log is told (behaviour.md 10.6).

    ``claims``: nodes that say they are primaries; ``upstreams``: standby -> (host, port) it streams from, None when it
    does not; ``places``: node -> its backend_hostname and backend_port.
    """
    if len(claims) < 2:
        return (), ()
    if not upstreams:
        return tuple(sorted(claims)[1:]), ()
    owned = {claim: sum(_same_place(places[claim], seen) for seen in upstreams.values()) for claim in claims}
    true = [claim for claim in claims if owned[claim] == len(upstreams)]
    if true:
        return tuple(claim for claim in claims if claim not in true), ()
    return (), tuple(f"primary {claim} owns only {n} standbys out of {len(upstreams)}" for claim, n in owned.items())


def _same_place(place: tuple[str, int], seen: tuple[str, int] | None) -> bool:
    if seen is None or place[1] != seen[1]:
        return False
    local = place[0] == "" or place[0].startswith("/")
    return place[0] == seen[0] or (local and seen[0] in ("", "localhost"))


def why_not_fail_back(
    state: NodeState, quarantined: bool, replication_state: str, age: float, period: float, following: bool
) -> str:
    """auto_failback: '' when this node may be attached by itself (behaviour.md 10.5).

    ``replication_state``: what the primary says of it, ``age`` seconds ago; ``period``: sr_check_period in seconds.
    """
    if state is not NodeState.DOWN or quarantined:
        return "it is not down"
    if following:
        return "follow_primary_command is running"
    if replication_state != "streaming":
        return "it does not stream from the primary"
    if age > 2 * period + 10:
        return "the streaming check is late"
    return ""


def streams_from(standby: Answer, primary: Answer) -> bool:
    """Is it sure that ``standby`` receives the WAL of ``primary``'s history now, be it by way of another standby?"""
    if not standby.in_recovery or not standby.streams or primary.in_recovery is not False or not primary.system:
        return False
    return standby.system == primary.system and standby.timeline == primary.timeline > 0


def primary_without_asking(nodes: tuple[NodeView, ...], rules: Rules) -> int:
    """The primary where roles cannot be asked for: ALWAYS_PRIMARY, else the main node; -1 when no node is usable."""
    usable = [node.id for node in nodes if node.usable]
    for node_id in usable:
        if ALWAYS_PRIMARY in rules.flags.get(node_id, frozenset()):
            return node_id
    return usable[0] if usable else -1


def may_return(in_recovery: bool | None, primary_id: int, mode: ClusterMode) -> bool:
    """May a node that could not be reached at start be used now that it answers?

    A second primary beside the one we use may have a history of its own: it stays out until somebody attaches it.
    """
    return mode is not ClusterMode.STREAMING_REPLICATION or primary_id < 0 or in_recovery is not False
