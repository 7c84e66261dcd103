"""Signals: handlers only wake the process, through a pipe that its waits include; nothing is decided in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

# Those which the kernel raises for a fault of the program itself must never be held back.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT}
_BLOCKABLE = signal.valid_signals() - _FAULTS - {SIGKILL, SIGSTOP}
_DRAIN_SIZE = 4096

_current: Signals | None = None


class Signals:
    """The signals a process listens to. ``wakeup_fd`` is readable while ``drain`` has something to tell.

    C code may poll ``wakeup_fd`` without holding the GIL; it must leave the bytes in it to ``drain``.
    """

    def __init__(self, handled: Iterable[int], ignored: Iterable[int]):
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wakeup_fd = read_fd
        self._write_fd = write_fd
        self.handled = frozenset(signal.Signals(number) for number in handled)
        self.ignored = frozenset(signal.Signals(number) for number in ignored)

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
        """Undo ``install``: default handlers, no wakeup pipe (tests, and the child after a fork)."""
        global _current
        signal.set_wakeup_fd(-1)
        for number in self.handled | self.ignored:
            signal.signal(number, signal.SIG_DFL)
        os.close(self.wakeup_fd)
        os.close(self._write_fd)
        if _current is self:
            _current = None


def install(handled: Iterable[int], ignored: Iterable[int] = (SIGPIPE,)) -> Signals:
    """Listen to the ``handled`` signals, ignore ``ignored``, then let all signals in (what fork blocked ends here).

    The pipe is made before the first handler, so a signal that has waited since the fork finds a place to be noted.
    A process installs once; a second call replaces the first.
    """
    global _current
    if _current is not None:
        _current.close()
    signals = Signals(handled, ignored)
    signal.set_wakeup_fd(signals._write_fd, warn_on_full_buffer=False)
    for number in signals.handled:
        signal.signal(number, _note_nothing)
    for number in signals.ignored:
        signal.signal(number, signal.SIG_IGN)
    _current = signals
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKABLE)
    return signals


@contextmanager
def blocked() -> Iterator[None]:
    """No signal is delivered inside; they wait for the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKABLE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_in_child() -> None:
    """In a forked child, signals still blocked: forget the parent's handlers and pipe (a wakeup fd survives fork)."""
    if _current is not None:
        _current.close()
    signal.set_wakeup_fd(-1)
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
