"""The health check of one backend: is it alive? One process per backend (behaviour.md 10.4).

A server that answers is alive: a refused login (wrong password, no such database, too many connections) is told in the
log and never detaches a node. One that cannot be reached, does not answer in time, or starts up or shuts down, fails.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backend.connect import simple_query
from ..backend.probe import hang_up, reason_of, refused_login
from ..errors import BackendFailed, BackendRefused, PgpoolError
from ..model import ClusterMode, NodeState
from ..policy.failover import Cause, Health, streams_from, why_not_fail_back
from ..shared import RequestFlag, RequestKind
from ..system import process
from ..system.logs import DEBUG1, ERROR, LOG, log
from . import files
from .loop import Loop
from .search import ask_all

if TYPE_CHECKING:
    from ..config.settings import BackendConf, HealthConf, Settings
    from ..shared import Shared
    from .options import Options

NO_SUCH_DATABASE = "3D000"
_TRIED_WITHOUT_NAME = ("postgres", "template1")


def health_main(node_id: int, settings: Settings, shared: Shared, options: Options) -> int:
    """The life of the health check process of node ``node_id``; returns its exit code."""
    process.set_title(f"pgpool: health check process({node_id})")
    log.set_process(f"health_check{node_id}", "HEALTH CHECK")
    worker = HealthCheck(node_id, settings, shared, options)
    log.log(LOG, "process started")
    while True:
        period = worker.conf.period
        if period or worker.urgent:
            worker.check()
        worker.pause(period or None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt went. ``complaint``: it is alive, but something should be put right."""

    alive: bool
    timed_out: bool = False
    reason: str = ""
    complaint: str = ""
    sure: bool = False
    """Nobody listens there, or it says that it shuts down: asking again now would tell nothing new."""
    staged: bool = False
    """It fails because a test wants it to (health_check_test)."""


