"""pgpool.conf -> Settings: read, translate old names, parse, keep what a reload may not change, check."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass

from pgpool.errors import ConfigFaults, Fault

from . import discovered
from . import param as p
from .checks import FATAL, check
from .oldnames import Message, Translation
from .params import BY_NAME, PARAMS, RENAMED, split_index
from .reader import Entry, Reading, read_file, read_text
from .snapshot import Key, Settings
from .values import BadValue, Value, file_text, human, parse

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

    With ``base`` (a reload) what needs a restart keeps base's value, with a message; so do host, port and data
    directory of a backend of base, unless its number is in ``down``. A missing file is a warning and means defaults;
    at a reload it is a fault. Raises errors.ConfigFaults with everything that is wrong.
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
    build = _Build(reading, path)
    build.add_discovered()
    if base is not None:
        build.keep(base, down)
    settings = build.settings()
    build.check(settings)
    order = {file: number for number, file in enumerate(reading.files)}

    def place(item: Fault | Message) -> tuple[int, int]:
        return order.get(item.file, len(order)), item.line

    if build.faults:
        raise ConfigFaults(sorted(build.faults, key=place))
    return Loaded(settings, sorted(build.messages, key=place))


class _Build:
    """The work of one load: values so far, where they were set, what is wrong, what there is to say."""

    def __init__(self, reading: Reading, path: str):
        self.path = path
        self.values: dict[Key, Value] = {}
        self.origins: dict[Key, tuple[str, int]] = {}
        self.bad: set[str] = set()
        """Parameters with a fault: no cross-check is made with their defaults."""
        self.node_id, self.node_fault = _read_node_id(os.path.dirname(path)) if path else (None, "")
        translation = Translation(reading.entries, self.node_id)
        self.old_watchdog = translation.old_watchdog
        self.faults: list[Fault] = [*reading.faults, *translation.faults]
        self.messages: list[Message] = translation.messages
        for entry in translation.entries():
            self._assign(entry)
        if translation.old_file:
            self._name_changed_defaults()

    def add_discovered(self) -> None:
        """Backends that pgpool has found by itself, where pgpool.conf does not know them."""
        if self.path and ("backend_discovery", None) in self.values:
            found = discovered.read(self.settings())
            self.faults += found.faults
            for entry in found.entries:
                if split_index(entry.key) not in self.values:
                    self._assign(entry)

    def _assign(self, entry: Entry) -> None:
        """Put one entry into ``values``; the last one of a key counts."""
        name, index = split_index(entry.key)
        param = BY_NAME.get(name)
        if param is None or (index is not None and not param.indexed):
            text = f'unrecognized configuration parameter "{entry.key}"'
            self.messages.append(Message("INFO", text, entry.file, entry.line, _suggest(entry.key)))
            return
        try:
            if index is None and not param.has_plain_value:
                raise BadValue(f'parameter "{entry.key}" expects the index value')
            if index is not None and index > param.max_index:
                raise BadValue(f"{index} index outside the valid range for parameter "
                               f'"{entry.key}" (0 .. {param.max_index})')
            self.values[name, index] = parse(param, entry.text, entry.key)
            self.origins[name, index] = (entry.file, entry.line)
        except BadValue as error:
            self.bad.add(name)
            self.faults.append(Fault(entry.file, entry.line, str(error)))

    def _name_changed_defaults(self) -> None:
        """An old file that leaves a parameter out may rely on a default that is another one today."""
        for param in PARAMS:
            if param.was and (param.name, None) not in self.values and param.name not in self.bad:
                text = f'parameter "{param.name}" is not set; its default was {param.was}, now it is ' \
                       f"{file_text(param, param.default)}"
                self.messages.append(Message("INFO", text, self.path))

    def settings(self) -> Settings:
        node_id = self.node_id
        if node_id is None:
            node_id = 0 if self.old_watchdog else -1
        return Settings(self.values, config_file=self.path, origins=self.origins, node_id=node_id)

    def check(self, settings: Settings) -> None:
        """Cross-checks; FATAL findings become faults."""
        if settings.use_watchdog and (self.node_fault or settings.node_id < 0):
            node_file = os.path.join(os.path.dirname(self.path), NODE_ID_FILE)
            file, line = self.origins.get(("use_watchdog", None), (self.path, 0))
            reason = self.node_fault or f"Pgpool node id file {node_file} does not exist"
            self.faults.append(Fault(file, line, reason))
        for finding in check(settings):
            file, line = finding.place(settings)
            if finding.level != FATAL:
                self.messages.append(Message(finding.level, finding.text, file, line))
            elif not self.bad.intersection(finding.params):
                self.faults.append(Fault(file, line, finding.text))

    def keep(self, base: Settings, down: frozenset[int]) -> None:
        """Put back what a reload may not change, with a message for each."""
        old = dict(base.items())
        for key in sorted(self.values.keys() | old.keys(), key=lambda key: (key[0], -1 if key[1] is None else key[1])):
            param = BY_NAME[key[0]]
            was = base.value(*key)
            if not self._is_fixed(key, base, down) or self.values.get(key, param.default) == was:
                continue
            file, line = self.origins.get(key, (self.path, 0))
            if key in old:
                self.values[key] = old[key]
                self.origins[key] = base.origins.get(key, (file, line))
            else:
                del self.values[key]
                del self.origins[key]
            full = key[0] if key[1] is None else f"{key[0]}{key[1]}"
            self.messages.append(Message("WARNING", f'parameter "{full}" cannot be changed without restarting pgpool',
                                         file, line, f"it stays {human(param, was)}"))

    def _is_fixed(self, key: Key, base: Settings, down: frozenset[int]) -> bool:
        """The parameter, or this backend's one, only changes with a restart."""
        name, index = key
        if BY_NAME[name].context == p.INIT:
            return True
        if name not in _FIXED or index is None or index >= len(base.backends) or not base.backends[index].used:
            return False
        return index not in down or not self.values.get(("backend_port", index))


def _suggest(key: str) -> str:
    """A name that the writer may have meant, as a question; '' if there is none."""
    stem = key.rstrip("0123456789")
    names = {**{name.lower(): name for name in RENAMED}, **{param.name.lower(): param.name for param in PARAMS}}
    close = difflib.get_close_matches(stem.lower()[:80], names, 1, 0.8)
    if close:
        name = names[close[0]]
        index = key[len(stem):] if name in BY_NAME and BY_NAME[name].indexed else ""
        return f'did you mean "{name}{index}"?'
    return ""


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
