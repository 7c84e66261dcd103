"""The PCP clients: pcp_attach_node, pcp_node_info and the others (commands.md section 6). One row of TOOLS each.

Options, texts and exit codes are those of Pgpool-II: 0 also when the server refused the command, 1 when there was no
connection or login, or when the command line makes no sense.
"""

from __future__ import annotations

import getopt
import getpass
import os
import pwd
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import version_text
from ..pcp.client import DEFAULT_PORT, Broken, Client, CommandRefused, ConnectFailed, LoginRefused, stored_password
from ..wire import pcp
from . import tools_print as prints

COMMON = (
    ("U:", "username=", "NAME", "username for PCP authentication"),
    ("h:", "host=", "HOSTNAME", "pgpool-II host"),
    ("p:", "port=", "PORT", "PCP port number"),
    ("w", "no-password", "", "never prompt for password"),
    ("W", "password", "", "force password prompt (should happen automatically)"),
)
LAST = (
    ("d", "debug", "", "enable debug message (optional)"),
    ("v", "verbose", "", "output verbose messages"),
    ("V", "version", "", "print the version"),
    ("?", "help", "", "print this help"),
)
"""(letter, long name, name of the argument, what it does) in getopt's notation."""

NODE = ("n:", "node-id=", "NODEID", "ID of a backend node")
GRACEFULLY = ("g", "gracefully", "", "wait until all clients have gone; new ones have to wait (optional)")
SCOPE = ("s:", "scope=", "SCOPE", 'SCOPE can be "cluster", or "local"')
MAX_NODE = 128
_SENT_AS = {b"J": b"E", b"j": b"E", b"O": b"D", b"H": b"L", b"V": b"Z"}
"""What -d calls these messages (pcp_protocol.md 5)."""


@dataclass
class Wish:
    """The command line, read. ``number``: node id, process id or watchdog id; None when it was not given."""

    host: str = ""
    port: int = DEFAULT_PORT
    user: str = ""
    ask: bool = False
    never_ask: bool = False
    debug: bool = False
    verbose: bool = False
    everything: bool = False
    gracefully: bool = False
    switchover: bool = False
    mode: str = "s"
    cluster: bool = False
    number: int | None = None
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tool:
    """``run`` does the work and returns what goes to stdout; '' means the plain word of success.
    ``argument``: the number that may also be given without its option; ``required``: it must be given."""

    about: str
    run: Callable[[Client, Wish], str]
    options: tuple[tuple[str, str, str, str], ...] = ()
    argument: str = ""
    required: bool = False


