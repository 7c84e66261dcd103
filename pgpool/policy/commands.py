"""What failover_command, failback_command and follow_primary_command are told (commands.md section 8): pure text."""

from __future__ import annotations

import re
from dataclasses import dataclass

NOBODY = '""'
"""Host, port and directory of a new main node that there is not."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node as a command sees it. ``id`` -1: there is none."""

    id: int = -1
    host: str = ""
    port: int = 0
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """What has happened: the node concerned, the new main node (follow_primary_command: the new primary), the old ones."""

    node: Place
    new_main: Place
    old_main: int
    old_primary: Place


def expand(template: str, happening: Happening) -> str:
    """The command with its placeholders filled in. Unknown ones vanish, as does a percent sign at the end.

    Values stand there as they are, without blanks around them: that is what Debian's pgpool2 4.3.5 runs.
    """
    node, new, old = happening.node, happening.new_main, happening.old_primary
    values = {
        "d": str(node.id),
        "h": node.host,
        "p": str(node.port),
        "D": node.directory,
        "m": str(new.id),
        "H": new.host if new.id >= 0 else NOBODY,
        "r": str(new.port) if new.id >= 0 else NOBODY,
        "R": new.directory if new.id >= 0 else NOBODY,
        "M": str(happening.old_main),
        "P": str(old.id),
        "N": old.host if old.id >= 0 else NOBODY,
        "S": str(old.port) if old.id >= 0 else NOBODY,
        "%": "%",
    }
    return re.sub("%(.?)", lambda found: values.get(found[1], ""), template, flags=re.DOTALL)
