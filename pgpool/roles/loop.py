"""What the small workers (sr check, health check) have in common: signals, pauses, reload, requests to the parent."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..backend.probe import Prober
from ..config.settings import Settings
from ..errors import ProcessExit
from ..shared import RequestFlag, RequestKind
from ..system import process, signals, sockets
from ..system.logs import LOG, log
from .reload import read_again, read_passwords

if TYPE_CHECKING:
    from ..shared import Shared
    from .options import Options

_HANDLED = (signals.SIGTERM, signals.SIGINT, signals.SIGQUIT, signals.SIGHUP, signals.SIGUSR1, signals.SIGUSR2)
_END = {signals.SIGTERM, signals.SIGINT, signals.SIGQUIT}


class Loop:
    """One worker process. SIGTERM, SIGINT, SIGQUIT end it (code 0); SIGHUP reloads; SIGUSR1 ends the present pause;
    SIGUSR2 does so too, and sets ``urgent``."""

    def __init__(self, settings: Settings, shared: Shared, options: Options):
        self.settings = settings
        self.shared = shared
        self.options = options
        self._signals = signals.install(_HANDLED)
        self.wakeup_fd = self._signals.wakeup_fd
        self._pause_over = False
        self.urgent = False
        """Somebody wants a check now (SIGUSR2)."""
        self.prober = self._make_prober()

    def on_wake(self) -> None:
        """Called whenever ``wakeup_fd`` is readable. Raises ProcessExit to end this process."""
        arrived = self._signals.drain()
        if arrived & _END:
            raise ProcessExit(process.EXIT_QUIT, f"received {signals.name(min(arrived & _END))}")
        if signals.SIGHUP in arrived:
            log.log(LOG, "reloading config file")
            self.settings = read_again(self.options, self.settings, self.shared, quiet=True)
            self.prober = self._make_prober()
            self._pause_over = True
        if signals.SIGUSR2 in arrived:
            self.urgent = self._pause_over = True
        if signals.SIGUSR1 in arrived:
            log.log(LOG, f"{self.title} received restart request")
            self._pause_over = True

    title = "worker process"

    def _make_prober(self) -> Prober:
        passwords = read_passwords(self.settings, self.options, quiet=True)
        return Prober(self.settings, passwords, self.wakeup_fd, self.on_wake)

    def pause(self, seconds: float | None) -> None:
        """Wait; a reload or SIGUSR1 ends the pause early. None: until then."""
        self._pause_over = self.urgent
        end = None if seconds is None else time.monotonic() + seconds
        while not self._pause_over:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            if sockets.wait([self.wakeup_fd], left):
                self.on_wake()

    def ask_parent(self, kind: RequestKind, node_ids: tuple[int, ...], flags: RequestFlag = RequestFlag.NONE) -> bool:
        """Queue a request and wake the parent; False (logged) when the queue is full."""
        if not self.shared.queue.push(kind, node_ids, flags, os.getpid()):
            log.warning("the request queue of the parent process is full, the request is dropped")
            return False
        parent = self.shared.parent_pid
        log.debug1(f"sending signal:{int(signals.SIGUSR1)} to the parent process with PID:{parent}")
        process.kill(parent, signals.SIGUSR1)
        return True
