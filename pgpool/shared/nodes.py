"""What is known of each backend node: its state (the parent's word), its delay (sr check), its health statistics."""

from __future__ import annotations

from dataclasses import dataclass

from pgpool.model import NodeState
from pgpool.shared.layout import (
    NODE_DELAY,
    NODE_HEALTH,
    NODE_STATE,
    REASON_BYTES,
    WORD_BYTES,
    Layout,
    Record,
    Words,
    to_bytes,
    to_text,
)

NEVER = 0.0
"""A time that has not come yet; all times are seconds since 1970."""


@dataclass(frozen=True, slots=True)
class StateView:
    state: NodeState
    quarantined: bool
    changed: float
    reason: str


@dataclass(frozen=True, slots=True)
class DelayView:
    """``delay``: bytes behind the primary, or microseconds when delay_threshold_by_time > 0. Words as in
    pg_stat_replication, empty when the node is not there."""

    delay: int
    replication_state: str
    sync_state: str
    checked: float


@dataclass(frozen=True, slots=True)
class HealthView:
    """Counts since start; durations in milliseconds (0.0 before the first check); times NEVER when not yet."""

    total: int
    success: int
    fail: int
    skip: int
    retry: int
    max_retry: int
    max_ms: float
    min_ms: float
    sum_ms: float
    last: float
    last_success: float
    last_skip: float
    last_fail: float


class Node:
    """The three cells of one node."""

    def __init__(self, words: Words, layout: Layout, node_id: int):
        self.id = node_id
        state, delay, health = layout.node(node_id)
        self._state = Record(words, state, NODE_STATE)
        self._delay = Record(words, delay, NODE_DELAY)
        self._health = Record(words, health, NODE_HEALTH)

    @property
    def state(self) -> NodeState:
        return NodeState(self._state.get("state"))

    def view(self) -> StateView:
        cell = self._state.read()
        return StateView(NodeState(cell.state), bool(cell.quarantined), cell.changed, to_text(cell.reason))

    @property
    def changes(self) -> tuple[int, int]:
        """How often since start it went down, and how often it came back."""
        return self._state.get("downs"), self._state.get("ups")

    def write_state(self, state: NodeState, quarantined: bool, reason: str, now: float) -> None:
        """Only for Shared.set_node_state, the one mover."""
        downs, ups = self.changes
        self._state.write(
            state=int(state),
            quarantined=int(quarantined),
            downs=downs + (self.state.usable and state is NodeState.DOWN),
            ups=ups + (self.state is NodeState.DOWN and state.usable),
            changed=now,
            reason=to_bytes(reason, REASON_BYTES),
        )

    def delay(self) -> DelayView:
        cell = self._delay.read()
        return DelayView(cell.delay, to_text(cell.state), to_text(cell.sync_state), cell.checked)

    @property
    def delay_value(self) -> int:
        """Only the number: one word, no snapshot needed."""
        return self._delay.get("delay")

    @property
    def delay_known(self) -> bool:
        return bool(self._delay.get("known"))

    def forget_delay(self) -> None:
        """By the sr check worker: the node could not be asked, so nobody knows how far behind it is."""
        self._delay.write(known=0)

    def set_delay(
        self, delay: int, replication_state: str, sync_state: str, now: float, *, known: bool = True
    ) -> None:
        """By the sr check worker, after each round."""
        self._delay.write(
            known=int(known),
            delay=max(0, int(delay)),
            checked=now,
            state=to_bytes(replication_state, WORD_BYTES),
            sync_state=to_bytes(sync_state, WORD_BYTES),
        )

    def health(self) -> HealthView:
        return HealthView(*self._health.read()[1:])

    def record_skip(self, now: float) -> None:
        """By the node's health check process: no check was made because the node is down."""
        h = self._health
        h.write(total=h.get("total") + 1, skip=h.get("skip") + 1, last=now, last_skip=now)

    def record_check(self, ok: bool, duration_ms: float, retries: int, now: float) -> None:
        """By the node's health check process: one check, with all its retries, has ended. ``duration_ms`` >= 0."""
        h = self._health
        cell = h.read()
        first = cell.success + cell.fail == 0
        changes: dict[str, float] = {"success": cell.success + 1, "last_success": now}
        if not ok:
            changes = {"fail": cell.fail + 1, "last_fail": now}
        h.write(
            total=cell.total + 1,
            retry=cell.retry + retries,
            max_retry=max(cell.max_retry, retries),
            max_ms=max(cell.max_ms, duration_ms),
            min_ms=duration_ms if first else min(cell.min_ms, duration_ms),
            sum_ms=cell.sum_ms + duration_ms,
            last=now,
            **changes,
        )
