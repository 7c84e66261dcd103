"""Signals: handlers only wake the process, through a pipe that its waits include; nothing is decided in them."""

from __future__ import annotations

import _signal
import os
import signal
from collections.abc import Iterable
from signal import (  # noqa: F401  (the numbers are part of this door)
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGQUIT,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
)
from typing import Any

from pgpool._fastpath import let_signals_in

_DRAIN_SIZE = 4096

_current: Signals | None = None
_handlers: dict[int, Any] = {}
"""What was set here or in the process that this one was forked from, by number; no other signal has been touched."""


class Signals:
    """The signals a process listens to. ``wakeup_fd`` is readable while ``drain`` has something to tell.

    C code may poll ``wakeup_fd`` without holding the GIL; it must leave the bytes in it to ``drain``.
    """

    def __init__(self) -> None:
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wakeup_fd = read_fd
        self._write_fd = write_fd

    def drain(self) -> set[int]:
        """The signals which arrived since the last call; empties the pipe."""
        seen: set[int] = set()
        while True:
            try:
                data = os.read(self.wakeup_fd, _DRAIN_SIZE)
            except BlockingIOError:
                return seen
            seen.update(data)
            if len(data) < _DRAIN_SIZE:
                return seen

    def close(self) -> None:
        """Undo ``install``: default handlers, no wakeup pipe (tests)."""
        _set_handlers({})
        self._forget()

    def _forget(self) -> None:
        """No wakeup pipe."""
        global _current
        signal.set_wakeup_fd(-1)
        os.close(self.wakeup_fd)
        os.close(self._write_fd)
        if _current is self:
            _current = None


def _set_handlers(handlers: dict[int, Any]) -> None:
    """Let these be the handlers. Only what differs is set, and in plain numbers without the enumerations of ``signal``:
    most of it a child has from its parent, and all that Python touches in a child is private memory from then on."""
    global _handlers
    for number in _handlers.keys() - handlers.keys():
        _signal.signal(number, _signal.SIG_DFL)
    for number, handler in handlers.items():
        if _handlers.get(number) is not handler:
            _signal.signal(number, handler)
    _handlers = handlers


def install(handled: Iterable[int], ignored: Iterable[int] = (SIGPIPE,)) -> Signals:
    """Listen to the ``handled`` signals, ignore ``ignored``, then let all signals in (what fork blocked ends here).

    The pipe is made before the first handler, so a signal that has waited since the fork finds a place to be noted.
    A process installs once; a second call replaces the first.
    """
    global _current
    if _current is not None:
        _current._forget()
    signals = Signals()
    signal.set_wakeup_fd(signals._write_fd, warn_on_full_buffer=False)
    _set_handlers(dict.fromkeys(map(int, handled), _note_nothing) | dict.fromkeys(map(int, ignored), _signal.SIG_IGN))
    _current = signals
    let_signals_in()
    return signals


def reset_in_child() -> None:
    """In a forked child: forget the parent's pipe (a wakeup fd survives fork). Signals stay blocked until ``install``, so
    its handlers do nothing; that of Python for SIGINT goes too."""
    if _current is not None:
        _current._forget()
    if SIGINT not in _handlers:
        signal.signal(SIGINT, signal.SIG_DFL)


def alarm(seconds: float) -> None:
    """SIGALRM after so long, instead of an earlier request; 0 for never."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def name(number: int) -> str:
    """``SIGTERM`` for 15; the number as text when it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _note_nothing(number: int, frame: object) -> None:
    """The C half of the handler has written the number into the pipe; there is nothing left to do."""
