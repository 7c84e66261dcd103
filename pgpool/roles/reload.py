"""Reading pgpool.conf again: what is wrong is told, and then nothing changes."""

from __future__ import annotations

from ..auth import hba, passwd
from ..auth.hba import Hba
from ..auth.passwd import PasswordFile
from ..config.settings import Settings, load
from ..errors import ConfigFaults, Fault
from ..model import NodeState
from ..policy.route import RoutingSettings
from ..shared import Shared
from ..sql.names import BadList
from ..system import tls
from ..system.logs import Level, log
from .options import Options


def read_again(
    options: Options, settings: Settings, shared: Shared | None = None, *, quiet: bool = False
) -> Settings:
    """The settings after a reload: new ones, or the same object when the file has faults or cannot be read.

    ``shared`` tells which nodes are down: their host, port and directory may change. ``quiet``: only the parent tells
    what it found, the other processes read the same file.
    """
    down = nodes_down(shared) if shared is not None else frozenset()
    try:
        loaded = load(options.config_file, base=settings, down=down)
        check_lists(loaded.settings)
    except (ConfigFaults, OSError) as err:
        faults = err.faults if isinstance(err, ConfigFaults) else [Fault(options.config_file or "", 0, str(err))]
        in_force(settings, quiet=quiet)
        if not quiet:
            for fault in faults:
                log.warning(str(fault))
            log.warning(
                "the configuration was not reloaded, the old values stay in force",
                detail=f"{len(faults)} fault(s) in the configuration",
            )
        return settings
    if not quiet:
        for message in loaded.messages:
            place = f"{message.file}:{message.line}: " if message.line else ""
            log.log(Level[message.level], f"{place}{message.text}", message.detail)
    in_force(loaded.settings, quiet=quiet)
    return loaded.settings


def in_force(settings: Settings, *, quiet: bool = False) -> None:
    """Every process passes here at each reload, with the settings in force from now on: the old ones when the file has
    faults. What is to be read or opened again in all of them has its line here."""
    log.configure(settings)
    read_certificates(settings, quiet=quiet)


def read_certificates(settings: Settings, *, quiet: bool = False) -> list[Fault]:
    """All certificates and keys, again. What cannot be used is told, and what was there stays in force."""
    found = tls.renew(settings)
    faults = []
    for name, text in found.problems:
        file, line = settings.origins.get((name, None), (settings.config_file, 0))
        faults.append(Fault(file, line, text))
    if not quiet:
        for warning in (*found.warnings, *map(str, faults)):
            log.warning(warning)
        if found.problems and settings.ssl and found.server is None:
            log.warning("clients cannot use TLS")
    return faults


def check_lists(settings: Settings) -> None:
    """Raises ConfigFaults for a list of functions, patterns or preferences that routing cannot use."""
    try:
        RoutingSettings.of(settings)
    except BadList as bad:
        places = [place for (name, _), place in settings.origins.items() if name in str(bad)]
        file, line = places[0] if places else (settings.config_file, 0)
        raise ConfigFaults([Fault(file, line, str(bad))]) from None


def read_passwords(settings: Settings, options: Options, *, quiet: bool = False) -> PasswordFile:
    """pool_passwd; an unreadable file counts as empty, and is told."""
    path = settings.path("pool_passwd")
    try:
        passwords = passwd.load(path, options.key_file)
    except OSError as err:
        if not quiet:
            log.warning(f'could not open or create the pool_passwd file "{path}"', detail=err.strerror or str(err))
        return PasswordFile()
    if not quiet:
        for fault in passwords.faults:
            log.warning(str(fault))
    return passwords


def read_rules(settings: Settings, options: Options, old: Hba | None = None, *, quiet: bool = False) -> Hba | None:
    """pool_hba.conf; None while enable_pool_hba is off. A file with faults leaves ``old`` in force; where there is none
    (at start) it raises ConfigFaults."""
    if not settings.enable_pool_hba:
        return None
    try:
        rules = hba.load(options.hba_file)
    except ConfigFaults as err:
        if old is None:
            raise
        if not quiet:
            for fault in err.faults:
                log.warning(str(fault))
            log.warning("pool_hba.conf was not reloaded, the old rules stay in force")
        return old
    return rules


def nodes_down(shared: Shared) -> frozenset[int]:
    """Ids of the nodes that are not in use now."""
    return frozenset(node.id for node in shared.nodes if node.state in (NodeState.DOWN, NodeState.UNUSED))
