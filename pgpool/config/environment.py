"""PGPOOL_PARAMS_* environment variables -> lines of pgpool.conf (containers; the names are those of pgpool's own image)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import ConfigFaults, Fault
from .params import BY_NAME, RENAMED, split_index
from .reader import quote

PREFIX = "PGPOOL_PARAMS_"
_FROM_FILE = "_file"


def lines(environ: Mapping[str, str], read: Callable[[str], str]) -> list[str]:
    """One line for each variable, by name. ``PGPOOL_PARAMS_X_FILE`` gives the file that holds the value of x, for
    ``read`` (OSError). Raises ConfigFaults with all faults; no value is in them."""
    made, faults = [], []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        name, value = variable.removeprefix(PREFIX).lower(), environ[variable]
        try:
            if not _known(name) and name.endswith(_FROM_FILE) and _known(name.removesuffix(_FROM_FILE)):
                name, value = name.removesuffix(_FROM_FILE), read(value).rstrip("\n")
            if not _known(name):
                raise ValueError(f'there is no parameter "{name}"')
            made.append(f"{name} = {quote(value)}\n")
        except (ValueError, OSError) as err:
            reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
            faults.append(Fault(variable, 0, reason))
    if faults:
        raise ConfigFaults(faults)
    return made


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without these variables: they may hold passwords."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _known(name: str) -> bool:
    stem, _ = split_index(name)
    return stem in BY_NAME or stem in RENAMED
