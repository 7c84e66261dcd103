"""What the command line said: the same for every process of one pgpool, and never changed by a reload."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Absolute paths (commands.md section 1). ``key_file`` '' leaves it to PGPOOLKEYFILE and ~/.pgpoolkey."""

    config_file: str
    hba_file: str = ""
    pcp_file: str = ""
    key_file: str = ""
    foreground: bool = False
    debug: bool = False
    discard_status: bool = False
    clear_oidmaps: bool = False
    assertions: bool = False
