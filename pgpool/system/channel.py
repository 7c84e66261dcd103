"""A byte channel over one connected socket, for start-up, login and our own queries; afterwards the relay takes the fd.

Works on a raw file descriptor, blocking or not: it is waited for only when nothing is there, and written in pieces that
fit. One system call for what has arrived already, one per send. Errors are named by what happened; the caller knows which
side it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .._fastpath import Tls, TlsContext, TlsError, await_fd, hear
from ..errors import PgpoolError

READ_SIZE = 8192
MAX_LOGIN_MESSAGE = 65535
"""Longest message taken from a client before it is authenticated: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH."""
LONGEST_WAIT = 1 << 30
"""Milliseconds; then the deadline is looked at again."""
SAFE_BURST = 4096
"""So many bytes fit into any fresh socket's send buffer (Linux: at least 4608): no need to ask first."""


class ChannelError(PgpoolError):
    """The channel is of no more use."""


class ChannelClosed(ChannelError):
    """End of file or a broken connection. ``clean``: nothing of an unfinished message was lost."""

    def __init__(self, message: str, clean: bool = False):
        super().__init__(message)
        self.clean = clean


class ChannelTimeout(ChannelError):
    """The deadline passed."""


class ChannelFraming(ChannelError):
    """The peer announced a length that no message of its kind may have."""


class ChannelTls(ChannelError):
    """The handshake, or a record, is not as it must be."""


class UnexpectedMessage(ChannelError):
    """The peer began a message that may not come now; ``kind`` is its type byte."""

    def __init__(self, kind: int):
        super().__init__(f"unexpected message type {kind}")
        self.kind = kind


