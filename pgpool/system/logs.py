"""The server log: PostgreSQL's levels, prefix and layout, one write(2) per record; to stderr, syslog, or both."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from pgpool.errors import PgpoolError
from pgpool.system.hidden import without_passwords
from pgpool.system.syslog import Syslog


class Level(IntEnum):
    """Message levels, numbered as log_min_messages is (parameters.tsv); ``rank`` gives the order of the server log."""

    DEBUG5 = 10
    DEBUG4 = 11
    DEBUG3 = 12
    DEBUG2 = 13
    DEBUG1 = 14
    LOG = 15
    INFO = 17
    NOTICE = 18
    WARNING = 19
    ERROR = 20
    FATAL = 21
    PANIC = 22


DEBUG5, DEBUG4, DEBUG3, DEBUG2, DEBUG1 = Level.DEBUG5, Level.DEBUG4, Level.DEBUG3, Level.DEBUG2, Level.DEBUG1
INFO, NOTICE, WARNING, ERROR, LOG, FATAL, PANIC = (
    Level.INFO, Level.NOTICE, Level.WARNING, Level.ERROR, Level.LOG, Level.FATAL, Level.PANIC
)  # fmt: skip

Echo = tuple[Level, str, str, str]
"""A record for the client: level, message, detail, hint."""

# In the server log LOG ranks between ERROR and FATAL, so that log_min_messages = error still shows it.
_RANK = {level: int(level) * 2 for level in Level} | {Level.LOG: int(Level.ERROR) * 2 + 1}
_NO_CONNECTION = "[No Connection]"
_UNKNOWN = "[unknown]"
_ESCAPE = re.compile(r"%(-?\d*)(.?)", re.DOTALL)
_STDERR_FD = 2


def level_named(name: str) -> Level:
    """The level a configuration value names, in any case; ``debug`` means debug2. KeyError when unknown."""
    upper = name.upper()
    return Level["DEBUG2" if upper == "DEBUG" else upper]


def rank(level: Level) -> int:
    """The place of ``level`` in the order of the server log; higher is more urgent."""
    return _RANK[level]


class Log:
    """The log of this process. One instance, ``log``, is shared by all rooms."""

    def __init__(self) -> None:
        self.application = "main"
        """%a outside of a session."""
        self.process_name = "MAIN"
        """%P."""
        self._debug_forced = False
        self._threshold = _RANK[Level.WARNING]
        self._verbosity = "default"
        self._prefix: list[str | tuple[int, Callable[[Log], str]]] = []
        self._in_session = False
        self._user = self._database = self._client_application = ""
        self._line = 0
        self._line_pid = 0
        self._now = 0.0
        self._second = -1
        self._second_text = ""
        self._session_id = ""
        self._json = False
        self._stderr: Callable[[bytes], None] | None = _write_all
        self._sink: Callable[[bytes], None] = _write_all
        self._syslog: Syslog | None = None
        self._echo: list[Echo] | None = None
        self._echo_from = Level.PANIC
        self._set_prefix("%m: %a pid %p: ")

    # -- set-up -------------------------------------------------------------------------------------------------------

    def configure(self, settings: Any, *, debug: bool = False) -> None:
        """Take over the settings of the log; ``debug`` (option -d) stays for good."""
        self._debug_forced = self._debug_forced or debug
        threshold = _RANK[level_named(settings.log_min_messages)]
        if self._debug_forced:
            threshold = min(threshold, _RANK[Level.DEBUG1])
        self._threshold = threshold
        self._verbosity = settings.log_error_verbosity.lower()
        self._set_prefix(settings.log_line_prefix)
        self._json = settings.log_format == "json"
        wanted = settings.log_destination.split(",")
        self._stderr = self._sink if "stderr" in wanted else None
        new = None
        if "syslog" in wanted:
            new = ((16 + int(settings.syslog_facility[-1])) << 3, settings.syslog_ident)
        old = self._syslog
        if new != (old and (old.facility, old.ident)):
            if old is not None:
                old.close()
            self._syslog = Syslog(*new) if new else None

    def to(self, sink: Callable[[bytes], None] | None) -> None:
        """What is meant for stderr goes to ``sink`` from now on (the logging collector); None: to stderr again."""
        if self._stderr is not None:
            self._stderr = sink or _write_all
        self._sink = sink or _write_all

    def set_process(self, application: str, process_name: str) -> None:
        """Name this process: %a (main, child, sr_check_worker, health_check0 ...) and %P (MAIN, CHILD, WORKER ...)."""
        self.application = application
        self.process_name = process_name

    def begin_session(self, began: float) -> None:
        """A client came in at ``began`` (time stamp): records carry the id of its session (%c) from now on."""
        self._session_id = f"{int(began * 1e6):x}.{os.getpid():x}"

    @property
    def session_id(self) -> str:
        """Begin (microseconds) and pid in hexadecimal: unique over restarts; '' outside of a session."""
        return self._session_id

    def set_session(self, user: str, database: str, application: str = "") -> None:
        """From now on records belong to this client (%u, %d, and %a when it gave an application_name)."""
        self._in_session = True
        self._user, self._database, self._client_application = user, database, application

    def echo(self, kept: list[Echo], level: Level) -> None:
        """Keep what is said below ERROR, from ``level`` upwards, for the client of this session: client_min_messages."""
        self._echo, self._echo_from = (kept, level) if level < Level.ERROR else (None, Level.PANIC)

    def clear_session(self) -> None:
        self._in_session = False
        self._echo = None
        self._user = self._database = self._client_application = self._session_id = ""

    # -- writing ------------------------------------------------------------------------------------------------------

    def enabled(self, level: Level) -> bool:
        """Would a record of this level be written? Ask before building costly texts."""
        return _RANK[level] >= self._threshold

    def log(
        self,
        level: Level,
        message: str,
        detail: str | None = None,
        hint: str | None = None,
        context: str | None = None,
        *,
        depth: int = 1,
    ) -> None:
        """Write one record. ``depth`` counts the frames up to the place that LOCATION shall name."""
        if self._echo is not None and self._echo_from <= level < Level.ERROR:
            self._echo.append((level, message, detail or "", hint or ""))
        if _RANK[level] < self._threshold:
            return
        self._now = time.time()
        word = level.name.rstrip("12345")
        parts = [("MESSAGE", message)]
        if self._verbosity != "terse":
            parts += [(name, text) for name, text in (("DETAIL", detail), ("HINT", hint), ("CONTEXT", context)) if text]
        parts = [(name, without_passwords(text)) for name, text in parts]
        where = _location(depth + 1) if self._verbosity == "verbose" else None
        self._emit(word, self._object(word, parts, where) if self._json else self._lines(word, parts, where))

    def debug5(self, message: str, **more: str | None) -> None:
        self.log(Level.DEBUG5, message, depth=2, **more)

    def debug4(self, message: str, **more: str | None) -> None:
        self.log(Level.DEBUG4, message, depth=2, **more)

    def debug3(self, message: str, **more: str | None) -> None:
        self.log(Level.DEBUG3, message, depth=2, **more)

    def debug2(self, message: str, **more: str | None) -> None:
        self.log(Level.DEBUG2, message, depth=2, **more)

    def debug1(self, message: str, **more: str | None) -> None:
        self.log(Level.DEBUG1, message, depth=2, **more)

    def info(self, message: str, **more: str | None) -> None:
        self.log(Level.INFO, message, depth=2, **more)

    def notice(self, message: str, **more: str | None) -> None:
        self.log(Level.NOTICE, message, depth=2, **more)

    def warning(self, message: str, **more: str | None) -> None:
        self.log(Level.WARNING, message, depth=2, **more)

    def error(self, message: str, **more: str | None) -> None:
        self.log(Level.ERROR, message, depth=2, **more)

    def fatal(self, message: str, **more: str | None) -> None:
        self.log(Level.FATAL, message, depth=2, **more)

    def problem(self, err: PgpoolError) -> None:
        """Write an error of ours with its own severity, detail and hint."""
        try:
            level = level_named(err.severity)
        except KeyError:
            level = Level.ERROR
        self.log(level, err.message, err.detail, err.hint, depth=2)

    def unexpected(self, message: str, err: BaseException) -> None:
        """Write an error nobody foresaw, with where it came from."""
        where = "".join(traceback.format_exception(err)).rstrip()
        self.log(Level.ERROR, f"{message}: {type(err).__name__}: {err}", detail=where, depth=2)

    # -- the layout ---------------------------------------------------------------------------------------------------

    def _emit(self, word: str, record: bytes) -> None:
        heard = self._syslog is not None and self._syslog.send(word, record, whole=self._json)
        if self._stderr is not None:
            self._stderr(record)
        elif not heard:
            _write_all(record)  # no syslog daemon (yet): better here than nowhere

    def _lines(self, word: str, parts: list[tuple[str, str]], where: tuple[str, str, int] | None) -> bytes:
        lines = [self._lined(word if name == "MESSAGE" else name, text) for name, text in parts]
        if where:
            lines.append(self._lined("LOCATION", "{}, {}:{}".format(*where)))
        return "".join(lines).encode("utf-8", "surrogateescape")

    def _object(self, word: str, parts: list[tuple[str, str]], where: tuple[str, str, int] | None) -> bytes:
        """log_format = json: the names are those of PostgreSQL's jsonlog, where it has the field."""
        self._count_line()
        fields: dict[str, str | int] = {"timestamp": iso_time(self._now), "pid": self._line_pid}
        for name, text in (
            ("backend_type", self.process_name), ("application_name", self._client_application or self.application),
            ("user", self._user), ("dbname", self._database), ("session_id", self._session_id),
        ):  # fmt: skip
            if text:
                fields[name] = text
        fields["line_num"] = self._line
        fields["error_severity"] = word
        fields.update((name.lower(), text) for name, text in parts)
        if where:
            fields["func_name"], fields["file_name"], fields["file_line_num"] = where
        return json_line(fields)

    def _lined(self, word: str, text: str) -> str:
        return f"{self._expand_prefix()}{word}:  {text.replace(chr(10), chr(10) + chr(9))}\n"

    def _set_prefix(self, text: str) -> None:
        """Split log_line_prefix into literal pieces and (width, function); unknown escapes vanish as in PostgreSQL."""
        pieces: list[str | tuple[int, Callable[[Log], str]]] = []
        end = 0
        for match in _ESCAPE.finditer(text):
            pieces.append(text[end : match.start()])
            end = match.end()
            width, letter = match.groups()
            if letter == "%" and not width:
                pieces.append("%")
            elif letter in _LETTERS:
                digits = width.lstrip("-")
                size = int(digits) if digits else 0
                pieces.append((-size if width.startswith("-") else size, _LETTERS[letter]))
        pieces.append(text[end:])
        self._prefix = [piece for piece in pieces if piece != ""]

    def _expand_prefix(self) -> str:
        self._count_line()
        out = []
        for piece in self._prefix:
            if isinstance(piece, str):
                out.append(piece)
                continue
            width, function = piece
            text = function(self)
            out.append(text.ljust(-width) if width < 0 else text.rjust(width))
        return "".join(out)

    def _count_line(self) -> None:
        pid = os.getpid()
        if pid != self._line_pid:
            self._line_pid = pid
            self._line = 0
        self._line += 1

    def _clock(self) -> str:
        second = int(self._now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return self._second_text

    def _session_word(self, value: str) -> str:
        return value or (_UNKNOWN if self._in_session else _NO_CONNECTION)


_LETTERS: dict[str, Callable[[Log], str]] = {
    "a": lambda log: log._client_application or log.application,
    "p": lambda log: str(log._line_pid),
    "P": lambda log: log.process_name,
    "t": lambda log: log._clock(),
    "m": lambda log: f"{log._clock()}.{int(log._now % 1 * 1000):03d}",
    "d": lambda log: log._session_word(log._database),
    "u": lambda log: log._session_word(log._user),
    "l": lambda log: str(log._line),
    "c": lambda log: log._session_id,
}


def _location(depth: int) -> tuple[str, str, int]:
    frame = sys._getframe(depth)
    return frame.f_code.co_name, os.path.basename(frame.f_code.co_filename), frame.f_lineno


def iso_time(stamp: float) -> str:
    """``2026-11-27T02:33:10.123+00:00``, local time with its offset."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S|%z", time.localtime(stamp))
    second, _, zone = text.partition("|")
    return f"{second}.{int(stamp % 1 * 1000):03d}{zone[:3]}:{zone[3:5]}"


def json_line(fields: dict[str, str | int]) -> bytes:
    """One JSON object and a newline; always valid UTF-8: bytes that are none become U+FFFD."""
    text = json.dumps(fields, ensure_ascii=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        clean = text.encode("utf-8", "surrogateescape") if _escaped_only(text) else text.encode("utf-8", "replace")
        return clean.decode("utf-8", "replace").encode() + b"\n"


def _escaped_only(text: str) -> bool:
    """Are all surrogates in ``text`` bytes in disguise (surrogateescape)?"""
    return all("\udc80" <= char <= "\udcff" for char in text if "\ud800" <= char <= "\udfff")


def _write_all(data: bytes) -> None:
    """One write in all normal cases; a reader that is gone or full must not stop the server, so errors are dropped."""
    try:
        while data:
            data = data[os.write(_STDERR_FD, data) :]
    except OSError:
        return


log = Log()
