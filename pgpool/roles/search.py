"""Who is the primary? Asks the nodes, and lets policy/failover choose (behaviour.md 10.3 step 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..model import ClusterMode, NodeState, NodeView
from ..policy.commands import Happening
from ..policy.failover import (
    Answer,
    Cause,
    Found,
    Health,
    Rules,
    Sessions,
    choose_primary,
    lost_primary,
    primary_without_asking,
    rival_primaries,
)
from ..system.logs import Level, log

if TYPE_CHECKING:
    from ..backend.probe import Prober
    from ..config.settings import BackendConf, Settings
    from ..shared import Shared

STORED_DOWN = "down in the status file"
"""Why a node is down that no request of this run has taken out."""
ADDED = "added by a reload"
"""Why a node is down that is new in the configuration."""
OUTSIDE_KNOCK = 1.0
"""Longest time to wait for a node that is not in use (seconds): those in use wait for the search."""
FIRST_PATIENCE = 2.0
"""Somebody else has moved the primary (failover_owner): longest time to wait for a node in use, in seconds, doubled each
time no primary is found. Where pgpool moves it, a slow primary gets its full time before another is believed."""


class Boss(Protocol):
    """What the parent gives to a job."""

    settings: Settings
    shared: Shared
    prober: Prober

    def clock(self) -> float: ...
    def check_now(self, node_id: int) -> None: ...
    def check_roles_now(self) -> None: ...
    def run_command(self, name: str, happenings: list[Happening]) -> Callable[[], bool]: ...
    def tell_sessions(self, what: Sessions, node_ids: tuple[int, ...]) -> None: ...
    def close_idle_links(self) -> None: ...
    def rotate_log(self) -> None: ...
    def save_status(self) -> None: ...
    def wake_workers(self) -> None: ...


class Census:
    """Asks all usable nodes for their role, and remembers what the last primary was: its system and its timeline."""

    def __init__(self, boss: Boss):
        self._boss = boss
        self._last: Answer | None = None
        self._patience = FIRST_PATIENCE
        self.refused: tuple[int, ...] = ()
        """Nodes in use that said last time they are primaries, and have another history."""
        self.cannot_ask_told = False

    def ask(self, nodes: tuple[NodeView, ...], rules: Rules, level: Level) -> int:
        """One round: the primary's id, -1 when none was found yet."""
        shared, prober = self._boss.shared, self._boss.prober
        if not prober.account()[0]:
            return self._cannot_ask(nodes, rules, "sr_check_user is not set")
        answers: dict[int, Answer] = {}
        refusals = 0
        patience = self._patience if rules.external and not self.fresh else math.inf
        usable = [node for node in nodes if node.usable]
        for node in usable:
            log.log(level, f"find_primary_node: checking backend no {node.id}")
            backend = self._boss.settings.backends[node.id]
            in_recovery, why, refused = prober.ask_recovery(backend, patience)
            timeline, system, _ = prober.identity(backend) if in_recovery is False else (0, "", False)
            answers[node.id] = Answer(node.id, in_recovery, timeline, system)
            refusals += refused
            if in_recovery is None:
                log.log(level, f"find_primary_node: could not ask node {node.id}", why)
            elif in_recovery:
                log.log(level, f"find_primary_node: standby node is {node.id}")
                if node.id == shared.primary_id:
                    shared.set_primary(-1)
        found = choose_primary(tuple(answers.values()), shared.primary_id, rules, self._last)
        self._tell(found, answers)
        self._patience = self._patience * 2 if found.primary < 0 else FIRST_PATIENCE
        if found.primary < 0 and refusals == len(usable):
            return self._cannot_ask(nodes, rules, "every backend refused the login of sr_check_user")
        if found.primary >= 0 and answers[found.primary].system:
            self._last = answers[found.primary]
        return found.primary

    @property
    def fresh(self) -> bool:
        """No primary was known yet."""
        return self._last is None

    def lost(self, nodes: tuple[NodeView, ...], rules: Rules) -> tuple[int, bool]:
        """The primary of the nodes in use that is kept out itself (-1: none for sure), and whether an older one is in use
        in its place. From now on it is the last primary: one with an older history is none."""
        shared, prober, backends = self._boss.shared, self._boss.prober, self._boss.settings.backends
        claims = ask_outside(prober, backends, kept_out(shared, nodes, external=rules.external))
        if not any(claim.in_recovery is False for claim in claims):
            return -1, False
        used = tuple(ask_all(prober, backends[node.id]) for node in nodes if node.usable)
        node_id = lost_primary(claims, used, self._last, alone=rules.external)
        for claim in claims:
            if claim.node_id == node_id:
                self._last = claim
        if node_id < 0 and self.fresh:
            self._tell_rivals(rival_primaries(claims, used))
        return node_id, any(answer.in_recovery is False for answer in used)

    def _tell_rivals(self, rivals: tuple[Answer, ...]) -> None:
        for rival in rivals:
            log.warning(
                f"node {rival.node_id} is down in the status file, and says it is a primary on a later timeline than the "
                "one in use",
                detail=_history(rival),
                hint="make sure that clients write to the right one: detach the other, and attach this one, or start "
                "pgpool with -D",
            )

    def _tell(self, found: Found, answers: dict[int, Answer]) -> None:
        if found.others:
            log.warning(
                f"more than one node says it is the primary: {', '.join(map(str, (found.primary, *found.others)))}",
                detail=f"node {found.primary} is used as the primary",
            )
        for node_id in set(found.refused) - set(self.refused):
            log.warning(
                f"node {node_id} says it is the primary and is not used: its history is another one",
                detail=f"{_history(answers[node_id])}; of the last primary: {_history(self._last)}",
                hint="make it a standby of the true primary; restart pgpool if this one is to be the primary",
            )
        self.refused = found.refused

    def _cannot_ask(self, nodes: tuple[NodeView, ...], rules: Rules, why: str) -> int:
        """Nobody can be asked, so the main node is taken for the primary; told once."""
        primary = primary_without_asking(nodes, rules)
        if not self.cannot_ask_told:
            self.cannot_ask_told = True
            log.warning(
                f"the backends cannot be asked for their role: {why}",
                detail=f"node {primary} is taken for the primary",
                hint="set sr_check_user, sr_check_password and sr_check_database to an account that may log in on all "
                "backends (no privileges are needed to find the primary)",
            )
        return primary


