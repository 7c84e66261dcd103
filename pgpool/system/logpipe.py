"""The pipe to the logger process: records cut into chunks that the kernel never mixes, and put together again.

A chunk is two NULs, its size, the writer's pid, a last-chunk mark, and the bytes: at most 4096 in all, which a pipe takes in
one piece (PIPE_BUF). What does not begin so is plain text of a program that shares our stderr, and passes through.
"""

from __future__ import annotations

import os
import struct
import time
from collections import deque

CHUNK = 4096
"""PIPE_BUF on Linux."""
HEADER = struct.Struct("=HHIB")
MOST = CHUNK - HEADER.size
RECORD_MOST = 1 << 20
"""Bytes of one unfinished record that are kept; a longer one is written in parts."""
BACKLOG_MOST = 2000
"""Chunks an impatient writer keeps while nobody reads."""


def chunks(pid: int, record: bytes) -> list[bytes]:
    """One record as chunks; the last one is marked."""
    pieces = [record[at : at + MOST] for at in range(0, len(record), MOST)] or [b""]
    last = len(pieces) - 1
    return [HEADER.pack(0, len(piece), pid, number == last) + piece for number, piece in enumerate(pieces)]


class Assembler:
    """Bytes from the pipe -> whole records and plain text, in the order in which they became whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[int, bytearray] = {}

    def feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        """(is a record, its bytes) for everything that is whole now."""
        data = self._rest + data
        done: list[tuple[bool, bytes]] = []
        at, end = 0, len(data)
        while at < end:
            if end - at >= HEADER.size:
                zero, size, pid, last = HEADER.unpack_from(data, at)
                if zero == 0 and 0 < size <= MOST and pid and last <= 1:
                    if end - at < HEADER.size + size:
                        break
                    at += HEADER.size
                    self._add(pid, data[at : at + size], bool(last), done)
                    at += size
                    continue
            elif data[at] == 0:
                break  # the begin of a header, perhaps
            stop = data.find(b"\0\0", at + 1)
            stop = stop if stop >= 0 else end - 1 if data[end - 1] == 0 and end - 1 > at else end
            if text := data[at:stop].replace(b"\0", b""):
                done.append((False, text))
            at = stop
        self._rest = data[at:]
        return done

    def flush(self) -> list[tuple[bool, bytes]]:
        """What is left at the end of the pipe."""
        done = [(True, bytes(part)) for part in self._open.values() if part]
        if text := self._rest.replace(b"\0", b""):
            done.append((False, text))
        self._open.clear()
        self._rest = b""
        return done

    def _add(self, pid: int, piece: bytes, last: bool, done: list[tuple[bool, bytes]]) -> None:
        part = self._open.pop(pid, None)
        if last and part is None:
            done.append((True, piece))
            return
        part = part if part is not None else bytearray()
        part += piece
        if last or len(part) > RECORD_MOST:
            done.append((True, bytes(part)))
        else:
            self._open[pid] = part


class PipeWriter:
    """Writes records to the pipe. While nobody reads, a patient writer (``owner`` is another process) waits, and loses
    nothing; the owner, who must replace a dead logger, never waits: it keeps what does not fit and tries again later.
    """

    def __init__(self, fd: int, impatient_fd: int) -> None:
        self._fd = fd
        self._impatient_fd = impatient_fd
        """The same pipe, opened a second time, non-blocking."""
        self._owner = os.getpid()
        self._backlog: deque[bytes] = deque(maxlen=BACKLOG_MOST)

    def __call__(self, record: bytes) -> None:
        pid = os.getpid()
        if pid == self._owner:
            self._backlog.extend(chunks(pid, record))
            self.flush()
            return
        try:
            for chunk in chunks(pid, record):
                os.write(self._fd, chunk)
        except OSError:
            return  # nobody will ever read it: the parent is gone

    def flush(self) -> None:
        """Write what was kept, as far as it fits now. Only for the owner."""
        try:
            while self._backlog:
                os.write(self._impatient_fd, self._backlog[0])
                self._backlog.popleft()
        except OSError:
            return

    def drain(self, seconds: float) -> None:
        """``flush``, again and again for that long."""
        end = time.monotonic() + seconds
        self.flush()
        while self._backlog and time.monotonic() < end:
            time.sleep(0.01)
            self.flush()


def open_pipe() -> tuple[int, PipeWriter, int, int]:
    """(read end, writer, its blocking fd, its non-blocking fd), none of them inherited by programs."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    impatient_fd = os.open(f"/proc/self/fd/{write_fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return read_fd, PipeWriter(write_fd, impatient_fd), write_fd, impatient_fd
