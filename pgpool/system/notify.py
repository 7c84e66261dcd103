"""What a service manager is told: sd_notify(3). It is one datagram of lines to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import os
import time

from pgpool.system.sockets import Datagram


class Notifier:
    """Speaks to the service manager that started this pgpool; without one it says nothing. NOTIFY_SOCKET is taken out
    of the environment: commands that we start have nothing to tell."""

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        self._socket = Datagram(path) if path[:1] in ("/", "@") else None

    def ready(self) -> None:
        """Up and serving. MAINPID tells a manager that started a daemon which process to watch."""
        self._tell("READY=1", f"MAINPID={os.getpid()}", "STATUS=serving")

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it. The time stamp lets the manager tell it from an older one."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={usec}", "STATUS=reading the configuration again")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=shutting down")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            self._socket.send("\n".join(lines).encode())
