"""Who is the primary? Asks the nodes, and lets policy/failover choose (behaviour.md 10.3 step 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..model import ClusterMode, NodeState, NodeView
from ..policy.commands import Happening
from ..policy.failover import Answer, Found, Rules, Sessions, choose_primary, lost_primary, primary_without_asking
from ..system.logs import Level, log

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..shared import Shared
    from .probe import Prober

STORED_DOWN = "down in the status file"
"""Why a node is down that no request of this run has taken out."""


class Boss(Protocol):
    """What the parent gives to a job."""

    settings: Settings
    shared: Shared
    prober: Prober

    def clock(self) -> float: ...
    def check_now(self, node_id: int) -> None: ...
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
        self._refused: tuple[int, ...] = ()
        self.cannot_ask_told = False

    def ask(self, nodes: tuple[NodeView, ...], rules: Rules, level: Level) -> int:
        """One round: the primary's id, -1 when none was found yet."""
        shared, prober = self._boss.shared, self._boss.prober
        if not prober.account()[0]:
            return self._cannot_ask(nodes, rules, "sr_check_user is not set")
        answers: dict[int, Answer] = {}
        refusals = 0
        usable = [node for node in nodes if node.usable]
        for node in usable:
            log.log(level, f"find_primary_node: checking backend no {node.id}")
            backend = self._boss.settings.backends[node.id]
            in_recovery, why, refused = prober.ask_recovery(backend)
            timeline, system = prober.identity(backend) if in_recovery is False else (0, "")
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
        if found.primary < 0 and refusals == len(usable):
            return self._cannot_ask(nodes, rules, "every backend refused the login of sr_check_user")
        if found.primary >= 0 and answers[found.primary].system:
            self._last = answers[found.primary]
        return found.primary

    def kept_out(self, nodes: tuple[NodeView, ...]) -> int:
        """The primary of the nodes in use, when the status file of an earlier run keeps it out; -1: none for sure."""
        shared, prober, backends = self._boss.shared, self._boss.prober, self._boss.settings.backends

        def answer(node: NodeView) -> Answer:
            in_recovery = prober.ask_recovery(backends[node.id])[0]
            if in_recovery is None:
                return Answer(node.id, None)
            return Answer(node.id, in_recovery, *prober.identity(backends[node.id], standby=in_recovery))

        stored = [node for node in nodes if shared.nodes[node.id].view().reason == STORED_DOWN]
        claims = tuple(answer(node) for node in stored)
        if not any(claim.in_recovery is False for claim in claims):
            return -1
        return lost_primary(claims, tuple(answer(node) for node in nodes if node.usable))

    def _tell(self, found: Found, answers: dict[int, Answer]) -> None:
        if found.others:
            log.warning(
                f"more than one node says it is the primary: {', '.join(map(str, (found.primary, *found.others)))}",
                detail=f"node {found.primary} is used as the primary",
            )
        for node_id in set(found.refused) - set(self._refused):
            log.warning(
                f"node {node_id} says it is the primary and is not used as such: its history is another one",
                detail=f"{_history(answers[node_id])}; of the last primary: {_history(self._last)}",
                hint="make it a standby of the true primary; restart pgpool if this one is to be the primary",
            )
        self._refused = found.refused

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


def _history(seen: Answer | None) -> str:
    return f"timeline {seen.timeline} of the system {seen.system}" if seen is not None else "unknown"


def settle_without_asking(boss: Boss, rules: Rules) -> None:
    """The primary in modes where nobody needs to be asked: the main node, or the one flagged ALWAYS_PRIMARY."""
    if boss.settings.mode is not ClusterMode.STREAMING_REPLICATION:
        boss.shared.set_primary(primary_without_asking(boss.shared.node_views(boss.settings), rules))


def state_number(state: NodeState, primary: bool) -> int:
    """``node status[N]`` in the start message: 1 primary, 2 standby, 0 not in use."""
    return 0 if not state.usable else 1 if primary else 2
