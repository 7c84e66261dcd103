"""Entries of an old pgpool.conf -> entries under today's names, each with a warning that says so."""

from __future__ import annotations

from dataclasses import dataclass

from pgpool.errors import Fault

from . import param as p
from .params import BY_NAME, REMOVED, RENAMED, split_index
from .params_old import GONE, GONE_IF_ON, LOCAL, MODE, OTHER, OldName
from .reader import Entry
from .values import BadValue, parse

OLD_WD_PORT = "9000"
OLD_HEARTBEAT_PORT = "9694"
OLD_PGPOOL_PORT = "9999"
_LOCAL_CONVENTION = ("this pgpool is taken as node 0 and the others are counted from 1; to build a cluster give all "
                     "pgpools the same numbered list and each its own number in the file pgpool_node_id")


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell the operator. ``level`` is INFO, NOTICE or WARNING; ``line`` 0 means no single line."""

    level: str
    text: str
    file: str = ""
    line: int = 0
    detail: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.level}: {self.text}" + (f" ({self.detail})" if self.detail else "")


class Translation:
    """Splits entries into those with today's names and those with old ones, and translates the latter.

    A value under today's name always wins over one under an old name, wherever they stand in the file.
    """

    def __init__(self, entries: list[Entry], own_id: int | None):
        self.own_id = own_id or 0
        self.own_id_known = own_id is not None
        self.messages: list[Message] = []
        self.faults: list[Fault] = []
        self._new = [entry for entry in entries if not _old(entry.key)]
        self._given = {entry.key for entry in self._new}
        self._made: dict[str, Entry] = {}
        self._modes: dict[str, tuple[Entry, object]] = {}
        self._old_watchdog: Entry | None = None
        for entry in entries:
            self._translate(entry)
        self._fold_modes()
        self._complete_watchdog(entries)

    @property
    def old_file(self) -> bool:
        """The file chooses its mode in the way of 4.1 and older, so it relies on the defaults of that time."""
        return bool(self._modes) and "backend_clustering_mode" not in self._given

    @property
    def old_watchdog(self) -> bool:
        """The file describes its watchdog in the way of 4.1 and older."""
        return self._old_watchdog is not None

    def entries(self) -> list[Entry]:
        """Translated entries, then those under today's names; each keeps its file and line."""
        return [*self._made.values(), *self._new]

    def _warn(self, entry: Entry, text: str, detail: str = "") -> None:
        self.messages.append(Message("WARNING", text, entry.file, entry.line, detail))

    def _translate(self, entry: Entry) -> None:
        if entry.key in RENAMED:
            self._rename(entry, RENAMED[entry.key].name)
            return
        found = _old(entry.key)
        if found is None:
            return
        old, index = found
        if old.kind == MODE:
            self._mode(entry, old)
        elif old.kind in (GONE, GONE_IF_ON):
            self._gone(entry, old)
        elif old.kind in (LOCAL, OTHER):
            self._node(entry, old, index)

    def _rename(self, entry: Entry, name: str, why: str = "") -> None:
        detail = why
        if name in self._given:
            detail = f'"{name}" is set too and wins'
        elif entry.text or BY_NAME.get(name, None) is None or BY_NAME[name].default in ("", ()):
            self._made[name] = Entry(name, entry.text, entry.file, entry.line)
        else:
            detail = "the empty value is ignored"
        self._warn(entry, f'parameter "{entry.key}" is now called "{name}"', detail)

    def _gone(self, entry: Entry, old: OldName) -> None:
        if old.kind == GONE_IF_ON and entry.text.strip().lower() in ("0", "off", "false", "no", ""):
            self.messages.append(Message("INFO", f'parameter "{entry.key}" is no longer used', entry.file, entry.line))
            return
        self._warn(entry, f'parameter "{entry.key}" is no longer used', old.note)
        if old.name == "debug_level" and "log_min_messages" not in self._given:
            self._made["log_min_messages"] = Entry("log_min_messages", "debug1", entry.file, entry.line)

    def _mode(self, entry: Entry, old: OldName) -> None:
        choices = {word: number for number, word in enumerate(old.choices)}
        try:
            value = parse(p.Param(old.name, old.type, "", p.INIT, "", "", choices=choices), entry.text)
        except BadValue as error:
            self.faults.append(Fault(entry.file, entry.line, str(error)))
            return
        self._modes[old.name] = entry, value
        if old.name in BY_NAME:
            self._made[old.name] = entry

    def _fold_modes(self) -> None:
        """master_slave_mode, master_slave_sub_mode and replication_mode -> backend_clustering_mode."""
        if not self._modes:
            return
        name = "backend_clustering_mode"
        last = max((entry for entry, _ in self._modes.values()), key=lambda entry: entry.line)
        if name in self._given:
            for entry, _ in self._modes.values():
                self._warn(entry, f'parameter "{entry.key}" was replaced by "{name}"', f'"{name}" is set too and wins')
            return

        def is_on(switch: str) -> bool:
            return bool(self._modes.get(switch, (None, False))[1])

        if is_on("master_slave_mode") and is_on("replication_mode"):
            entry = self._modes["replication_mode"][0]
            self.faults.append(Fault(entry.file, entry.line,
                                     "master_slave_mode and replication_mode cannot both be on"))
            return
        if is_on("replication_mode"):
            mode, entry = "native_replication", self._modes["replication_mode"][0]
        elif is_on("master_slave_mode"):
            entry, sub = self._modes.get("master_slave_sub_mode", (self._modes["master_slave_mode"][0], "stream"))
            mode = {"stream": "streaming_replication", "logical": "logical_replication", "slony": "slony"}[sub]
        elif self._modes.keys() == {"master_slave_sub_mode"}:
            entry = self._modes["master_slave_sub_mode"][0]
            self._warn(entry, f'parameter "{entry.key}" was replaced by "{name}"', "ignored without master_slave_mode")
            return
        else:
            mode, entry = "raw", last
        for old, _ in self._modes.values():
            self._warn(old, f'parameter "{old.key}" was replaced by "{name}"', f"taken as {name} = '{mode}'")
        self._made[name] = Entry(name, mode, entry.file, entry.line)

    def _node(self, entry: Entry, old: OldName, index: int | None) -> None:
        """wd_hostname & co. -> our own node's value; other_pgpool_hostnameN & co. -> the N-th node that is not ours."""
        own = self.own_id
        node = own if old.kind == LOCAL else index if index < own else index + 1
        why = f"this pgpool is node {own} by the file pgpool_node_id" if self.own_id_known else _LOCAL_CONVENTION
        self._rename(entry, f"{old.target}{node}", why if self._old_watchdog is None else "")
        self._old_watchdog = self._old_watchdog or entry

    def _complete_watchdog(self, entries: list[Entry]) -> None:
        """What an old file left out: our own client port, and the old defaults of the watchdog's ports."""
        if self._old_watchdog is None:
            return
        port = next((entry for entry in reversed(entries) if entry.key == "port"), None)
        old = self._old_watchdog
        defaults = {f"pgpool_port{self.own_id}": port.text if port else OLD_PGPOOL_PORT,
                    f"wd_port{self.own_id}": OLD_WD_PORT}
        if any(entry.key.startswith("heartbeat_destination") for entry in entries):
            defaults[f"heartbeat_port{self.own_id}"] = OLD_HEARTBEAT_PORT
        for name, text in defaults.items():
            if name not in self._given and name not in self._made:
                self._made[name] = Entry(name, text, old.file, old.line)


def _old(key: str) -> tuple[OldName, int | None] | None:
    """The row of an old name which is no plain rename (with its index), else None."""
    if key in RENAMED:
        return OldName(key, p.STRING, "renamed", ""), None
    if key in REMOVED:
        old = REMOVED[key]
        return None if old.indexed else (old, None)
    stem, index = split_index(key)
    old = REMOVED.get(stem)
    if old is None or not old.indexed or index is None or index >= p.MAX_INDEX:
        return None
    return old, index