class Stop(Exception):
    """The command line ends the command, with this exit code; the text goes to stderr."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


# -- what each tool does ----------------------------------------------------------------------------------------------


def _attach(client: Client, wish: Wish) -> str:
    client.attach(wish.number or 0)
    return ""


def _detach(client: Client, wish: Wish) -> str:
    client.detach(wish.number or 0, gracefully=wish.gracefully)
    return ""


def _promote(client: Client, wish: Wish) -> str:
    client.promote(wish.number or 0, gracefully=wish.gracefully, switchover=wish.switchover)
    return ""


def _recover(client: Client, wish: Wish) -> str:
    client.recover(wish.number or 0)
    return ""


def _node_count(client: Client, wish: Wish) -> str:
    return prints.node_count(client.node_count(), wish.verbose)


def _node_info(client: Client, wish: Wish) -> str:
    node = -1 if wish.everything or wish.number is None else wish.number
    return prints.node_info(client.node_info(node), wish.verbose)


def _health(client: Client, wish: Wish) -> str:
    return prints.health_check_stats(client.health_check_stats(wish.number or 0), wish.verbose)


def _pool_status(client: Client, wish: Wish) -> str:
    return prints.pool_status(client.pool_status(), wish.verbose)


def _proc_count(client: Client, wish: Wish) -> str:
    return prints.process_count(client.process_pids(), wish.verbose)


def _proc_info(client: Client, wish: Wish) -> str:
    return prints.process_info(client.process_info(wish.number or 0), wish.verbose, wish.everything)


def _watchdog(client: Client, wish: Wish) -> str:
    return prints.watchdog_info(client.watchdog_info(-1 if wish.number is None else wish.number), wish.verbose)


def _stop(client: Client, wish: Wish) -> str:
    client.stop(wish.mode, cluster=wish.cluster)
    return ""


def _reload(client: Client, wish: Wish) -> str:
    client.reload_config(cluster=wish.cluster)
    return ""


def _rotate(client: Client, wish: Wish) -> str:
    client.rotate_log(cluster=wish.cluster)
    return ""


def _invalidate(client: Client, wish: Wish) -> str:
    client.invalidate_query_cache()
    return ""


TOOLS: dict[str, Tool] = {
    "pcp_attach_node": Tool("attach a node from pgpool-II", _attach, (NODE,), "node-id", True),
    "pcp_detach_node": Tool("detach a node from pgpool-II", _detach, (NODE, GRACEFULLY), "node-id", True),
    "pcp_health_check_stats": Tool(
        "display a pgpool-II health check stats data", _health, (NODE,), "node-id", True
    ),
    "pcp_invalidate_query_cache": Tool("invalidate the query cache of pgpool-II", _invalidate),
    "pcp_log_rotate": Tool("rotate the log file of pgpool-II", _rotate, (SCOPE,)),
    "pcp_node_count": Tool("display the total number of nodes under pgpool-II's control", _node_count),
    "pcp_node_info": Tool(
        "display a pgpool-II node's information",
        _node_info,
        (NODE, ("a", "all", "", "display all backend nodes information")),
        "node-id",
    ),
    "pcp_pool_status": Tool("display pgpool configuration and status", _pool_status),
    "pcp_proc_count": Tool("display the list of pgpool-II child process PIDs", _proc_count),
    "pcp_proc_info": Tool(
        "display a pgpool-II child process' information",
        _proc_info,
        (
            ("P:", "process-id=", "PID", "PID of the child process to get information for (optional)"),
            ("a", "all", "", "display all child processes and their available connection slots"),
        ),
        "process-id",
    ),
    "pcp_promote_node": Tool(
        "promote a node as new main from pgpool-II",
        _promote,
        (NODE, GRACEFULLY, ("s", "switchover", "", "switchover primary to specified node (optional)")),
        "node-id",
        True,
    ),
    "pcp_recovery_node": Tool("recover a node", _recover, (NODE,), "node-id", True),
    "pcp_reload_config": Tool("reload a pgpool-II config file", _reload, (SCOPE,)),
    "pcp_stop_pgpool": Tool(
        "terminate pgpool-II",
        _stop,
        (
            ("m:", "mode=", "MODE", 'MODE can be "smart", "fast", or "immediate"'),
            SCOPE,
            ("a", "all", "", "the same as --scope=cluster"),
        ),
    ),
    "pcp_watchdog_info": Tool(
        "display a pgpool-II watchdog's information",
        _watchdog,
        (("n:", "watchdog-id=", "ID", "ID of a pgpool, 0 for the local one; omitted: all of them"),),
        "watchdog-id",
    ),
}


# -- the command line -------------------------------------------------------------------------------------------------


def usage(name: str) -> str:
    tool = TOOLS[name]
    argument = f"[{tool.argument}]" if tool.argument else ""
    lines = [f"{name} - {tool.about}", "Usage:", f"{name} [OPTION...] {argument}", "Options:"]
    for letter, long, value, about in (*COMMON, *tool.options, *LAST):
        option = f"--{long}{value}"
        lines.append(f"  -{letter[0]}, {option:<18} {about}")
    return "\n".join(lines) + "\n\n"


def read(name: str, argv: Sequence[str], program: str) -> Wish:
    """The command line as a Wish. Raises Stop."""
    tool = TOOLS[name]
    options = (*COMMON, *tool.options, *LAST)
    try:
        found, words = getopt.gnu_getopt(list(argv), "".join(o[0] for o in options), [o[1] for o in options])
    except getopt.GetoptError as err:
        raise Stop(1, f"{program}: {_getopt_text(err)}\n{_hint(name)}") from None
    wish = Wish()
    names = {f"-{letter[0]}": long.rstrip("=") for letter, long, _, _ in options}
    for option, value in found:
        _take(name, wish, names.get(option, option.removeprefix("--")), value)
    if tool.argument and wish.number is None and words:
        _take(name, wish, tool.argument, words.pop(0))
    if tool.required and wish.number is None:
        raise Stop(1, f"{name}: missing {tool.argument}\n{_hint(name)}")
    wish.words = words
    return wish


def _hint(name: str) -> str:
    return f'Try "{name} --help" for more information.\n\n'


def _getopt_text(err: getopt.GetoptError) -> str:
    """The words of the C library."""
    short = len(err.opt) == 1
    if "requires argument" in err.msg:
        return f"option requires an argument -- '{err.opt}'" if short else f"option '--{err.opt}' requires an argument"
    if "must not have an argument" in err.msg:
        return f"option '--{err.opt}' doesn't allow an argument"
    if "not a unique prefix" in err.msg:
        return f"option '--{err.opt}' is ambiguous"
    return f"invalid option -- '{err.opt}'" if short else f"unrecognized option '--{err.opt}'"


def _take(name: str, wish: Wish, option: str, value: str) -> None:
    """One option into the wish. Raises Stop."""
    if option == "help":
        raise Stop(0, usage(name))
    if option == "version":
        raise Stop(0, f"{name} (pgpool-II) {version_text().split(' ')[0]}\n")
    flags = {
        "no-password": "never_ask", "password": "ask", "debug": "debug", "verbose": "verbose", "all": "everything",
        "gracefully": "gracefully", "switchover": "switchover",
    }  # fmt: skip
    if option in flags:
        setattr(wish, flags[option], True)
        if name == "pcp_stop_pgpool" and option == "all":
            wish.cluster = True
    elif option in ("host", "username"):
        setattr(wish, "user" if option == "username" else "host", value)
    elif option == "port":
        wish.port = _whole(value)
        if not 1024 < wish.port <= 65535:
            raise Stop(0, f'{name}: Invalid port number "{value}", must be between 1024 and 65535\n')
    elif option == "mode":
        wish.mode = _first_letter(value, ("smart", "immediate", "fast"))
        if not wish.mode:
            words = 'either "smart" "immediate" or "fast"'
            raise Stop(1, f'{name}: Invalid shutdown mode "{value}", must be {words} \n')
    elif option == "scope":
        letter = _first_letter(value, ("cluster", "local"))
        if not letter:
            raise Stop(1, f'{name}: Invalid command scope "{value}", must be either "cluster" or "local" \n')
        wish.cluster = letter == "c"
    else:
        wish.number = _number(name, option, value)


def _number(name: str, option: str, value: str) -> int:
    number = _whole(value)
    if option == "process-id":
        if number <= 0:
            raise Stop(0, f'{name}: Invalid process-id "{value}", must be greater than 0\n')
    elif not 0 <= number <= MAX_NODE:
        raise Stop(0, f'{name}: Invalid {option} "{value}", must be between 0 and {MAX_NODE}\n')
    return number


def _first_letter(value: str, words: tuple[str, ...]) -> str:
    """The letter of the word that was given whole or by its first letter; '' for another one."""
    return next((word[0] for word in words if value in (word, word[0])), "")


def _whole(value: str) -> int:
    """The number a text begins with, 0 when it begins with none, as atoi(3)."""
    match = re.match(r"\s*([-+]?\d{1,10})", value, re.ASCII)
    return int(match[1]) if match else 0


# -- running ----------------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _report(report: pcp.Report) -> None:
    text = f"{report.severity}:  {report.message}\n"
    if report.detail:
        text += f"DETAIL:  {report.detail}\n"
    if report.hint:
        text += f"HINT:  {report.hint}\n"
    _say(text + "\n")


def ask_password(prompt: str) -> str:
    """From the terminal without showing it; without a terminal from standard input."""
    if os.access("/dev/tty", os.R_OK | os.W_OK):
        try:
            with open("/dev/tty"):
                pass
            return getpass.getpass(prompt)
        except OSError:
            pass
    _say(prompt)
    line = sys.stdin.readline().rstrip("\n")
    _say("\n")
    return line


def _password(wish: Wish, user: str) -> str:
    if wish.ask and not wish.never_ask:
        return ask_password("Password: ")
    stored = stored_password(wish.host, wish.port, user, lambda text: _say(text + "\n"))
    if stored is None:
        return "" if wish.never_ask else ask_password("Password: ")
    return stored


def run(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one client; returns its exit code."""
    try:
        wish = read(name, sys.argv[1:] if argv is None else argv, sys.argv[0])
    except Stop as stop:
        _say(str(stop))
        return stop.code
    for word in wish.words:
        _say(f'{name}: Warning: extra command-line argument "{word}" ignored\n')
    user = wish.user or pwd.getpwuid(os.getuid()).pw_name
    try:
        return _converse(name, wish, user)
    except KeyboardInterrupt:
        return 130


