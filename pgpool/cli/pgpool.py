"""The pgpool command: start, stop, reload (commands.md section 1)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import version_text
from ..config.settings import Loaded, Settings, load
from ..errors import ConfigFaults, PgpoolError
from ..roles import files
from ..roles.options import Options
from ..system import process, signals, sockets
from ..system.logs import LOG, Level, log

if TYPE_CHECKING:
    from ..config.checks import Finding
    from ..system.sockets import Listener

EXIT_OK = 0
EXIT_USAGE = 1
"""Wrong words on the command line; another pgpool runs; nothing to reload."""
EXIT_FATAL = 3
"""A fatal error: bad configuration, no pid file to stop by, a socket that cannot be opened."""

RESEND_AFTER = 5
"""``stop`` sends its signal again every so many seconds."""

USAGE = """\
pgpool version {version}
  A connection pool, load balancer and failover proxy for PostgreSQL

Usage:
  pgpool [OPTION]...                    start
  pgpool [OPTION]... [-m MODE] stop     stop the running pgpool
  pgpool [OPTION]... reload             make the running pgpool read its configuration again

Files:
  -a, --hba-file=FILE      pool_hba.conf (default: {hba})
  -f, --config-file=FILE   pgpool.conf (default: {conf})
  -F, --pcp-file=FILE      pcp.conf (default: {pcp})
  -k, --key-file=FILE      key of the AES passwords
                           (default: the environment's PGPOOLKEYFILE, else ~/.pgpoolkey)

Start:
  -n, --dont-detach        stay in the foreground, log to the terminal
  -D, --discard-status     forget the node states stored in pgpool_status
  -C, --clear-oidmaps      clear the oid maps of the query cache (memqcache_method = memcached)
  -d, --debug              log at least DEBUG1
  -x, --debug-assertions   assertion checks
      --check              do not start: check the configuration, print all faults, and compare the
                           number of connections with what the reachable backends allow

Stop:
  -m, --mode=MODE          smart: wait for all clients to leave; fast, immediate: end their sessions

  -v, --version            print the version and exit
  -h, --help               print this and exit
"""

# letter, long name, takes an argument. getopt string of the incumbent: a:df:k:F:hm:nDCxv; --check is ours.
_OPTIONS = (
    ("a", "hba-file", True),
    ("f", "config-file", True),
    ("F", "pcp-file", True),
    ("k", "key-file", True),
    ("h", "help", False),
    ("m", "mode", True),
    ("n", "dont-detach", False),
    ("D", "discard-status", False),
    ("C", "clear-oidmaps", False),
    ("x", "debug-assertions", False),
    ("d", "debug", False),
    ("v", "version", False),
    ("", "check", False),
)
_BY_LETTER = {letter: (long, takes) for letter, long, takes in _OPTIONS if letter}
_BY_NAME = {long: takes for _, long, takes in _OPTIONS}
_STOP_SIGNALS = {"s": signals.SIGTERM, "f": signals.SIGINT, "i": signals.SIGQUIT}


class UsageError(Exception):
    """The command line makes no sense; the text (may be empty) goes in front of the usage."""


@dataclass(frozen=True, slots=True)
class Command:
    """What was typed. ``word`` is start, stop, reload, check, help or version."""

    word: str
    options: Options
    stop_signal: int = signals.SIGTERM


# -- the command line --------------------------------------------------------------------------------


def split_options(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(options as (long name, argument), words). Options end at the first word; long names are not abbreviated."""
    found: list[tuple[str, str]] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        item = rest.pop(0)
        if item == "--":
            break
        if item.startswith("--"):
            _long_option(item[2:], rest, found)
        else:
            _short_options(item[1:], rest, found)
        if found and found[-1][0] in ("help", "version"):
            break
    return found, rest


def _long_option(item: str, rest: list[str], found: list[tuple[str, str]]) -> None:
    name, equals, value = item.partition("=")
    if name not in _BY_NAME:
        raise UsageError(f"illegal option -- {name}")
    if not _BY_NAME[name]:
        value = ""
    elif not equals:
        if not rest:
            raise UsageError(f"option requires an argument -- {name}")
        value = rest.pop(0)
    found.append((name, value))


def _short_options(cluster: str, rest: list[str], found: list[tuple[str, str]]) -> None:
    while cluster:
        letter, cluster = cluster[0], cluster[1:]
        if letter not in _BY_LETTER:
            raise UsageError(f"illegal option -- {letter}")
        name, takes = _BY_LETTER[letter]
        value = ""
        if takes:
            if not cluster and not rest:
                raise UsageError(f"option requires an argument -- {letter}")
            value, cluster = cluster or rest.pop(0), ""
        found.append((name, value))
        if name in ("help", "version"):
            return


def parse_command(argv: Sequence[str]) -> Command:
    """The command line as a Command. Raises UsageError."""
    found, words = split_options(argv)
    given = dict(found)
    directory = sysconfdir()
    options = Options(
        config_file=os.path.abspath(given.get("config-file") or os.path.join(directory, "pgpool.conf")),
        hba_file=os.path.abspath(given.get("hba-file") or os.path.join(directory, "pool_hba.conf")),
        pcp_file=os.path.abspath(given.get("pcp-file") or os.path.join(directory, "pcp.conf")),
        key_file=os.path.abspath(given["key-file"]) if given.get("key-file") else "",
        foreground="dont-detach" in given,
        debug="debug" in given,
        discard_status="discard-status" in given,
        clear_oidmaps="clear-oidmaps" in given,
        assertions="debug-assertions" in given,
    )
    for last in ("help", "version"):
        if last in given:
            return Command(last, options)
    mode = given.get("mode", "smart")
    if mode[:1] not in _STOP_SIGNALS:
        raise UsageError("")
    if len(words) > 1 or (words and words[0] not in ("stop", "reload")):
        raise UsageError("")
    word = words[0] if words else "check" if "check" in given else "start"
    return Command(word, options, _STOP_SIGNALS[mode[0]])


def sysconfdir() -> str:
    """Directory of the files by default: $PGPOOL_SYSCONFDIR (ours), /etc/pgpool2 where it is, else our own etc."""
    if directory := os.environ.get("PGPOOL_SYSCONFDIR"):
        return directory
    return "/etc/pgpool2" if os.path.isdir("/etc/pgpool2") else os.path.join(sys.prefix, "etc")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _usage() -> str:
    directory = sysconfdir()
    return USAGE.format(
        version=version_text(),
        conf=os.path.join(directory, "pgpool.conf"),
        hba=os.path.join(directory, "pool_hba.conf"),
        pcp=os.path.join(directory, "pcp.conf"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one pgpool command; returns the exit code. ``argv`` without the program name; None: of this process."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        command = parse_command(arguments)
    except UsageError as err:
        _say(f"{sys.argv[0]}: {err}\n" if str(err) else "")
        _say(_usage())
        return EXIT_USAGE
    try:
        return _WORDS[command.word](command)
    except ConfigFaults as err:
        for fault in err.faults:
            log.fatal(str(fault))
        return EXIT_FATAL
    except PgpoolError as err:
        log.problem(err)
        return EXIT_FATAL
    except KeyboardInterrupt:
        return 128 + signals.SIGINT


# -- the words ---------------------------------------------------------------------------------------


def _help(command: Command) -> int:
    _say(_usage())
    return EXIT_OK


def _version(command: Command) -> int:
    _say(f"pgpool version {version_text()}\n")
    return EXIT_OK


def _load(options: Options) -> Settings:
    """The settings, the log set up by them, and what the operator should know told. Raises ConfigFaults."""
    loaded = load(options.config_file)
    log.configure(loaded.settings, debug=options.debug)
    _tell(loaded)
    return loaded.settings


def _tell(loaded: Loaded) -> None:
    for message in loaded.messages:
        place = f"{message.file}:{message.line}: " if message.line else ""
        log.log(Level[message.level], f"{place}{message.text}", message.detail)


def _pid_file(settings: Settings) -> str:
    return settings.path("pid_file_name")


def _read_pid(settings: Settings) -> int | None:
    """The pid of the running pgpool, None when no pid file says one. An unreadable file counts as none, and is told."""
    path = _pid_file(settings)
    try:
        return files.read_pid(path)
    except OSError as err:
        log.warning(f'could not read pid file "{path}"', detail=err.strerror)
        return None


def _stop(command: Command) -> int:
    settings = _load(command.options)
    pid = _read_pid(settings)
    if pid is None:
        log.fatal("could not read pid file", detail=_pid_file(settings))
        return EXIT_FATAL
    seconds = 0
    while True:
        if seconds % RESEND_AFTER == 0 and not _signal(pid, command.stop_signal):
            if seconds == 0:
                log.fatal(f"could not stop process with pid: {pid}", detail="No such process")
                return EXIT_FATAL
            break
        if seconds == 0:
            log.log(LOG, f"stop request sent to pgpool (pid: {pid}). waiting for termination...")
        if _gone_within_a_second(pid):
            break
        _say(".")
        seconds += 1
    _say(".done.\n")
    files.remove(_pid_file(settings))
    return EXIT_OK


def _signal(pid: int, signum: int) -> bool:
    """Send a signal; False when the process is gone. Raises PgpoolError when it is not ours to signal."""
    try:
        return process.kill(pid, signum)
    except PermissionError as err:
        raise PgpoolError(
            f"could not stop process with pid: {pid}", detail=err.strerror or str(err), severity="FATAL"
        ) from None


def _gone_within_a_second(pid: int) -> bool:
    for _ in range(20):
        if not process.alive(pid):
            return True
        process.sleep(0.05)
    return False


def _reload(command: Command) -> int:
    settings = _load(command.options)
    pid = _read_pid(settings)
    if pid is None:
        log.fatal("could not read pid file", detail=_pid_file(settings))
        return EXIT_USAGE
    try:
        reason = "" if process.kill(pid, signals.SIGHUP) else "No such process"
    except PermissionError as err:
        reason = err.strerror or str(err)
    if reason:
        log.fatal(f"could not reload configuration file pid: {pid}", detail=reason)
        return EXIT_USAGE
    return EXIT_OK


def _start(command: Command) -> int:
    options = command.options
    settings = _load(options)
    _refuse_root(settings)
    pid = _read_pid(settings)
    if pid is not None and pid != os.getpid():
        if process.alive(pid):
            _say(f"ERROR: pid file found. is another pgpool({pid}) is running?\n")
            return EXIT_USAGE
        _say("NOTICE: pid file found but it seems bogus. Trying to start pgpool anyway...\n")
    # Heavy: everything the children need is imported here, once, before they are forked; stop and reload do without.
    from ..pcp import server as pcp_server
    from ..roles import doors, exposed, notyet, parent, reload  # heavy as well

    notyet.refuse(settings)
    reload.check_lists(settings)
    reload.read_certificates(settings)
    rules = reload.read_rules(settings, options)
    for warning in notyet.missing(settings):
        log.warning(warning)
    exposed.tell_exposed(settings, options, rules)
    if settings.protect_memory:
        process.protect_memory()
    sockets.limit_lookups()
    listeners = doors.open_listeners(settings)
    pcp_listeners: list[Listener] = []
    ready = None
    try:
        pcp_listeners = pcp_server.open_listeners(settings)
        _claim_pid_file(settings)
        if not options.foreground:
            ready = process.daemonize([listener.fileno() for listener in (*listeners, *pcp_listeners)])
            _claim_pid_file(settings)
        server = parent.Parent(settings, options, listeners, _pid_file(settings), rules, pcp_listeners)
    except BaseException:
        for listener in (*listeners, *pcp_listeners):
            listener.stop()
        if _read_pid(settings) == os.getpid():
            files.remove(_pid_file(settings))
        raise
    if ready is not None:
        ready()
    return server.run()


def _refuse_root(settings: Settings) -> None:
    """Root starts pgpool with allow_root only, as PostgreSQL is never started by root. Raises PgpoolError.

    A real or saved user id of 0 counts too: such a process can become root again.
    """
    if settings.allow_root or 0 not in os.getresuid():
        return
    raise PgpoolError(
        "pgpool must not be run as root",
        detail="It needs no privileges, and failover and recovery commands would run with all of root's.",
        hint="Start it as a user of its own (systemd: User=postgres; by hand: setpriv or su), "
        "or set allow_root = on in pgpool.conf.",
        severity="FATAL",
    )


def _claim_pid_file(settings: Settings) -> None:
    path = _pid_file(settings)
    try:
        files.write_pid(path, os.getpid())
    except OSError as err:
        raise PgpoolError(
            f'could not open pid file "{path}"', detail=err.strerror or str(err), severity="FATAL"
        ) from None


def _check(command: Command) -> int:
    """Validate: every fault and warning, the password and hba files, and the sizing where backends can be asked."""
    options = command.options
    loaded = load(options.config_file)
    log.configure(loaded.settings.replace(log_min_messages="info"), debug=options.debug)
    _tell(loaded)
    from ..roles import notyet, reload  # routing is loaded for this and for the start only

    notyet.refuse(loaded.settings)
    reload.check_lists(loaded.settings)
    faults = len(reload.read_certificates(loaded.settings)) + _check_files(loaded.settings, options)
    for finding in _sizing(loaded.settings, options):
        log.log(Level[finding.level], finding.text)
    print(f"{options.config_file}: {f'{faults} fault(s) in other files' if faults else 'no faults'}")
    return EXIT_USAGE if faults else EXIT_OK


def _check_files(settings: Settings, options: Options) -> int:
    from ..auth import hba, passwd  # only needed here; stop and reload shall be quick

    faults = []
    if settings.enable_pool_hba:
        try:
            hba.load(options.hba_file)
        except ConfigFaults as err:
            faults += err.faults
        except OSError as err:
            log.fatal(f'could not open "{options.hba_file}"', detail=err.strerror)
            return 1
    path = settings.path("pool_passwd")
    if path and os.path.exists(path):
        try:
            faults += passwd.load(path, options.key_file).faults
        except OSError as err:
            log.fatal(f'could not open "{path}"', detail=err.strerror)
            return 1
    for fault in faults:
        log.fatal(str(fault))
    return len(faults)


def _sizing(settings: Settings, options: Options) -> list[Finding]:
    from ..config.sizing import size_findings  # only needed here
    from ..roles.limits import ask_limits

    return size_findings(settings, ask_limits(settings, options))


_WORDS = {
    "start": _start,
    "stop": _stop,
    "reload": _reload,
    "check": _check,
    "help": _help,
    "version": _version,
}

if __name__ == "__main__":
    sys.exit(main())
