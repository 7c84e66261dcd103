"""The files of the logging collector: names, rotation, opening (behaviour.md 13)."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

_PASSING = (errno.EMFILE, errno.ENFILE)
"""Troubles with opening a file that go away by themselves."""


def file_name(settings: Any, now: float) -> str:
    """The log file that is begun at ``now``: log_directory (below that of pgpool.conf) and log_filename."""
    return settings.resolve(os.path.join(settings.log_directory, time.strftime(settings.log_filename, time.localtime(now))))


def next_rotation(minutes: int, now: float) -> float:
    """The next multiple of ``minutes`` in local time, as a time stamp; 0.0 when there is no rotation by age."""
    if minutes <= 0:
        return 0.0
    interval = minutes * 60
    offset = time.localtime(now).tm_gmtoff
    local = int(now) + offset
    return float(local - local % interval + interval - offset)


class LogFile:
    """The file that is written now. ``path`` '' before the first ``open``."""

    def __init__(self) -> None:
        self.path = ""
        self.size = 0
        self.fd = -1
        self.due = 0.0
        """When the rotation by age comes; 0.0 never."""
        self.disabled = False
        """A file could not be opened: no rotation until the next reload."""

    def begin(self, settings: Any, now: float) -> None:
        """Open the first file. Raises OSError."""
        self._open(settings, file_name(settings, now), truncate=False)
        self.due = next_rotation(settings.log_rotation_age, now)

    def write(self, data: bytes) -> None:
        """A full disk does not stop anybody: what cannot be written is lost."""
        try:
            while data:
                done = os.write(self.fd, data)
                self.size += done
                data = data[done:]
        except OSError:
            return

    def wants(self, settings: Any, now: float) -> bool:
        """Is it time, by age or size, for another file?"""
        if self.disabled:
            return False
        limit = settings.log_rotation_size * 1024
        return self.is_old(now) or bool(limit and self.size >= limit)

    def is_old(self, now: float) -> bool:
        return bool(self.due) and now >= self.due

    def rotate(self, settings: Any, now: float, by_age: bool) -> str:
        """Go on in the file of ``now``; log_truncate_on_rotation empties one of another name, by age only. Returns what
        went wrong, then the old file stays; '' when nothing did."""
        name = file_name(settings, now)
        trouble = ""
        try:
            self._open(settings, name, truncate=by_age and settings.log_truncate_on_rotation and name != self.path)
        except OSError as err:
            trouble = f'could not open log file "{name}": {err.strerror}'
            self.disabled = err.errno not in _PASSING
        self.due = next_rotation(settings.log_rotation_age, now)
        return trouble

    def reloaded(self, old: Any, new: Any, now: float) -> bool:
        """Settings have changed; should the file be rotated?"""
        moved = (old.log_directory, old.log_filename) != (new.log_directory, new.log_filename)
        if old.log_rotation_age != new.log_rotation_age:
            self.due = next_rotation(new.log_rotation_age, now)
        again, self.disabled = self.disabled, False
        return moved or again

    def _open(self, settings: Any, name: str, truncate: bool) -> None:
        os.makedirs(os.path.dirname(name), 0o700, exist_ok=True)
        umask = os.umask(0)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if truncate else 0)
            fd = os.open(name, flags, settings.log_file_mode | 0o200)
        finally:
            os.umask(umask)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.path, self.size = fd, name, os.fstat(fd).st_size
