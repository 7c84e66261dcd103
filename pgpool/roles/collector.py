"""The parent's side of the logging collector: the pipe, the logger process, and another one when it dies."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..errors import PgpoolError
from ..system import process
from ..system.logfiles import LogFile
from ..system.logpipe import open_pipe
from ..system.logs import LOG, log
from .logger import logger_main
from .nursery import BootGuard

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .options import Options

LAST_WORDS = 3.0
"""Seconds the parent waits at its end until the logger has written everything."""


class Collector:
    """Off: every call does nothing. On: stdout and stderr of all processes are the pipe."""

    def __init__(self, settings: Settings, options: Options) -> None:
        """Opens the first file. Raises PgpoolError (FATAL)."""
        self.on = settings.logging_collector
        self.pid = 0
        self._options = options
        self._guard = BootGuard()
        self._born = 0.0
        if not self.on:
            return
        self._file = LogFile()
        try:
            self._file.begin(settings, time.time())
        except OSError as err:
            raise PgpoolError(
                f'could not open log file in directory "{settings.log_directory}"',
                detail=f"{err.filename}: {err.strerror}", hint="check log_directory and log_filename", severity="FATAL",
            ) from None  # fmt: skip

    def begin(self, settings: Settings) -> None:
        """Before anything else is forked: from now on nothing goes to the terminal."""
        if not self.on:
            return
        self._read_fd, self._writer, self._write_fd, self._impatient_fd = open_pipe()
        process.parent_only.update((self._read_fd, self._impatient_fd))
        directory = settings.resolve(settings.log_directory)
        log.log(
            LOG,
            "redirecting log output to logging collector process",
            hint=f'Future log output will appear in directory "{directory}".',
        )
        process.freeze()  # before it does so for the children: else the logger keeps a copy of everything to itself
        self._fork(settings)
        for stream in (1, 2):
            os.dup2(self._write_fd, stream)
        log.to(self._writer)
        os.close(self._file.fd)
        self._file.fd = -1

    def tick(self, settings: Settings) -> None:
        """Replace a logger that has died; write what had to wait for it."""
        if not self.on:
            return
        if not self.pid and time.monotonic() >= self._guard.not_before:
            self._fork(settings)
            log.log(LOG, f"fork a new logger process with pid: {self.pid}")
        self._writer.flush()

    def next_due(self) -> float | None:
        """When ``tick`` has something to do, on the monotonic clock."""
        return self._guard.not_before if self.on and not self.pid else None

    def buried(self, pid: int, code: int) -> None:
        """A process that is in no place of the nursery has ended: is it ours?"""
        if not pid or pid != self.pid:
            return
        self.pid = 0
        now = time.monotonic()
        self._guard.note(now - self._born, False, now)
        log.log(LOG, f"logger process with pid: {pid} ended ({code}), it is replaced")

    def send(self, signum: int) -> None:
        if self.pid:
            process.kill(self.pid, signum)

    def end(self) -> None:
        """Let go of the pipe, and give the logger time to write its end. The log is stderr again, which is nowhere."""
        if not self.on or not self.pid:
            return
        self._writer.drain(LAST_WORDS)
        log.to(None)
        null = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):
            os.dup2(null, fd)
        for fd in (self._write_fd, self._impatient_fd, self._read_fd, null):
            os.close(fd)
        until = time.monotonic() + LAST_WORDS
        while time.monotonic() < until and self.pid not in [pid for pid, _ in process.reap()]:
            process.sleep(0.01)

    def _fork(self, settings: Settings) -> None:
        self._born = time.monotonic()
        read_fd = os.dup(self._read_fd)  # the one that every other child closes
        self.pid = process.fork(self._live, settings, read_fd)
        os.close(read_fd)

    def _live(self, settings: Settings, read_fd: int) -> int:
        """In the logger: it must not hold the pipe open that it waits for the end of."""
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.close(self._write_fd)
        return logger_main(settings, self._options, read_fd, self._file)
