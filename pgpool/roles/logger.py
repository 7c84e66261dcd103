"""The logger: reads what all processes say through one pipe, writes it to files, and begins new ones (behaviour.md 13)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..errors import ProcessExit
from ..system import process, signals, sockets
from ..system.logfiles import LogFile
from ..system.logpipe import Assembler
from ..system.logs import DEBUG1, LOG, iso_time, json_line, log
from .reload import read_again

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .options import Options

_HANDLED = (signals.SIGHUP, signals.SIGUSR1)
_IGNORED = (signals.SIGTERM, signals.SIGINT, signals.SIGQUIT, signals.SIGUSR2, signals.SIGPIPE)
"""It outlives everybody who may still have something to say, and ends with the pipe."""
_READ = 1 << 16
_PLAIN_MOST = 1 << 16
"""Bytes of a plain text line without end that are kept (log_format = json)."""


def logger_main(settings: Settings, options: Options, read_fd: int, file: LogFile) -> int:
    """The life of the logger. ``file``: opened by the parent, or not yet when this logger replaces another one."""
    process.set_title("PgpoolLogger")
    log.set_process("logger", "LOGGER")
    log.to(file.write)
    return Logger(settings, options, read_fd, file).live()


class Logger:
    def __init__(self, settings: Settings, options: Options, read_fd: int, file: LogFile) -> None:
        self.settings = settings
        self.options = options
        self.read_fd = read_fd
        self.file = file
        self.signals = signals.install(_HANDLED, _IGNORED)
        self.assembler = Assembler()
        self.asked = False
        """A rotation was asked for."""
        self._plain = b""
        if file.fd < 0:
            try:
                file.begin(settings, time.time())
            except OSError as err:
                raise ProcessExit(process.EXIT_RESTART, f"could not open a log file: {err}") from None

    def live(self) -> int:
        while True:
            now = time.time()
            # a short nap at least: the clock may be set, and the names of the files depend on it
            left = min(max(self.file.due - now, 0.0), 60.0) if self.file.due and not self.file.disabled else None
            ready = sockets.wait([self.signals.wakeup_fd, self.read_fd], left)
            if self.signals.wakeup_fd in ready:
                self.take_signals()
            if self.read_fd in ready and not self.read():
                return process.EXIT_QUIT
            now = time.time()
            if self.asked or self.file.wants(self.settings, now):
                self.rotate(now)

    def take_signals(self) -> None:
        arrived = self.signals.drain()
        if signals.SIGUSR1 in arrived:
            self.asked = True
        if signals.SIGHUP in arrived:
            old = self.settings
            self.settings = read_again(self.options, old, quiet=True)
            log.log(LOG, "reloading config file")
            if self.file.reloaded(old, self.settings, time.time()):
                self.asked = True

    def rotate(self, now: float) -> None:
        by_age = not self.asked and self.file.is_old(now)
        self.asked = False
        trouble = self.file.rotate(self.settings, now, by_age)
        if trouble:
            log.log(LOG, trouble)
            if self.file.disabled:
                log.log(LOG, "disabling automatic rotation (use SIGHUP to re-enable)")
        else:
            log.log(DEBUG1, f"writing to log file {self.file.path}")

    def read(self) -> bool:
        """Take what is in the pipe; False at its end."""
        data = os.read(self.read_fd, _READ)
        if not data:
            self.write(self.assembler.flush())
            if self._plain:
                self.write_plain(b"\n")
            return False
        self.write(self.assembler.feed(data))
        return True

    def write(self, pieces: list[tuple[bool, bytes]]) -> None:
        """Records as they are; plain text too, unless every line has to be an object."""
        whole: list[bytes] = []
        for is_record, text in pieces:
            if is_record or self.settings.log_format != "json":
                whole.append(text)
                continue
            self.file.write(b"".join(whole))
            whole.clear()
            self.write_plain(text)
        self.file.write(b"".join(whole))

    def write_plain(self, text: bytes) -> None:
        """Lines of a program that writes to our stderr, as objects."""
        *lines, self._plain = (self._plain + text).split(b"\n")
        if len(self._plain) > _PLAIN_MOST:
            lines.append(self._plain)
            self._plain = b""
        stamp = iso_time(time.time())
        for line in lines:
            if line.strip():
                message = line.decode("utf-8", "replace")
                self.file.write(json_line({"timestamp": stamp, "backend_type": "stderr", "message": message}))
