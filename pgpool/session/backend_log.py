"""log_backend_messages: what backends say, message by message (behaviour.md 13)."""

from __future__ import annotations

from pgpool._fastpath import Relay, listen_to, take_heard
from pgpool.system.logs import LOG, log

NAMES = {
    "R": "Authentication", "K": "BackendKeyData", "2": "BindComplete", "3": "CloseComplete", "C": "CommandComplete",
    "d": "CopyData", "c": "CopyDone", "G": "CopyInResponse", "H": "CopyOutResponse", "W": "CopyBothResponse", "D": "DataRow",
    "I": "EmptyQueryResponse", "E": "ErrorResponse", "V": "FunctionCallResponse", "n": "NoData", "N": "NoticeResponse",
    "A": "NotificationResponse", "t": "ParameterDescription", "S": "ParameterStatus", "1": "ParseComplete",
    "s": "PortalSuspended", "Z": "ReadyForQuery", "T": "RowDescription",
}  # fmt: skip


class BackendLog:
    """One session's. terse: a message that is repeated is logged once, and how often when another one comes."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._mode = "none"
        self._last: tuple[int, str] | None = None
        self._repeated = 0

    def watch(self, mode: str) -> None:
        """none, terse or verbose, from now on."""
        if mode != self._mode:
            self.finish()
        self._mode = mode
        listen_to(self._relay, mode != "none")

    def drain(self) -> None:
        """Log what was heard since the last time."""
        for node, kind, count in take_heard(self._relay):
            text = f"{NAMES.get(kind, kind)} message from backend {node}"
            if self._mode == "verbose":
                for _ in range(count):
                    log.log(LOG, text)
            elif (node, kind) == self._last:
                self._repeated += count
            else:
                self._tell_repeats()
                log.log(LOG, text)
                self._last, self._repeated = (node, kind), count - 1

    def finish(self) -> None:
        """The session ends, or another mode begins."""
        if self._mode != "none":
            self.drain()
            self._tell_repeats()
        self._last = None

    def _tell_repeats(self) -> None:
        if self._last is not None and self._repeated:
            node, kind = self._last
            log.log(LOG, f"last {NAMES.get(kind, kind)} message from backend {node} repeated {self._repeated} times")
        self._repeated = 0
