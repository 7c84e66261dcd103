"""What one row of the parameter table says. The rows are in params_*.py; params.py puts them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

BOOL = "bool"
INT = "int"
INT64 = "int64"
DOUBLE = "double"
ENUM = "enum"
STRING = "string"
LIST = "string-list"

INIT = "INIT"
"""Only a restart changes it."""
RELOAD = "RELOAD"
"""SIGHUP changes it."""
SESSION = "SESSION"
"""SIGHUP changes it, and PGPOOL SET for one session."""

BACKEND = "backend"
"""One value per backend; there is no index-free value."""
BACKEND_DEFAULT = "backend-default"
"""One value per backend; the index-free value is for backends without their own."""
WATCHDOG = "watchdog"
"""One value per pgpool node of the watchdog cluster."""

MAX_INDEX = 127
MAX_HEARTBEAT_INDEX = 255
INT_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter.

    ``default``, ``min`` and ``max`` are in the parameter's own unit (``unit``: '' no suffix accepted, else one of
    us ms s min h d / B kB MB GB TB). ``choices`` maps enum names to the codes SHOW pool_status prints; ``aliases`` maps
    spellings of older versions to a choice. ``form`` brings a string into its one spelling or raises ValueError.
    ``octal``: written in octal in the 'file' only, or by SHOW too ('show'). ``since``: the Pgpool-II version that
    brought it, or 'ours'. ``was``: another default that older versions had, and until when (``off before 4.3``).
    """

    name: str
    type: str
    default: bool | int | float | str | tuple[str, ...]
    context: str
    section: str
    help: str
    unit: str = ""
    min: int | float = 0
    max: int | float | None = None
    choices: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    indexing: str | None = None
    max_index: int = MAX_INDEX
    was: str = ""
    old_names: tuple[str, ...] = ()
    hidden: bool = False
    secret: bool = False
    separator: str = ","
    form: Callable[[str], str] | None = None
    octal: str = ""
    since: str = ""

    def __post_init__(self) -> None:
        if self.max is None:
            limit = {INT: INT_MAX, INT64: INT64_MAX}.get(self.type)
            object.__setattr__(self, "max", limit)

    @property
    def indexed(self) -> bool:
        return self.indexing is not None

    @property
    def has_plain_value(self) -> bool:
        """The name without an index means something in the file."""
        return self.indexing in (None, BACKEND_DEFAULT)
