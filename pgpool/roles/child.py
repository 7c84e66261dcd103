"""A child: one client after another, until it is told to end, grows old, or has served enough (behaviour.md 2)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..auth.hba import Hba
from ..auth.passwd import PasswordFile
from ..backend.pool import Pool
from ..backend.relcache import Relcache
from ..errors import ConfigFaults, ProcessExit
from ..policy.route import RoutingSettings
from ..session import conversation
from ..session.worker import Worker
from ..system import process, signals, tls
from ..system.logs import log
from ..system.sockets import Acceptor, Listener
from .reload import read_again, read_passwords, read_rules

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..shared import Shared
    from .options import Options

from .._fastpath import Door, Guest, Newcomer, Relay, write_title

_HANDLED = (
    signals.SIGTERM, signals.SIGINT, signals.SIGQUIT, signals.SIGHUP, signals.SIGUSR1, signals.SIGUSR2,
    signals.SIGALRM,
)  # fmt: skip
_NOW = {signals.SIGINT, signals.SIGQUIT}
TITLE = "pgpool: "
LAST_WORD = 24
"""Bytes at the end of the title for what the session does: written by the relay in place."""
TITLE_BYTES = 256
"""As much of the title is used."""


class Child:
    """One process, as its parent makes it before the fork; ``live`` is what the forked process does.

    What is made here is shared by all children as long as none of them writes to it: memory that a process fills itself is
    its own, and takes it time at start. The parent makes a new one when what it holds has changed.
    """

    signals: signals.Signals
    acceptor: Acceptor

    def __init__(
        self,
        settings: Settings,
        shared: Shared,
        listeners: Sequence[Listener],
        options: Options,
        rules: Hba | None,
        passwords: PasswordFile,
        routing: RoutingSettings,
    ) -> None:
        self.options = options
        self.listeners = listeners
        self.worker = Worker(
            settings=settings,
            shared=shared,
            relcache=Relcache(settings, shared=shared.facts),
            routing=routing,
            woken=self.woken,
            hba=rules,
            passwords=passwords,
            title=self.title,
        )
        self.title_area = process.title_area()
        self.busy = False
        self.served = 0
        self.idle_from = 0.0

    def live(self, index: int) -> int:
        """The life of the child in place ``index``; returns its exit code."""
        self.be_born(index)
        try:
            while True:
                self.before_client()
                self.serve_next()
        finally:
            self.worker.pool.close()

    def be_born(self, index: int) -> None:
        """What only this process can make for itself."""
        self.signals = signals.install(_HANDLED)
        log.set_process("child", "CHILD")
        self.settle(index, self.signals.wakeup_fd)
        self.title("wait for connection request")

    def rehearse(self, wakeup_fd: int) -> None:
        """In the parent, before the first fork, with no listeners: what all children will do is done here once, so that they
        find in shared pages what Python notes for itself meanwhile (which attributes of which types were looked up)."""
        self.settle(0, wakeup_fd)
        self.before_client()
        self.greet(0.0)
        self.acceptor.close()
        self.worker.cell.clear()

    def settle(self, index: int, wakeup_fd: int) -> None:
        """Take place ``index``; signals make ``wakeup_fd`` readable."""
        worker = self.worker
        shared = worker.shared
        worker.index = index
        worker.wakeup_fd = wakeup_fd
        worker.cell = cell = shared.children[index]
        cell.start(os.getpid(), time.time())
        worker.pool = Pool(cell.slots)
        worker.relay = Relay(cell.hot, shared.header, shared.verdicts, shared.seeds, worker.wakeup_fd)
        self.acceptor = Acceptor(self.listeners, worker.wakeup_fd)
        worker.door = Door(worker.relay, self.acceptor.fileno(), [*cell.orders, *shared.in_the_way])
        if self.title_area is not None:
            worker.door.entitle(self.title_area[0], min(self.title_area[1], TITLE_BYTES))
        self.idle_from = time.monotonic()

    def before_client(self) -> None:
        """Between two clients: what ends this child, or changes it."""
        worker = self.worker
        settings = worker.settings
        if worker.finishing:
            raise ProcessExit(process.EXIT_QUIT, "told to end")
        if worker.cell.leave_ordered:
            self.leave(process.EXIT_QUIT, "one spare child too many")
        if worker.cell.restart_ordered:
            raise ProcessExit(process.EXIT_RESTART, "told to restart when its session is over")
        if settings.child_max_connections and self.served >= settings.child_max_connections:
            raise ProcessExit(process.EXIT_RESTART, f"served {self.served} clients (child_max_connections)")

    def serve_next(self) -> None:
        """Wait for a client, as long as this child may be idle, and serve it."""
        worker = self.worker
        due = worker.pool.expire(worker.settings)
        life = worker.settings.child_life_time
        if life and self.served:
            left = self.idle_from + life - time.monotonic()
            if left <= 0:
                self.leave(process.EXIT_RESTART, f"idle for {life} s (child_life_time)")
            due = left if due is None else min(due, left)
        self.serve(self.greet(due))

    def greet(self, due: float | None) -> Newcomer | Guest | None:
        """The door: wait for somebody who needs Python, at most ``due`` seconds. Guests come and go meanwhile."""
        worker = self.worker
        door = worker.door
        door.tls = tls.server_context(worker.settings)
        before = door.served
        client = door.wait(-1 if due is None else int(due * 1000) + 1)
        if door.served > before:
            self.served += door.served - before
            self.idle_from = max(self.idle_from, door.rested)
            worker.pool.note_guests()
        return client

    def serve(self, client: Newcomer | Guest | None) -> None:
        """One client. Links of other users that are kept here meanwhile go when their time is over."""
        if client is None:
            self.woken()
            return
        self.busy = True
        if isinstance(client, Newcomer):
            self.served += 1
        timed = self.worker.settings.connection_life_time and self.worker.pool.entries
        if timed:
            self.expire_later()
        try:
            conversation.serve(self.worker, client)
        finally:
            if timed:
                signals.alarm(0)
            self.busy = False
            self.idle_from = time.monotonic()

    def expire_later(self) -> None:
        """Close what is idle too long, and be woken when the next one is."""
        due = self.worker.pool.expire(self.worker.settings)
        signals.alarm(0 if due is None else max(due, 0.01))

    def leave(self, code: int, why: str) -> None:
        """Exit; a client of whom the kernel has told only this process is served before."""
        client = self.worker.door.last(self.acceptor.leave())
        if client is not None:
            self.serve(client)
        raise ProcessExit(code, why)

    def woken(self) -> None:
        """Signals that have arrived. Raises ProcessExit for those which end this child now."""
        arrived = self.signals.drain()
        if not arrived:
            return
        if arrived & _NOW or process.parent_is_gone():
            raise ProcessExit(process.EXIT_QUIT, "told to end at once")
        worker = self.worker
        if signals.SIGTERM in arrived:
            worker.finishing = True
            if not self.busy:
                self.leave(process.EXIT_QUIT, "told to end")
        if signals.SIGUSR1 in arrived:
            worker.pool.close_idle()
        if signals.SIGALRM in arrived:
            if worker.cell.pool_in_use is None:
                signals.alarm(1.0)  # a session begins, with one of the links perhaps: not now
            else:
                self.expire_later()
        if signals.SIGHUP in arrived:
            self.reload()

    def reload(self) -> None:
        worker = self.worker
        worker.settings = read_again(self.options, worker.settings, worker.shared, quiet=True)
        worker.routing = RoutingSettings.of(worker.settings)
        worker.forget_nodes()
        worker.door.rules += 1
        worker.passwords = read_passwords(worker.settings, self.options, quiet=True)
        try:
            worker.hba = read_rules(worker.settings, self.options, worker.hba, quiet=True)
        except ConfigFaults:
            worker.hba = None  # pool_hba was just switched on with a faulty file: nobody comes in

    def title(self, text: str) -> None:
        """Set the process title. During a session (text ends in ``idle``) its last word is left to the relay."""
        relay = self.worker.relay
        relay.set_title(0, 0)
        if self.title_area is None:
            process.set_title(TITLE + text)
            return
        address, size = self.title_area
        size = min(size, TITLE_BYTES)
        raw = (TITLE + text).encode("utf-8", "replace")[: size - LAST_WORD]
        write_title(address, size, raw)
        if text.endswith(" idle"):
            relay.set_title(address + len(raw) - len("idle"), LAST_WORD)