class HealthCheck(Loop):
    title = "health check process"

    def __init__(self, node_id: int, settings: Settings, shared: Shared, options: Options):
        super().__init__(settings, shared, options)
        self.node_id = node_id
        self._complaint = ""
        self._next_fail_back = 0.0
        """The first moment (time.monotonic) at which the node may be attached by itself once more."""

    @property
    def backend(self) -> BackendConf:
        return self.settings.backends[self.node_id]

    @property
    def conf(self) -> HealthConf:
        return self.backend.health_check

    def check(self) -> None:
        """One check with its retries; statistics, and the request to the parent when the node failed."""
        cell = self.shared.nodes[self.node_id]
        if not cell.state.usable:
            self.urgent = False
        if cell.state is NodeState.UNUSED:
            return
        if cell.state is NodeState.DOWN:
            cell.record_skip(time.time())
            external = self.settings.failover_owner == "external"
            if (self.settings.auto_failback or external) and self.settings.mode is ClusterMode.STREAMING_REPLICATION:
                self._fail_back(external)
            return
        began = time.monotonic()
        outcome, retries = self._attempts()
        cell.record_check(outcome.alive, (time.monotonic() - began) * 1000, retries, time.time())
        if outcome.alive:
            self._complain(outcome)
        elif cell.state.usable:
            self._degenerate(outcome)

    def _fail_back(self, external: bool) -> None:
        """auto_failback: a node that streams from the primary again is attached, not too often. With an ``external`` owner
        of the failover too, unless a person has detached it."""
        cell, shared, now = self.shared.nodes[self.node_id], self.shared, time.monotonic()
        if now < self._next_fail_back:
            return
        view, delay = cell.view(), cell.delay()
        if not self.settings.auto_failback and view.reason == Cause.OPERATOR.value:
            return
        why_not = why_not_fail_back(
            view.state, view.quarantined, delay.replication_state or self._own_word(), time.time() - delay.checked,
            self.settings.sr_check_period, shared.following or shared.switching,
        )  # fmt: skip
        if why_not or not self._attempt().alive:
            return
        log.log(LOG, f"request auto failback, node id:{self.node_id}")
        self._next_fail_back = now + (self.settings.auto_failback_interval if self.settings.auto_failback else 0)
        self.ask_parent(RequestKind.UP, (self.node_id,))

    def _own_word(self) -> str:
        """The primary knows no standby by this node's backend_application_name: 'streaming' when the node says that it
        streams, and has the primary's history."""
        primary = self.shared.primary_id
        if primary < 0 or self.prober.knock(self.backend, self.conf.timeout)[0] is not Health.ANSWERS:
            return ""
        answers = (ask_all(self.prober, backend) for backend in (self.backend, self.settings.backends[primary]))
        return "streaming" if streams_from(*answers) else ""

    def _attempts(self) -> tuple[Outcome, int]:
        """The outcome that counts, and how many retries were made.

        A check that was asked for because a session had trouble does not repeat a sure failure. The delay counts from
        the beginning of an attempt: one that ran into its time limit has waited enough.
        """
        retries = 0
        while True:
            urgent, self.urgent = self.urgent, False
            began = time.monotonic()
            outcome = self._attempt()
            if outcome.alive or (urgent and outcome.sure) or retries >= self.conf.max_retries:
                return outcome, retries
            self._tell_failure(outcome)
            retries += 1
            log.log(LOG, f"health check retrying on DB node: {self.node_id} (round:{retries})")
            self.pause(max(0.0, began + self.conf.retry_delay - time.monotonic()))

    def _attempt(self) -> Outcome:
        conf = self.conf
        if self.settings.health_check_test and files.asked_down(self._down_requests(), self.node_id):
            return Outcome(False, reason=f"{files.DOWN_REQUEST_FILE} says so (health_check_test)", staged=True)
        if not conf.user:
            seen, text = self.prober.knock(self.backend, conf.timeout)
            reason = "" if seen is Health.ANSWERS else text
            return Outcome(not reason, reason=reason, complaint="health_check_user is not set", sure=_sure(text))
        limit = conf.timeout or conf.connect_timeout / 1000 or self.prober.limit()
        deadline = time.monotonic() + limit
        for database in (conf.database,) if conf.database else _TRIED_WITHOUT_NAME:
            try:
                link = self.prober.connect(
                    self.backend, conf.user, conf.password, database, deadline, _shorter(conf.connect_timeout, limit)
                )
                try:
                    simple_query(link.channel, "SELECT 1", self.node_id)
                finally:
                    hang_up(link)
                return Outcome(True)
            except PgpoolError as err:
                if isinstance(err, BackendRefused) and err.sqlstate == NO_SUCH_DATABASE and not conf.database:
                    continue
                if refused_login(err) or not isinstance(err, BackendFailed | BackendRefused):
                    return Outcome(True, complaint=reason_of(err))
                reason = reason_of(err)
                return Outcome(False, time.monotonic() >= deadline, reason, sure=_sure(reason))
        return Outcome(True, complaint="neither database postgres nor template1 exists")

    def _complain(self, outcome: Outcome) -> None:
        """The node is alive, but the check cannot do its work as configured: told when it begins, not every period."""
        level = DEBUG1 if outcome.complaint == self._complaint else ERROR
        self._complaint = outcome.complaint
        if outcome.complaint:
            log.log(
                level,
                f"health check of node {self.node_id}: the server answers, but {outcome.complaint}",
                hint="check health_check_user, health_check_password and health_check_database",
            )

    def _tell_failure(self, outcome: Outcome) -> None:
        place = f"{self.backend.hostname}:{self.backend.port}"
        error = outcome.reason.rpartition(": ")[2]
        if outcome.staged:
            log.log(LOG, f"health check of node {self.node_id} fails: {outcome.reason}")
            return
        log.log(
            LOG, f'failed to connect to PostgreSQL server on "{place}", getsockopt() detected error "{error}"'
        )

    def _degenerate(self, outcome: Outcome) -> None:
        self._tell_failure(outcome)
        place = f"{self.backend.hostname}:{self.backend.port}"
        if not outcome.staged:
            log.error("failed to make persistent db connection", detail=f'connection to host:"{place}" failed')
        log.log(LOG, f"health check failed on node {self.node_id} (timeout:{int(outcome.timed_out)})")
        log.log(LOG, f"received degenerate backend request for node_id: {self.node_id} from pid [{os.getpid()}]")
        flags = RequestFlag.TIMEOUT if outcome.timed_out else RequestFlag.NONE
        self.ask_parent(RequestKind.DOWN, (self.node_id,), flags)
        if outcome.staged:
            self._answer_down_request()

    @property
    def _request_file(self) -> str:
        return self.settings.resolve(os.path.join(self.settings.work_dir, files.DOWN_REQUEST_FILE))

    def _down_requests(self) -> str:
        try:
            return files.read_down_requests(self._request_file)
        except OSError as err:
            log.warning(f'could not read "{self._request_file}"', detail=err.strerror)
            return ""

    def _answer_down_request(self) -> None:
        """The node is as good as detached: who attaches it again wants it up."""
        try:
            files.write_down_requests(self._request_file, files.answered_down(self._down_requests(), self.node_id))
        except OSError as err:
            log.warning(f'could not write "{self._request_file}"', detail=err.strerror)


def _sure(reason: str) -> bool:
    return reason.endswith(("Connection refused", "No such file or directory", "the database system is shutting down"))


def _shorter(milliseconds: int, seconds: float) -> int:
    """The smaller of two limits, in ms; 0 stands for none in the first."""
    other = max(1, int(seconds * 1000))
    return min(milliseconds, other) if milliseconds else other