def _converse(name: str, wish: Wish, user: str) -> int:
    def trace(way: str, kind: bytes, size: int) -> None:
        if way == "recv" or kind not in (b"M", b"R"):
            shown = _SENT_AS.get(kind, kind) if way == "send" else kind
            print(f'DEBUG: {way}: tos="{shown.decode("latin-1")}", len={size}')

    def notice(report: pcp.Report) -> None:
        word = f"BACKEND {report.severity}" if wish.debug else report.severity
        _say(f"{word}:  {report.message}\n")

    password = _password(wish, user)
    try:
        client = Client(
            wish.host, wish.port, trace=trace if wish.debug else None,
            notice=notice if wish.debug or wish.verbose else None,
        )  # fmt: skip
    except ConnectFailed as err:
        _say(f"ERROR: {err.message}\n")
        return 1
    with client:
        try:
            client.login(user, password)
        except LoginRefused as err:
            _report(err.report)
            return 1
        except Broken as err:
            _say(f"ERROR: {err.message}\n\n")
            return 1
        try:
            text = TOOLS[name].run(client, wish) or f"{name} -- Command Successful\n"
            sys.stdout.write(text)
            sys.stdout.flush()
        except CommandRefused as err:
            _report(err.report)
        except Broken as err:
            _say(f"ERROR: {err.message}\n\n")
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of this process)
    return 0


def _entry(name: str) -> Callable[[], int]:
    return lambda: run(name)


pcp_attach_node = _entry("pcp_attach_node")
pcp_detach_node = _entry("pcp_detach_node")
pcp_health_check_stats = _entry("pcp_health_check_stats")
pcp_invalidate_query_cache = _entry("pcp_invalidate_query_cache")
pcp_log_rotate = _entry("pcp_log_rotate")
pcp_node_count = _entry("pcp_node_count")
pcp_node_info = _entry("pcp_node_info")
pcp_pool_status = _entry("pcp_pool_status")
pcp_proc_count = _entry("pcp_proc_count")
pcp_proc_info = _entry("pcp_proc_info")
pcp_promote_node = _entry("pcp_promote_node")
pcp_recovery_node = _entry("pcp_recovery_node")
pcp_reload_config = _entry("pcp_reload_config")
pcp_stop_pgpool = _entry("pcp_stop_pgpool")
pcp_watchdog_info = _entry("pcp_watchdog_info")
