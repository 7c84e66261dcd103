"""The file pgpool_discovered in work_dir: standbys that pgpool has found by itself (backend_discovery).

It has the syntax of pgpool.conf, whose word counts: a number that it uses, and a place (host and port) that it names, are
left out of this file's backends, and a line for one of them in pgpool.conf (backend_weightN) replaces the one here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from .params import split_index
from .reader import Entry, Reading, quote, read_file
from .snapshot import BackendConf, Settings

DISCOVERED_FILE = "pgpool_discovered"
_HEAD = "# Standbys that pgpool has found (backend_discovery). pgpool writes this file; what pgpool.conf says comes first.\n"


def path_of(settings: Settings) -> str:
    """Where the file is, '' when it is not to be read."""
    if not settings.backend_discovery or settings.failover_owner != "external":
        return ""
    return os.path.abspath(settings.resolve(os.path.join(settings.work_dir, DISCOVERED_FILE)))


def read(settings: Settings) -> Reading:
    """The entries about backends that ``settings``, made of pgpool.conf alone, does not know. No file: nothing."""
    path = path_of(settings)
    try:
        reading = read_file(path) if path else Reading()
    except FileNotFoundError:
        return Reading()
    found: dict[int | None, dict[str, Entry]] = {}
    for entry in reading.entries:
        name, index = split_index(entry.key)
        found.setdefault(index, {})[name] = entry
    ids = {backend.id for backend in settings.backends if backend.used}
    places = {(backend.hostname, str(backend.port)) for backend in settings.backends if backend.used}
    reading.entries = [
        entry
        for index, entries in found.items()
        if index is not None and index not in ids and place(entries) not in places
        for entry in entries.values()
    ]
    return reading


def place(entries: dict[str, Entry]) -> tuple[str, str]:
    """(host, port) of one backend of the file."""
    host, port = (entries.get(name) for name in ("backend_hostname", "backend_port"))
    return host.text if host else "", port.text if port else ""


def render(backends: Iterable[BackendConf]) -> str:
    """The file's text."""
    lines = [
        f"backend_hostname{b.id} = {quote(b.hostname)}\nbackend_port{b.id} = {b.port}\n"
        f"backend_application_name{b.id} = {quote(b.application_name)}\nbackend_weight{b.id} = {b.weight:g}\n"
        for b in backends
    ]
    return _HEAD + "".join(lines)


def of_file(settings: Settings) -> list[BackendConf]:
    """The backends in force that come from this file."""
    path = path_of(settings)
    return [
        backend
        for backend in settings.backends
        if backend.used and settings.origins.get(("backend_port", backend.id), ("", 0))[0] == path
    ]
