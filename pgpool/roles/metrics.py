"""The monitoring endpoint: one process, one thread, all connections in one wait. It serves from shared memory alone."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ProcessExit
from ..system import process, sockets
from ..system.logs import LOG, log
from ..system.sockets import Listener
from ..web import answers
from ..web.http import Exchange
from .loop import Loop

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..shared import Shared
    from .options import Options

WHAT = "metrics process"
MOST_CLIENTS = 32
"""Connections at once; one more ends the one that was silent longest."""
IDLE_LIMIT, REQUEST_LIMIT = 120.0, 5.0
"""Seconds between two requests (Prometheus keeps its connection), and for one request or answer to get through."""
READ_SIZE = 4096
RETRY = 5.0


def metrics_main(settings: Settings, shared: Shared, options: Options, doors: Sequence[Listener]) -> int:
    """The life of the metrics process; returns its exit code. ``doors``: where clients of pgpool knock, to be looked at."""
    process.set_title("pgpool: metrics process")
    log.set_process("metrics", "METRICS")
    worker = Metrics(settings, shared, options, doors)
    log.log(LOG, "process started")
    while True:
        worker.turn()


@dataclass(slots=True)
class Caller:
    """One HTTP connection. ``limit``: when it is closed unless it gets on."""

    exchange: Exchange
    limit: float
    out: bytes = b""
    since: float = field(default_factory=time.monotonic)


class Metrics(Loop):
    title = WHAT

    def __init__(self, settings: Settings, shared: Shared, options: Options, doors: Sequence[Listener]):
        super().__init__(settings, shared, options)
        self.doors = doors
        self.listeners: list[Listener] = []
        self.callers: dict[int, Caller] = {}
        self._open: tuple = ()
        self._again = 0.0
        self.pages = {
            "/metrics": lambda accept: answers.metrics(self.shared, self.settings, self.queues(), accept),
            "/livez": lambda _: answers.live(self.shared),
            "/readyz": lambda _: answers.ready(self.shared, self.settings),
        }

    def queues(self) -> list[tuple[str, int, int]]:
        """(address, clients waiting, limit) of each TCP door of pgpool."""
        found = []
        for door in self.doors:
            queue = sockets.accept_queue(door)
            if queue is not None:
                found.append((door.label, *queue))
        return found

    def turn(self) -> None:
        """Wait for something to happen, and deal with it."""
        self.open_listeners()
        now = time.monotonic()
        for fd, caller in list(self.callers.items()):
            if now >= caller.limit:
                self.close(fd)
        limits = [caller.limit for caller in self.callers.values()] + ([self._again] if self._again else [])
        listening = {listener.fileno(): listener for listener in self.listeners}
        reads = [fd for fd, caller in self.callers.items() if not caller.out]
        writes = [fd for fd, caller in self.callers.items() if caller.out]
        ready = sockets.wait(
            [self.wakeup_fd, *listening, *reads], max(0.0, min(limits) - now) if limits else None, writes
        )
        if self.wakeup_fd in ready:
            self.on_wake()
        for fd in ready:
            if fd in listening:
                self.accept(listening[fd])
            elif fd in self.callers:
                self.serve(fd, self.callers[fd])

    def open_listeners(self) -> None:
        """Listen where the settings say; without a port this process is not needed."""
        settings = self.settings
        if not settings.metrics_port:
            raise ProcessExit(process.EXIT_QUIT, "metrics_port is 0")
        wanted = (settings.metrics_port, *settings.metrics_listen_addresses)
        if wanted == self._open and (not self._again or time.monotonic() < self._again):
            return
        for listener in self.listeners:
            listener.stop()
        self.listeners, self._open, self._again = [], wanted, 0.0
        for host in settings.metrics_listen_addresses:
            try:
                self.listeners += sockets.listen_tcp(host, settings.metrics_port, MOST_CLIENTS)
            except OSError as err:
                self._again = time.monotonic() + RETRY
                log.warning(
                    f"cannot listen for monitoring on {err.filename or host}", detail=err.strerror,
                    hint=f"it is tried again every {RETRY:g} s; see metrics_port and metrics_listen_addresses",
                )  # fmt: skip
        for listener in self.listeners:
            log.log(LOG, f"monitoring endpoint on {listener.label}")

    def accept(self, listener: Listener) -> None:
        try:
            client = sockets.accept(listener)
        except OSError as err:
            log.warning("cannot accept a monitoring client", detail=err.strerror)
            return
        if client is None:
            return
        fd = client[0]
        os.set_blocking(fd, False)
        if len(self.callers) >= MOST_CLIENTS:
            self.close(min(self.callers, key=lambda fd: self.callers[fd].since))
        self.callers[fd] = Caller(Exchange(self.pages), time.monotonic() + REQUEST_LIMIT)

    def serve(self, fd: int, caller: Caller) -> None:
        """Read or write as much as is possible without waiting; one request is answered at a time."""
        try:
            if caller.out:
                self.send(fd, caller)
            else:
                data = os.read(fd, READ_SIZE)
                caller.exchange.receive(data)
                if caller.since + REQUEST_LIMIT < caller.limit:  # it was idle: a request begins
                    caller.limit = time.monotonic() + REQUEST_LIMIT
                self.answer(fd, caller)
        except BlockingIOError:
            return
        except OSError:
            self.close(fd)

    def answer(self, fd: int, caller: Caller) -> None:
        caller.out = caller.exchange.answer()
        if caller.out:
            caller.limit = time.monotonic() + REQUEST_LIMIT
            self.send(fd, caller)
        elif caller.exchange.over:
            self.close(fd)

    def send(self, fd: int, caller: Caller) -> None:
        caller.out = caller.out[os.write(fd, caller.out) :]
        if caller.out:
            return
        if caller.exchange.over:
            self.close(fd)
            return
        caller.since = time.monotonic()
        caller.limit = caller.since + IDLE_LIMIT
        # a request that came along with the last one has its turn after everybody else's
        caller.out = caller.exchange.answer()
        if caller.exchange.over and not caller.out:
            self.close(fd)

    def close(self, fd: int) -> None:
        del self.callers[fd]
        os.close(fd)
