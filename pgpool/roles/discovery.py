"""backend_discovery: standbys that stream from the primary and that nobody has configured become backends."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config import discovered
from ..policy.failover import streams_from
from ..shared import RequestKind
from ..system import process, signals, sockets
from ..system.logs import DEBUG1, LOG, log
from . import files
from .search import ADDED, ask_all

if TYPE_CHECKING:
    from ..config.settings import BackendConf
    from .loop import Loop

AGAIN = 60.0
"""Seconds until a client of the primary is looked at again that could not be used."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who streams from the primary, by pg_stat_replication. ``address`` '': by a unix socket, or we may not see it."""

    name: str
    address: str


class Discovery:
    def __init__(self, loop: Loop):
        self._loop = loop
        self._next: dict[Client, float] = {}
        """When a client may be looked at again (time.monotonic)."""

    def look(self, primary: int, clients: Iterable[Client]) -> None:
        """Once a round: take those in that are new, and use the ones that were taken in."""
        loop, now = self._loop, time.monotonic()
        if not discovered.path_of(loop.settings):
            return
        clients = [client for client in clients if client.address]
        shared_names = {name for name, count in Counter(client.name for client in clients).items() if count > 1}
        names, places = self._known(primary)
        found: list[BackendConf] = []
        for client in clients:
            if client.address in places or client.name in names - shared_names or now < self._next.get(client, 0.0):
                continue
            self._next[client] = now + AGAIN
            name = "" if client.name in shared_names else client.name
            backend = self._as_backend(client.address, name, primary, len(found))
            why_not = self._why_not(backend, primary)
            if why_not:
                log.log(LOG, f'the standby "{client.name}" at {client.address} is not made a backend: {why_not}')
            else:
                found.append(backend)
                places.add(client.address)  # a program that receives WAL may stream from there too
        if found:
            self._keep(found)
        self._attach(clients)

    def _known(self, primary: int) -> tuple[set[str], set[str]]:
        """The backends' application_names, and the addresses of those at the primary's port. A backend that neither tells
        is known by what it says itself (_why_not)."""
        backends = self._loop.settings.backends
        names = {backend.application_name for backend in backends} - {""}
        there = [backend for backend in backends if backend.port == backends[primary].port]
        return names, {address for backend in there for address in addresses(backend)}

    def _as_backend(self, address: str, name: str, primary: int, ahead: int) -> BackendConf:
        backends = self._loop.settings.backends
        return replace(
            backends[primary], id=len(backends) + ahead, hostname=address, application_name=name, data_directory="",
            flags=frozenset(), weight=1.0,
        )  # fmt: skip

    def _why_not(self, backend: BackendConf, primary: int) -> str:
        """What stands against using it; '' when nothing."""
        loop, backends = self._loop, self._loop.settings.backends
        if backend.id >= loop.shared.layout.nodes:
            return "there is no room for more backends, pgpool must be restarted"
        prober = loop.prober
        answer = ask_all(prober, backend)
        if answer.in_recovery is None:
            return f"it does not answer at port {backend.port}"
        if not streams_from(answer, ask_all(prober, backends[primary])):
            return f"the server at port {backend.port} does not stream from the primary"
        began = prober.began(backend)
        if not began:
            return "it does not say when it was started"
        for other in backends:
            if other.used and loop.shared.nodes[other.id].state.usable and prober.began(other) == began:
                return f"it is backend {other.id}"
        return ""

    def _keep(self, found: list[BackendConf]) -> None:
        """Write them down and have everybody read it."""
        settings = self._loop.settings
        path = discovered.path_of(settings)
        try:
            files.replace(path, discovered.render([*discovered.of_file(settings), *found]))
        except (OSError, ValueError) as err:
            log.warning(f'could not write "{path}"', detail=str(err))
            return
        for backend in found:
            log.log(LOG, f"the standby at {backend.hostname}:{backend.port} becomes backend {backend.id}")
        process.kill(self._loop.shared.parent_pid, signals.SIGHUP)

    def _attach(self, clients: list[Client]) -> None:
        """What was taken in is down until somebody attaches it, as any new backend."""
        loop = self._loop
        there = {client.address for client in clients}
        for backend in discovered.of_file(loop.settings):
            if loop.shared.nodes[backend.id].view().reason == ADDED and backend.hostname in there:
                log.log(DEBUG1, f"backend {backend.id} streams from the primary, it is to be used")
                loop.ask_parent(RequestKind.UP, (backend.id,))


def addresses(backend: BackendConf) -> set[str]:
    """Of its host, as text; none of a unix socket or of a name that the resolver does not know."""
    if not backend.used or backend.hostname == "" or os.path.isabs(backend.hostname):
        return set()
    try:
        return set(sockets.addresses_of(backend.hostname))
    except OSError:
        return set()
