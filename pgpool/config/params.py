"""THE parameter table: one row per parameter. It feeds the reader, SHOW, PGPOOL SET, the samples and the documentation.

To add a parameter: one row in the params_*.py file of its theme, then ``python -m pgpool.config.samples``.
"""

from __future__ import annotations

from . import params_balance, params_cache, params_connection, params_failover, params_process, params_watchdog
from .param import Param
from .params_old import OLD_NAMES, OldName

PARAMS: tuple[Param, ...] = (
    *params_connection.ROWS,
    *params_process.ROWS,
    *params_balance.ROWS,
    *params_failover.ROWS,
    *params_watchdog.ROWS,
    *params_cache.ROWS,
)

BY_NAME: dict[str, Param] = {param.name: param for param in PARAMS}
RENAMED: dict[str, Param] = {old: param for param in PARAMS for old in param.old_names}
REMOVED: dict[str, OldName] = {old.name: old for old in OLD_NAMES}

assert len(BY_NAME) == len(PARAMS)


def split_index(name: str) -> tuple[str, int | None]:
    """``backend_port12`` -> ``("backend_port", 12)``; a name without an index in it -> ``(name, None)``.

    The longest parameter name that begins ``name`` counts (commands.md section 5), so ``wd_port0`` is node 0's wd_port.
    """
    if name in BY_NAME or name in RENAMED:
        return name, None
    stem = name.rstrip("0123456789")
    digits = name[len(stem):]
    if not digits or len(digits) > 9 or not digits.isascii():
        return name, None
    return stem, int(digits)
