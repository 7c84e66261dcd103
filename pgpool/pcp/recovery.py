"""Online recovery: a detached node is made anew from the main node, started and attached (behaviour.md 11).

Pgpool-II's way: the extension pgpool_recovery in the main node runs the scripts in its data directory. Ours, by
recovery_method: recovery_own.py. Each step is told to the client and the log; a failure leaves the node down and names
the step, and where the script's output is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..backend.connect import Login, simple_query
from ..backend.probe import hang_up
from ..config.settings import BackendConf, Settings
from ..errors import PgpoolError, SessionFatal, StatementError
from ..model import ClusterMode
from ..shared import RequestKind
from . import recovery_own
from .desk import Desk

PAUSE = 0.5
"""Seconds between two looks at a server that starts."""
FAILBACK_WAIT = 5.0
"""Seconds the parent gets to attach the node; after that it goes on without us looking."""
CONNECT_LIMIT = 30.0


class RecoveryFailed(StatementError):
    """The node stays down; ``detail`` says at which step and why."""


def recover(desk: Desk, target: BackendConf) -> None:
    """Recover one node and attach it. Raises StatementError or SessionFatal, texts of pcp_protocol.md 3.8."""
    mode = desk.settings.mode
    if mode not in RECOVERABLE:
        raise StatementError(
            "process recovery request failed",
            detail="recovery request is only allowed in replication and streaming replication modes.",
        )
    if target.id == desk.shared.primary_id:
        raise StatementError(
            "process recovery request failed", detail="primary server cannot be recovered by online recovery."
        )
    if not desk.shared.begin_recovery(os.getpid(), target.id):
        raise SessionFatal("pgpool-II is already processing another recovery request.", sqlstate="55006")
    try:
        _Recovery(desk, target).run()
    finally:
        desk.shared.end_recovery(os.getpid())


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, in words for people, and the function that does it."""

    words: str
    act: Callable[[_Recovery], None]