class Channel:
    """``deadline`` is on time.monotonic()'s clock, 0 = none. ``on_wake()`` is called when ``wakeup_fd`` becomes
    readable during a wait: it must drain it, and may raise to end the wait. ``pending`` holds bytes read and not yet
    consumed: whoever takes the fd over takes these first.
    """

    __slots__ = ("_on_wake", "_sent", "_wakeup_fd", "answered", "deadline", "fd", "midway", "pending", "tls")

    def __init__(
        self, fd: int, *, deadline: float = 0.0, wakeup_fd: int = -1, on_wake: Callable[[], None] | None = None
    ) -> None:
        self.fd = fd
        self.deadline = deadline
        self.pending = b""
        self.tls: Tls | None = None
        self.midway = False
        """The peer has got a part of a message whose rest will never come: it would take anything else for that."""
        self.answered = False
        """A message was read: the peer was asked something, or said something by itself."""
        self._wakeup_fd = wakeup_fd
        self._on_wake = on_wake
        self._sent = 0

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """Closes the fd, once."""
        fd, self.fd = self.fd, -1
        if self.tls is not None and fd >= 0:
            self.tls.goodbye()
        if fd >= 0:
            os.close(fd)

    def take_pending(self) -> bytes:
        """The bytes read beyond what was consumed; the channel forgets them."""
        pending, self.pending = self.pending, b""
        return pending

    def sibling(self, fd: int) -> Channel:
        """A channel over another fd that wakes up for the same reasons, until the same deadline."""
        return Channel(fd, deadline=self.deadline, wakeup_fd=self._wakeup_fd, on_wake=self._on_wake)

    def secure(self, context: TlsContext, *, host: str = "", sni: str = "") -> None:
        """Goes over to TLS; ``pending`` bytes belong to the handshake. ``host``, ``sni``: as _fastpath.Tls has them.

        Raises ChannelTls, ChannelClosed, ChannelTimeout.
        """
        try:
            tls = Tls(context, self.fd, self.take_pending(), host=host, sni=sni)
        except TlsError as error:
            raise ChannelTls(f"SSL error: {error}") from None
        self.shake(tls)

    def shake(self, tls: Tls) -> None:
        """Goes on with a handshake to its end; raises as ``secure``."""
        try:
            while not tls.handshake():
                self._wait(write=tls.unsent)
        except TlsError as error:
            raise ChannelTls(f"SSL error: {error}") from None
        except EOFError as error:
            raise ChannelClosed(str(error)) from None
        self.tls = tls

    # ------------------------------------------------------------ reading

    def peek(self) -> int:
        """The next byte, which stays."""
        while not self.pending:
            self._fill()
        return self.pending[0]

    def read_byte(self) -> bytes:
        """The next byte; what came behind it is in ``pending``."""
        self.peek()
        byte, self.pending = self.pending[:1], self.pending[1:]
        return byte

    def read_startup(self, limit: int) -> bytes:
        """The first packet of a connection without its length word; ``limit`` caps it in bytes, length word included.

        Raises ChannelFraming for an impossible length, ChannelClosed, ChannelTimeout.
        """
        while len(self.pending) < 4:
            self._fill()
        size = int.from_bytes(self.pending[:4], "big")
        if not 8 <= size <= limit:
            raise ChannelFraming("invalid length of startup packet")
        while len(self.pending) < size:
            self._fill()
        packet = self.pending[4:size]
        self.pending = self.pending[size:]
        return packet

    def read_message(self, limit: int = MAX_LOGIN_MESSAGE, expect: bytes = b"") -> tuple[bytes, bytes]:
        """The next message as (type byte, payload). ``limit`` caps the payload in bytes; beyond: ChannelFraming.

        ``expect``: the type bytes that may come; another one raises UnexpectedMessage before its length is looked at.
        """
        self.answered = True
        while not self.pending:
            self._fill()
        pending = self.pending
        if expect and pending[0] not in expect:
            raise UnexpectedMessage(pending[0])
        while len(pending) < 5:
            self._fill()
            pending = self.pending
        size = int.from_bytes(pending[1:5], "big")
        if size < 4 or size - 4 > limit:
            raise ChannelFraming("invalid message length")
        end = size + 1
        while len(pending) < end:
            self._fill()
            pending = self.pending
        self.pending = pending[end:]
        return pending[:1], pending[5:end]

    def _fill(self) -> None:
        """Waits for bytes and appends them to ``pending``."""
        tls = self.tls
        try:
            while (data := hear(self.fd) if tls is None else tls.recv(READ_SIZE)) is None:
                self._wait()
        except TlsError as error:
            raise ChannelTls(f"SSL error: {error}") from None
        except OSError as error:
            raise ChannelClosed(error.strerror or "connection broken") from None
        if not data:
            raise ChannelClosed("unexpected EOF", clean=not self.pending)
        self.pending += data

    # ------------------------------------------------------------ writing

    def send(self, data: bytes) -> None:
        """Sends all of ``data``; raises ChannelClosed or ChannelTimeout."""
        if self.tls is not None:
            self._send_tls(self.tls, data)
            return
        view = memoryview(data)
        while view:
            if self._sent + len(view) > SAFE_BURST:
                self._wait(write=True)
            try:
                # more than a burst could block in the kernel, out of reach of deadline and wakeup
                count = os.write(self.fd, view[:SAFE_BURST])
            except BlockingIOError:
                self._sent = SAFE_BURST
                continue
            except OSError as error:
                raise ChannelClosed(error.strerror or "connection broken") from None
            self._sent += count
            view = view[count:]

    def _send_tls(self, tls: Tls, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view or tls.unsent:
                view = view[tls.send(view) :]
                if tls.unsent:
                    self._wait(write=True)
                    tls.push()
        except TlsError as error:
            raise ChannelClosed(str(error)) from None

    def _wait(self, write: bool = False) -> None:
        """Until the fd can be read, or written (or is broken: then the read or write says so)."""
        wakeup = self._wakeup_fd
        while True:
            timeout = -1
            if self.deadline:
                left = self.deadline - time.monotonic()
                if left <= 0:
                    raise ChannelTimeout("timeout expired")
                timeout = min(int(left * 1000) + 1, LONGEST_WAIT)
            ready = await_fd(self.fd, write, wakeup, timeout)
            if ready & 2 and self._on_wake is not None:
                self._on_wake()
            if ready & 1:
                return
