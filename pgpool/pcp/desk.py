"""What a PCP worker hands to its commands: the facts, the way to the parent, and waiting that signals can end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..backend.probe import Prober
from ..errors import StatementError
from ..shared import RequestFlag, RequestKind
from ..system import process, signals, sockets
from ..system.logs import LOG, log
from ..wire import pcp
from ..wire.messages import text

if TYPE_CHECKING:
    from ..auth.passwd import PasswordFile
    from ..config.settings import Settings
    from ..shared import Shared

GENERATIONS = {"4.7": pcp.Generation.V4_7, "4.3": pcp.Generation.V4_3}


@dataclass
class Desk:
    """``send`` gives bytes to the client at once; ``woken`` drains the wakeup fd and may raise ProcessExit."""

    settings: Settings
    shared: Shared
    passwords: PasswordFile
    send: Callable[[bytes], None]
    wakeup_fd: int
    woken: Callable[[], None]
    afterwards: Callable[[], None] | None = field(default=None)
    """Done when the reply is out: a shutdown must not overtake it."""
    notices_from: int = 18
    """client_min_messages of this connection, as a number of system/logs.Level."""

    @property
    def generation(self) -> pcp.Generation:
        return GENERATIONS[self.settings.pcp_protocol_version]

    def probe(self) -> Prober:
        return Prober(self.settings, self.passwords, self.wakeup_fd, self.woken)

    def secret(self, user: str, configured: str) -> str:
        """The password of our own session as ``user``: the configured one, decrypted, or that of pool_passwd."""
        password = self.passwords.own(user, configured).password
        return text(password) if password else ""

    def tell(self, message: str) -> None:
        """Progress of a long command: to the log and, as a notice, to the client."""
        log.log(LOG, message)
        if self.notices_from <= 18:
            self.send(pcp.report(b"N", "NOTICE", "00000", message))

    def ask_parent(self, kind: RequestKind, node_ids: tuple[int, ...], flags: RequestFlag = RequestFlag.NONE) -> None:
        """Queue a request about nodes and wake the parent. Raises StatementError when the queue is full."""
        if not self.shared.queue.push(kind, node_ids, flags, os.getpid()):
            raise StatementError(
                "failed to process PCP request at the moment", detail="operation is in progress", sqlstate="55000"
            )
        self.signal_parent(signals.SIGUSR1)

    def signal_parent(self, signum: int) -> None:
        process.kill(self.shared.parent_pid, signum)

    def pause(self, seconds: float) -> None:
        """Wait; signals are looked at meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if sockets.wait([self.wakeup_fd], left):
                self.woken()

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Until the condition holds; False when it did not within ``seconds``."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= end:
                return False
            self.pause(0.05)
        return True
