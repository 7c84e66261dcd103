"""The backend connections that one child keeps between sessions (behaviour.md 3).

An entry belongs to a (user, database, protocol) and holds one link per node, made when a session first needs that
node. Between sessions a link is reset by reset_query_list, whose answers nobody waits for: they are read before the link is
used again.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field

from pgpool._fastpath import Guest, Link, TlsError
from pgpool.auth.admission import LinkAuth
from pgpool.backend.connect import Login
from pgpool.config.settings import Settings
from pgpool.shared.slots import Slot
from pgpool.wire import messages
from pgpool.wire.startup import Startup

NEVER_KEPT = frozenset({"template0", "template1", "postgres", "regression"})
"""Databases whose connections are closed with the session, so that they can be dropped or copied (behaviour.md 3)."""
_NOT_SETTABLE = frozenset({"user", "database", "options", "replication"})
_GUC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


@dataclass(slots=True)
class PooledLink:
    """One live backend connection with what a later client must be told about it."""

    link: Link
    login: Login
    created: float
    replayed: int = 0
    """The highest replay position (LSN) seen on this connection: while it lives its server cannot fall behind it."""
    asked: float = 0.0
    """time.monotonic() of the last look at that position."""

    def close(self) -> None:
        """Say good-bye as far as the socket takes it at once, and close."""
        try:
            if not self.link.dead:
                os.set_blocking(self.link.fd, False)
                if self.login.channel.tls is not None:
                    self.login.channel.tls.send(messages.terminate())
                else:
                    os.write(self.link.fd, messages.terminate())
        except (OSError, TlsError):
            pass
        self.login.channel.close()


@dataclass(slots=True)
class Entry:
    user: str
    database: str
    startup: Startup
    """The start-up packet its links were made with."""
    slot: Slot
    links: dict[int, PooledLink] = field(default_factory=dict)
    idle_since: float = 0.0
    """time.monotonic() of the last session's end; 0 while in use."""
    auth: LinkAuth | None = None
    """How the first link was logged in: what the next client is asked."""
    guest: Guest | None = None
    """A client who is served without Python while the links stay as they are."""

    def forget_guest(self) -> None:
        """Its links change."""
        if self.guest is not None:
            self.guest.good = False
            self.guest = None

    def add(self, node_id: int, login: Login) -> PooledLink:
        self.forget_guest()
        pooled = PooledLink(Link(login.fd, node_id, login.channel.tls), login, time.time())
        self.links[node_id] = pooled
        self.slot.set_backend(node_id, login.pid, login.key, pooled.created)
        return pooled

    def drop(self, node_id: int) -> None:
        self.forget_guest()
        pooled = self.links.pop(node_id, None)
        if pooled is not None:
            pooled.close()
            self.slot.clear_backend(node_id)

    def close(self) -> None:
        self.forget_guest()
        for node_id in list(self.links):
            self.drop(node_id)
        self.slot.clear()


def bridge(old: Startup, new: Startup) -> list[str] | None:
    """The SETs that make a link started with ``old`` look like one started with ``new``; None when none can."""
    if old.protocol != new.protocol or old.replication or new.replication:
        return None
    if old.params == new.params:
        return []
    sets = []
    for name in old.params.keys() | new.params.keys():
        was, wanted = old.params.get(name), new.params.get(name)
        if was == wanted or name in ("user", "database"):
            continue
        if name in _NOT_SETTABLE or not _GUC_NAME.match(name):
            return None
        if wanted is None:
            if name != "application_name":
                return None
            wanted = ""
        sets.append(f"SET {name} TO {quote(wanted)}")
    return sorted(sets)


def quote(value: str) -> str:
    """A string constant that means the same whatever standard_conforming_strings says."""
    escaped = value.replace("'", "''")
    return f"'{escaped}'" if "\\" not in value else " E'" + escaped.replace("\\", "\\\\") + "'"


class Pool:
    """The max_pool entries of one child."""

    def __init__(self, slots: list[Slot]):
        self.slots = slots
        self.entries: dict[int, Entry] = {}

    def find(self, startup: Startup) -> Entry | None:
        """An idle entry for this user, database and protocol, whatever its other options are. (The protocol to its minor
        number: a link on which 3.0 was asked for would make a client's 3.2 a 3.0.)"""
        key = startup.user, startup.database, startup.protocol
        for entry in self.entries.values():
            if (entry.user, entry.database, entry.startup.protocol) == key:
                return entry
        return None

    def make(self, startup: Startup) -> Entry:
        """A fresh entry, in a free slot or in that of the entry which is idle for the longest time."""
        free = [i for i in range(len(self.slots)) if i not in self.entries]
        if not free:
            free = [min(self.entries, key=lambda i: self.entries[i].idle_since)]
            self.remove(self.entries[free[0]])
        slot = self.slots[free[0]]
        entry = Entry(startup.user, startup.database, startup, slot)
        slot.fill(startup.user, startup.database, startup.protocol >> 16, startup.protocol & 0xFFFF, time.time())
        self.entries[free[0]] = entry
        return entry

    def remove(self, entry: Entry) -> None:
        entry.close()
        self.entries.pop(entry.slot.pool, None)

    def note_guests(self) -> None:
        """Guests have used their entries while no Python ran."""
        for entry in self.entries.values():
            if entry.guest is not None and entry.idle_since:
                entry.idle_since = max(entry.idle_since, entry.guest.rested)

    def close_idle(self) -> None:
        """All links go (SIGUSR1: somebody wants to drop a database)."""
        for entry in list(self.entries.values()):
            if entry.idle_since:
                self.remove(entry)

    def expire(self, settings: Settings) -> float | None:
        """Close what is idle longer than connection_life_time; seconds until the next one is due, None for never."""
        if not settings.connection_life_time:
            return None
        now = time.monotonic()
        due = None
        for entry in list(self.entries.values()):
            if not entry.idle_since:
                continue
            left = entry.idle_since + settings.connection_life_time - now
            if left <= 0:
                self.remove(entry)
            elif due is None or left < due:
                due = left
        return due

    def close(self) -> None:
        for entry in list(self.entries.values()):
            self.remove(entry)
