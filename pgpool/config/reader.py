"""pgpool.conf text -> entries with file and line (commands.md section 5). Nothing here knows any parameter.

One entry a line: ``key [=] value``, ``#`` begins a comment. A value is 'quoted', a bare word of letters, digits and
``- . _ : /``, or a number with an optional unit. Within quotes ``''`` is a quote; a backslash keeps the character after
it from ending the string and both stay in the value (as in the incumbent: regular expressions and shell commands come
through as written). ``include 'file'`` is relative to the including file. All faults are collected.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from pgpool.errors import Fault

MAX_INCLUDE_DEPTH = 10
MAX_FILE_SIZE = 16 * 1024 * 1024

_KEY = re.compile(r"[ \t\r\f\v]*([A-Za-z_][A-Za-z0-9_]*)[ \t\r\f\v]*(=?)[ \t\r\f\v]*")
_SECRET = re.compile(r"password|passwd|authkey|passphrase", re.IGNORECASE)
_QUOTED = re.compile(r"'((?:[^'\\]|\\.|'')*)'", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
                     r"(?:[ \t]*[A-Za-z]+)?(?=[\s#]|$)")
_BARE = re.compile(r"[A-Za-z0-9_./:+\-][A-Za-z0-9_./:\-]*(?=[\s#]|$)|\*(?=[\s#]|$)")
_REST = re.compile(r"[ \t\r\f\v]*(?:#.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``key = value`` of a file; ``line`` counts from 1."""

    key: str
    text: str
    file: str
    line: int


@dataclass(slots=True)
class Reading:
    """What a file and all it includes gave: entries in order, and everything wrong with them."""

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def read_file(path: str) -> Reading:
    """Read ``path`` and what it includes. Raises FileNotFoundError only when ``path`` itself does not exist."""
    reading = Reading()
    path = os.path.abspath(path)
    text = _load(path, reading)
    if text is not None:
        _read(text, path, reading, (os.path.realpath(path),))
    return reading


def read_text(text: str, file: str = "pgpool.conf") -> Reading:
    """Read ``text`` as if it were the contents of ``file``."""
    reading = Reading(files=[file])
    _read(text, file, reading, (os.path.realpath(file),))
    return reading


def _load(path: str, reading: Reading) -> str | None:
    """The file's text, or None with a fault: not a regular file, too large, unreadable, or not text."""
    reading.files.append(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            reading.faults.append(Fault(path, 0, "is not a regular file"))
            return None
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reading.faults.append(Fault(path, 0, f"could not open configuration file: {reason}"))
        return None
    if len(data) > MAX_FILE_SIZE:
        reading.faults.append(Fault(path, 0, f"configuration file is larger than {MAX_FILE_SIZE} bytes"))
        return None
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        reading.faults.append(Fault(path, line, "configuration file contains a NUL byte, it is not a text file"))
        return None
    return data.decode("utf-8-sig", "surrogateescape")


def _read(text: str, file: str, reading: Reading, chain: tuple[str, ...]) -> None:
    """Add the entries of one text; ``chain`` holds the real paths of the files being read, outermost first."""
    for number, line in enumerate(text.split("\n"), 1):
        try:
            pair = parse_line(line)
        except ValueError as error:
            reading.faults.append(Fault(file, number, str(error)))
            continue
        if pair is None:
            continue
        key, value = pair
        if key == "include":
            _include(value, Entry(key, value, file, number), reading, chain)
        else:
            reading.entries.append(Entry(key, value, file, number))


def _include(name: str, entry: Entry, reading: Reading, chain: tuple[str, ...]) -> None:
    def fault(reason: str) -> None:
        reading.faults.append(Fault(entry.file, entry.line, reason))

    if not name or "\0" in name:
        return fault("include needs the name of a file")
    path = os.path.join(os.path.dirname(entry.file), name)
    real = os.path.realpath(path)
    if real in chain:
        return fault(f'"{path}" includes itself')
    if len(chain) > MAX_INCLUDE_DEPTH:
        return fault(f'could not include "{path}": maximum nesting depth {MAX_INCLUDE_DEPTH} exceeded')
    try:
        text = _load(path, reading)
    except FileNotFoundError:
        return fault(f'could not open configuration file "{path}": No such file or directory')
    if text is not None:
        _read(text, path, reading, (*chain, real))
    return None


def parse_line(line: str) -> tuple[str, str] | None:
    """One line -> (key, text of the value), or None for a blank or comment line. Raises ValueError: syntax error."""
    if "\0" in line:
        raise ValueError("syntax error: NUL byte")
    if _REST.fullmatch(line):
        return None
    match = _KEY.match(line)
    if match is None or (match.end() == match.end(1) and line[match.end():][:1] not in ("", "'", "#")):
        raise ValueError(f"syntax error{_near(line.strip(), line)}")
    key = match[1]
    rest = line[match.end():]
    if not rest or rest.startswith("#"):
        return key, ""
    value = _QUOTED.match(rest)
    if value is not None:
        text = unquote(value[1])
    elif rest.startswith("'"):
        raise ValueError("syntax error: unterminated quoted string")
    else:
        value = _NUMBER.match(rest) or _BARE.match(rest)
        if value is None:
            hint = ", use single quotes" if rest.startswith('"') else ", the value needs quotes"
            raise ValueError(f"syntax error{_near(rest, key)}{hint}")
        text = value[0]
    if not _REST.fullmatch(rest, value.end()):
        raise ValueError(f"syntax error{_near(rest[value.end():].strip(), key)}")
    return key, text


def unquote(body: str) -> str:
    """The inside of a quoted string -> its value."""
    if "'" not in body:
        return body
    return re.sub(r"(\\.)|''", lambda match: match[1] or "'", body, flags=re.DOTALL)


def quote(value: str) -> str:
    """A value -> a quoted string that reads back as the same value.

    Raises ValueError for what a line cannot hold: a line end, a NUL byte, or an unpaired backslash at the end.
    """
    if "\n" in value or "\0" in value:
        raise ValueError("a value cannot contain a line end or a NUL byte")
    body = re.sub(r"(\\.)|'", lambda match: match[1] or "''", value, flags=re.DOTALL)
    quoted = f"'{body}'"
    if not _QUOTED.fullmatch(quoted):
        raise ValueError("a value cannot end with an unpaired backslash")
    return quoted


def _near(text: str, key: str) -> str:
    """Where a syntax error is; nothing is shown of a value that may be a secret."""
    if _SECRET.search(key):
        return ""
    return f' near "{text}"' if len(text) <= 40 else f' near "{text[:40]}..."'
