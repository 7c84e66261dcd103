"""Clients that do nothing: client_idle_limit, and its stricter brother during online recovery (behaviour.md 2, 14)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pgpool.session.state import Session, SessionOver
from pgpool.wire import messages

SECOND_STAGE = 2
"""Of online recovery: the backends must come to rest."""


@dataclass(frozen=True, slots=True)
class IdleLimit:
    """``seconds`` 0: none; below 0: at once. ``name``: the parameter."""

    seconds: int
    name: str

    def left(self, session: Session) -> int:
        """Milliseconds the client may go on doing nothing, for Relay.run: at least 1; 0 for "at once", -1 for ever.

        The time of the last request counts, not that of the last look: signals wake a session, and change nothing.
        """
        if self.seconds <= 0:
            return 0 if self.seconds else -1
        return max(1, int((self.seconds - self._idle(session)) * 1000) + 1)

    def end(self, session: Session) -> None:
        """The relay found nothing to do: raises SessionOver when that is so for long enough."""
        if self.seconds > 0 and self._idle(session) < self.seconds:
            return  # a request came and went meanwhile
        message, detail = "connection terminated due to online recovery", ""
        if self.seconds > 0:
            message = "unable to read data"
            detail = f"child connection forced to terminate due to {self.name}:{self.seconds} is reached"
        session.relay.reply(messages.error_response("DEBUG", "57000", message, detail))
        raise SessionOver(detail or message)

    def _idle(self, session: Session) -> float:
        """Seconds since the last request was done; a clock that was set back or forth makes nobody idle for longer."""
        return min(session.worker.cell.quiet_for(), time.monotonic() - session.began)


def limit(session: Session) -> IdleLimit:
    """What holds for a session now."""
    settings = session.settings
    if session.worker.shared.recovery_stage == SECOND_STAGE:
        return IdleLimit(settings.client_idle_limit_in_recovery, "client_idle_limit_in_recovery")
    return IdleLimit(settings.client_idle_limit, "client_idle_limit")