class _Recovery:
    def __init__(self, desk: Desk, target: BackendConf):
        self.desk = desk
        self.target = target
        self.settings = desk.settings
        self.main = self._main_node()
        self.link: Login | None = None
        self.directory: recovery_own.Directory | None = None

    def _main_node(self) -> BackendConf:
        shared = self.desk.shared
        streaming = self.settings.mode is ClusterMode.STREAMING_REPLICATION
        main = shared.primary_id if streaming else shared.main_id
        if main < 0 or not shared.nodes[main].state.usable:
            raise RecoveryFailed(
                f"node recovery failed, node id: {self.target.id}", detail="there is no node to recover it from"
            )
        return self.settings.backends[main]

    def run(self) -> None:
        node = self.target.id
        if self.desk.shared.nodes[node].state.usable or self._answers():
            raise StatementError(
                f"node recovery failed, node id: {node} is alive",
                hint="detach the node and stop its server first",
            )
        self.desk.tell(f"starting recovering node {node}")
        steps = steps_of(self.settings)
        try:
            for number, step in enumerate(steps, 1):
                self.desk.tell(f"recovery of node {node}: step {number} of {len(steps)}, {step.words}")
                with self._naming(f"step {number} of {len(steps)}, {step.words}"):
                    step.act(self)
        finally:
            self._hang_up()
        self.desk.tell(f"node recovery done, node id: {node}")

    @contextmanager
    def _naming(self, step: str) -> Iterator[None]:
        """Every error of a step says which step it was."""
        try:
            yield
        except PgpoolError as err:
            reason = err.detail or err.message
            raise RecoveryFailed(
                f"node recovery failed, node id: {self.target.id}", detail=f"{step}: {reason}", hint=err.hint
            ) from None

    # -- steps --------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """As recovery_user, without a limit for what follows."""
        s, main = self.settings, self.main
        if not s.recovery_user:
            raise RecoveryFailed("", detail="recovery_user is not set")
        self.link = self.desk.probe().connect(
            main, s.recovery_user, s.recovery_password, s.recovery_database or "postgres", time.monotonic() + CONNECT_LIMIT
        )
        self.link.channel.deadline = 0.0
        self._query("SET statement_timeout = 0")

    def checkpoint(self) -> None:
        self._query("CHECKPOINT")

    def first_stage(self) -> None:
        self._script("recovery_1st_stage_command", self.settings.recovery_1st_stage_command)

    def second_stage(self) -> None:
        self._script("recovery_2nd_stage_command", self.settings.recovery_2nd_stage_command)

    def _script(self, parameter: str, script: str) -> None:
        if not script:
            self.desk.tell(f"{parameter} is not set, nothing is run")
            return
        target, main = self.target, self.main
        arguments = [
            _literal(script), _literal(target.hostname), _literal(target.data_directory), _literal(str(main.port)),
            str(target.id), _literal(str(target.port)), _literal(main.hostname),
        ]  # fmt: skip
        self._call(f"pgpool_recovery({', '.join(arguments)})", f'script "{script}"')

    def remote_start(self) -> None:
        target = self.target
        arguments = f"{_literal(target.hostname)}, {_literal(target.data_directory)}"
        self._call(f"pgpool_remote_start({arguments})", 'script "pgpool_remote_start"')

    def _call(self, call: str, what: str) -> None:
        """Run a function of the extension. Its script writes to the standard output of the main node's postmaster."""
        place = f"{self.main.hostname}:{self.main.port}"
        hint = f"the output of the script is in the server log of node {self.main.id} ({place})"
        try:
            rows = self._query(f"SELECT {call}")
        except StatementError as err:
            if err.sqlstate == "42883":
                hint = f'CREATE EXTENSION pgpool_recovery in database "{self.settings.recovery_database}" of the main node'
            raise RecoveryFailed("", detail=f"{what}: {err.message}", hint=hint) from None
        if rows != [["t"]]:
            raise RecoveryFailed("", detail=f"{what} did not succeed", hint=hint)

    # -- without the extension ----------------------------------------------------------------------------------------

    def look_at_directory(self) -> None:
        s = self.settings
        [[identifier]] = self._query("SELECT system_identifier FROM pg_catalog.pg_control_system()")
        bindir = self._query("SELECT setting FROM pg_catalog.pg_config() WHERE name = 'BINDIR'")
        password = self.desk.secret(s.recovery_user, s.recovery_password)
        source = recovery_own.Source(
            self.main, s.recovery_user, password, s.recovery_database or "postgres", identifier or "",
            bindir[0][0] or "" if bindir else "",
        )  # fmt: skip
        self.directory = recovery_own.Directory(self.desk, self.target, source)
        self.directory.check()

    def copy(self) -> None:
        assert self.directory is not None
        recovery_own.METHODS[self.settings.recovery_method][1](self.directory)

    def start(self) -> None:
        assert self.directory is not None
        self.directory.start()

    # -- the end of both ways -----------------------------------------------------------------------------------------

    def wait_for_start(self) -> None:
        limit = self.settings.recovery_timeout
        end = time.monotonic() + limit
        while not self._answers():
            if time.monotonic() >= end:
                raise RecoveryFailed("", detail=f"the server does not answer within {limit} s (recovery_timeout)")
            self.desk.pause(PAUSE)

    def attach(self) -> None:
        node = self.target.id
        self.desk.ask_parent(RequestKind.UP, (node,))
        if not self.desk.wait_for(lambda: self.desk.shared.nodes[node].state.usable, FAILBACK_WAIT):
            self.desk.tell(f"node {node} runs, but is not attached yet: see the log of pgpool")

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _answers(self) -> bool:
        """Does the target's postmaster take connections?"""
        return self.desk.probe().status(self.target) == "up"

    def _query(self, sql: str) -> list[list[str | None]]:
        assert self.link is not None
        return simple_query(self.link.channel, sql, self.main.id)

    def _hang_up(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            hang_up(link)


def _literal(value: str) -> str:
    """A text as SQL literal, whatever standard_conforming_strings says."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


_CONNECT = Step("connecting to the main node", _Recovery.connect)
_CHECKPOINT = Step("CHECKPOINT", _Recovery.checkpoint)
_FIRST = Step("recovery_1st_stage_command", _Recovery.first_stage)
_REMOTE_START = Step("pgpool_remote_start", _Recovery.remote_start)
_LOOK = Step("looking at the data directory", _Recovery.look_at_directory)
_START = Step("starting the server", _Recovery.start)
_LAST = (
    Step("waiting for the server", _Recovery.wait_for_start),
    Step("attaching the node", _Recovery.attach),
)

STEPS: dict[ClusterMode, tuple[Step, ...]] = {
    ClusterMode.STREAMING_REPLICATION: (_CONNECT, _CHECKPOINT, _FIRST, _REMOTE_START, *_LAST),
}
"""Mode -> what recovery consists of. Replication modes add a second stage, between the first and the start."""
RECOVERABLE = frozenset(STEPS)


def steps_of(settings: Settings) -> tuple[Step, ...]:
    """The steps by mode and recovery_method."""
    if settings.recovery_method == "script":
        return STEPS[settings.mode]
    words = recovery_own.METHODS[settings.recovery_method][0]
    return _CONNECT, _CHECKPOINT, _LOOK, Step(words, _Recovery.copy), _START, *_LAST