def kept_out(shared: Shared, nodes: tuple[NodeView, ...], *, external: bool) -> tuple[NodeView, ...]:
    """The nodes that are down and that nobody has taken out on purpose. With ``external`` (failover_owner) a check that took
    one out does not keep it out: who owns the failover brings it back."""
    found = []
    for node in nodes:
        view = shared.nodes[node.id].view()
        if view.state is not NodeState.DOWN or view.quarantined:
            continue
        if view.reason == STORED_DOWN or (external and view.reason not in (Cause.OPERATOR.value, ADDED)):
            found.append(node)
    return tuple(found)


def ask_outside(prober: Prober, backends: Sequence[BackendConf], nodes: tuple[NodeView, ...]) -> tuple[Answer, ...]:
    """What nodes say that are not in use; one that does not answer soon costs ``OUTSIDE_KNOCK`` only."""
    there = [node for node in nodes if prober.knock(backends[node.id], OUTSIDE_KNOCK)[0] is Health.ANSWERS]
    return tuple(ask_all(prober, backends[node.id]) for node in there)


def ask_all(prober: Prober, backend: BackendConf) -> Answer:
    """Role, history, and whether it streams."""
    in_recovery = prober.ask_recovery(backend)[0]
    if in_recovery is None:
        return Answer(backend.id, None)
    return Answer(backend.id, in_recovery, *prober.identity(backend, standby=in_recovery))


def _history(seen: Answer | None) -> str:
    return f"timeline {seen.timeline} of the system {seen.system}" if seen is not None else "unknown"


def settle_without_asking(boss: Boss, rules: Rules) -> None:
    """The primary in modes where nobody needs to be asked: the main node, or the one flagged ALWAYS_PRIMARY."""
    if boss.settings.mode is not ClusterMode.STREAMING_REPLICATION:
        boss.shared.set_primary(primary_without_asking(boss.shared.node_views(boss.settings), rules))


def state_number(state: NodeState, primary: bool) -> int:
    """``node status[N]`` in the start message: 1 primary, 2 standby, 0 not in use."""
    return 0 if not state.usable else 1 if primary else 2
