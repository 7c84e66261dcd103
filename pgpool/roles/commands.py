"""failover_command, failback_command and follow_primary_command, run by a process that is forked for them.

It is not in the nursery: a shutdown neither waits for it nor ends it, for a promotion should not stop half way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..policy.commands import Happening, expand
from ..shared import Lock
from ..system import process
from ..system.logs import LOG, log

if TYPE_CHECKING:
    from ..shared import Shared

FOLLOW = "follow_primary_command"


def commands_main(
    name: str,
    template: str,
    happenings: Sequence[Happening],
    limit: float,
    shared: Shared,
    close_doors: Callable[[], None],
) -> int:
    """Run the command ``name`` once for each node, one after the other; 1 when one of them failed.

    ``limit``: seconds each may take, 0 for as long as it takes; follow_primary_command may copy a database, and has none.
    """
    close_doors()
    process.stand_alone()
    process.set_title(f"pgpool: {name}")
    log.set_process(name, "COMMAND")
    with shared.lock(Lock.FOLLOW_PRIMARY) if name == FOLLOW else nullcontext():
        return max(run_one(name, template, happening, 0 if name == FOLLOW else limit) for happening in happenings)


def run_one(name: str, template: str, happening: Happening, limit: float) -> int:
    """One node: the command and each line it prints go to the log, and how it ended."""
    command = expand(template, happening)
    log.log(LOG, f"execute command: {command}")
    try:
        code = process.run_told(command, lambda line: log.log(LOG, f"{name}: {line}"), limit)
    except TimeoutError:
        log.warning(
            f"{name} for node {happening.node.id} was ended, it took more than {limit:g} s (failover_command_timeout)",
            detail=command,
        )
        return 1
    if code:
        log.warning(f"{name} for node {happening.node.id} ended with exit code {code}", detail=command)
        return 1
    log.log(LOG, f"{name} for node {happening.node.id} ended with exit code 0")
    return 0
