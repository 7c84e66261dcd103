"""pgpool.conf -> Settings: read, translate old names, parse, keep what a reload may not change, check."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass

from pgpool.errors import ConfigFaults, Fault

from . import param as p
from .checks import FATAL, check
from .oldnames import Message, Translation
from .params import BY_NAME, PARAMS, RENAMED, split_index
from .reader import Entry, Reading, read_file, read_text
from .snapshot import Key, Settings
from .values import BadValue, Value, human, parse

NODE_ID_FILE = "pgpool_node_id"
MAX_NODE_ID = 128

_FIXED = ("backend_hostname", "backend_port", "backend_data_directory")
"""What a reload may set for a new or a down backend only."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used, and what the operator should be told about them."""

    settings: Settings
    messages: list[Message]


def load(path: str | None, *, base: Settings | None = None, down: frozenset[int] = frozenset()) -> Loaded:
    """Read the configuration file ``path`` (None: built-in defaults).

    With ``base`` (a reload) what needs a restart keeps base's value, with a message; so do host, port and data directory
    of a backend of base, unless its number is in ``down``. A missing file is a warning and means defaults; at a reload
    it is a fault. Raises errors.ConfigFaults with everything that is wrong.
    """
    if path is None:
        return _build(Reading(), "", base, down)
    path = os.path.abspath(path)
    try:
        reading = read_file(path)
    except FileNotFoundError:
        text = f'could not open configuration file: "{path}"'
        if base is not None:
            raise ConfigFaults([Fault(path, 0, text)]) from None
        loaded = _build(Reading(), path, None, down)
        missing = Message("WARNING", text, path, 0, "using default configuration parameter values")
        return Loaded(loaded.settings, [missing, *loaded.messages])
    return _build(reading, path, base, down)


def load_text(text: str, file: str = "pgpool.conf", *, base: Settings | None = None,
              down: frozenset[int] = frozenset()) -> Loaded:
    """As load, from a string; ``file`` is where it pretends to come from. Raises errors.ConfigFaults."""
    return _build(read_text(text, file), file, base, down)


def _build(reading: Reading, path: str, base: Settings | None, down: frozenset[int]) -> Loaded:
    faults = list(reading.faults)
    messages: list[Message] = []
    node_id, node_fault = _read_node_id(os.path.dirname(path)) if path else (None, "")
    translation = Translation(reading.entries, node_id)
    faults += translation.faults
    messages += translation.messages
    values: dict[Key, Value] = {}
    origins: dict[Key, tuple[str, int]] = {}
    bad: set[str] = set()
    for entry in translation.entries():
        _assign(entry, values, origins, faults, messages, bad)
    if base is not None:
        _keep(values, origins, base, down, messages)
    settings = Settings(values, config_file=path, origins=origins, node_id=-1 if node_id is None else node_id)
    if settings.use_watchdog and node_id is None:
        if translation.old_watchdog and not node_fault:
            settings = Settings(values, config_file=path, origins=origins, node_id=0)
        else:
            reason = node_fault or f"Pgpool node id file {os.path.join(os.path.dirname(path), NODE_ID_FILE)} does not exist"
            file, line = origins["use_watchdog", None]
            faults.append(Fault(file, line, reason))
            bad.add("use_watchdog")
    for finding in check(settings):
        file, line = finding.place(settings)
        if finding.level == FATAL:
            if not bad.intersection(finding.params):
                faults.append(Fault(file, line, finding.text))
        else:
            messages.append(Message(finding.level, finding.text, file, line))
    if faults:
        order = {file: number for number, file in enumerate(reading.files)}
        raise ConfigFaults(sorted(faults, key=lambda fault: (order.get(fault.file, len(order)), fault.line)))
    return Loaded(settings, messages)


def _assign(entry: Entry, values: dict[Key, Value], origins: dict[Key, tuple[str, int]], faults: list[Fault],
            messages: list[Message], bad: set[str]) -> None:
    """Put one entry into ``values``; the last one of a key counts."""
    name, index = split_index(entry.key)
    param = BY_NAME.get(name)
    if param is None or (index is not None and not param.indexed):
        text = f'unrecognized configuration parameter "{entry.key}"'
        messages.append(Message("INFO", text, entry.file, entry.line, _suggest(entry.key)))
        return
    try:
        if index is None and not param.has_plain_value:
            raise BadValue(f'parameter "{entry.key}" expects the index value')
        if index is not None and index > param.max_index:
            raise BadValue(f'{index} index outside the valid range for parameter "{entry.key}" (0 .. {param.max_index})')
        values[name, index] = parse(param, entry.text, entry.key)
        origins[name, index] = (entry.file, entry.line)
    except BadValue as error:
        bad.add(name)
        faults.append(Fault(entry.file, entry.line, str(error)))


def _suggest(key: str) -> str:
    """A name that the writer may have meant, as a question; '' if there is none."""
    stem = key.rstrip("0123456789")
    names = {**{name.lower(): name for name in RENAMED}, **{param.name.lower(): param.name for param in PARAMS}}
    for word in (key.lower(), stem.lower()):
        close = difflib.get_close_matches(word[:80], names, 1, 0.8)
        if close:
            index = key[len(stem):] if word == stem.lower() else ""
            return f'did you mean "{names[close[0]]}{index}"?'
    return ""


def _keep(values: dict[Key, Value], origins: dict[Key, tuple[str, int]], base: Settings, down: frozenset[int],
          messages: list[Message]) -> None:
    """Put back what a reload may not change, with a message for each."""
    old = dict(base.items())
    for key in sorted(values.keys() | old.keys(), key=lambda key: (key[0], -1 if key[1] is None else key[1])):
        name, index = key
        param = BY_NAME[name]
        fixed = param.context == p.INIT
        if name in _FIXED and index is not None and index < len(base.backends) and base.backends[index].used:
            removed = ("backend_port", index) not in values
            fixed = index not in down or removed
        if not fixed:
            continue
        was = base.value(name, index)
        if values.get(key, param.default) == was:
            continue
        file, line = origins.get(key, (base.config_file, 0))
        full = name if index is None else f"{name}{index}"
        if key in old:
            values[key] = old[key]
            origins[key] = base.origins.get(key, (file, line))
        else:
            del values[key]
            origins.pop(key, None)
        messages.append(Message("WARNING", f'parameter "{full}" cannot be changed without restarting pgpool', file, line,
                                f"it stays {human(param, was)}"))


def _read_node_id(directory: str) -> tuple[int | None, str]:
    """This pgpool's number from the file pgpool_node_id, or None and why (texts: commands.md section 3)."""
    path = os.path.join(directory, NODE_ID_FILE)
    try:
        with open(path, "rb") as stream:
            text = stream.read(64).split(b"\n")[0].strip()
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"could not read Pgpool node id file {path}: {error.strerror}"
    if not text:
        return None, f"{NODE_ID_FILE} file is empty"
    if not text.isdigit():
        return None, f"{NODE_ID_FILE} is not a numeric value"
    if int(text) > MAX_NODE_ID:
        return None, f"Invalid pgpool node id {int(text)}, it must be between 0 and {MAX_NODE_ID}"
    return int(text), ""
