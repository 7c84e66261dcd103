"""Files with secrets that everybody on this machine can read (told, not refused: Pgpool-II reads them as they are)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from ..auth.hba import Hba
from ..config.params import BY_NAME
from ..config.settings import Settings
from ..system.logs import log
from .options import Options

_FILES = {"pool_passwd"}
"""Parameters marked secret that hold no secret themselves."""


def tell_exposed(settings: Settings, options: Options, rules: Hba | None) -> None:
    """One warning for each; called at the start and at each reload, by one process."""
    for path in exposed(secret_files(settings, options, rules)):
        log.warning(f'file "{path}" holds passwords and can be read by everybody', detail="chmod o-rwx takes that away")


def secret_files(settings: Settings, options: Options, rules: Hba | None) -> list[str]:
    """The files that hold secrets as they are configured now."""
    files = [options.pcp_file, settings.path("pool_passwd")]
    if rules is not None and any("ldapbindpasswd" in rule.options for rule in rules.rules):
        files.append(options.hba_file)
    for (name, index), value in settings.items():
        if value and BY_NAME[name].secret and name not in _FILES:
            files.append(settings.origins.get((name, index), (options.config_file, 0))[0])
    return list(dict.fromkeys(path for path in files if path))


def exposed(paths: Iterable[str]) -> list[str]:
    """Those of the files that others than their owner and group can read; an empty file gives nothing away."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue  # whoever reads it says so
        if status.st_mode & stat.S_IROTH and status.st_size:
            found.append(path)
    return found
