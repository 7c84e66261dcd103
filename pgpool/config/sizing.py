"""Do the backends allow as many connections as this pgpool may want? Pure: the caller asks the backends."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import WARNING, Finding
from .snapshot import Settings

INFO = "INFO"


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """What one backend allows: its max_connections and superuser_reserved_connections."""

    node_id: int
    max_connections: int
    superuser_reserved: int = 3

    @property
    def usable(self) -> int:
        return self.max_connections - self.superuser_reserved


def connections_wanted(settings: Settings) -> int:
    """Backend connections that the children may hold at the same time on one backend."""
    return settings.num_init_children * max(settings.max_pool, 1)


def size_findings(settings: Settings, limits: list[NodeLimits]) -> list[Finding]:
    """One finding for each backend that allows too few connections, and one that says how to get by.

    The rule is max_pool * num_init_children <= max_connections - superuser_reserved_connections (behaviour.md 2).
    Cancel requests may need as many again for a moment, which is worth a hint only.
    """
    wanted = connections_wanted(settings)
    findings = []
    names = ("num_init_children", "max_pool")
    for node in limits:
        place = f"backend {node.node_id} allows {node.usable} connections " \
                f"(max_connections {node.max_connections} - superuser_reserved_connections {node.superuser_reserved})"
        if node.usable < settings.num_init_children:
            findings.append(Finding(WARNING, f"{place}, not even one for each of num_init_children "
                                    f"{settings.num_init_children}", names))
        elif node.usable < wanted:
            findings.append(Finding(WARNING, f"{place}, but num_init_children {settings.num_init_children} * max_pool "
                                    f"{settings.max_pool} may want {wanted}", names))
        elif node.usable < 2 * wanted:
            findings.append(Finding(INFO, f"{place}: enough for {wanted}, but not for as many cancel requests at once",
                                    names))
    smallest = min((node.usable for node in limits), default=None)
    if smallest is not None and smallest < wanted:
        findings.append(Finding(INFO, _advice(settings, smallest, wanted), names))
    return findings


def _advice(settings: Settings, smallest: int, wanted: int) -> str:
    choices = []
    pool = smallest // settings.num_init_children
    if pool >= 1:
        choices.append(f"max_pool = {pool}")
    children = smallest // max(settings.max_pool, 1)
    if children >= 1:
        choices.append(f"num_init_children = {children}")
    choices.append(f"max_connections of at least {wanted} plus superuser_reserved_connections on every backend")
    return "this would fit: " + ", or ".join(choices)
