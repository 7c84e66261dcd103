"""pgpool_setup: makes a PostgreSQL cluster with pgpool before it, in the current directory or as a demonstration.

Options, environment variables, files and ports: commands.md section 7. Ours: --demo, --detach, --stop, --dir,
--which-postgres.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pgpool.cli import setup_build, setup_demo
from pgpool.cli.setup_find import find_owner, find_pgpool, find_postgres, reachable, runs_as
from pgpool.cli.setup_plan import DEMO_PORT, FIRST_PORT, MODES, MODES_NOT_YET, Plan, SetupFailed, plan_from

DESCRIPTION = """Makes a cluster of PostgreSQL servers with pgpool before them, in the current directory, which must be
empty: startall and shutdownall start and stop it. With --demo: makes one, starts it and waits."""

ENVIRONMENT = """environment:
  PGBIN                 directory of PostgreSQL's programs (default: the newest PostgreSQL 12 to 18 found)
  PGLIB                 directory of its libraries, if they would not be found
  PGSOCKET_DIR          directory of the unix sockets (default: /tmp)
  PGPOOL_INSTALL_DIR    pgpool is in bin or sbin below it (default: beside pgpool_setup)
  INITDBARG             options of initdb (default: --no-locale -E UTF8 -k)
  USE_REPLICATION_SLOT  true: as -s        USE_PG_REWIND  true: as -r
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code: 0, or 1 with the reason on stderr."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except argparse.ArgumentError as err:
        print(f"pgpool_setup: {err}\n{parser.format_usage()}", end="", file=sys.stderr)
        return 1
    try:
        if options.which_postgres:
            print(find_postgres()[0])
            return 0
        if options.stop:
            return setup_demo.stop(options.dir)
        _tell_unused(options)
        if options.demo:
            return setup_demo.demo(options)
        return _set_up(options)
    except SetupFailed as err:
        setup_build.tell_failure(err)
        return 1
    except TimeoutError as err:
        print(f"pgpool_setup: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npgpool_setup: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Every mistake becomes ArgumentError, so that ``main`` gives it the exit code 1 of the incumbent."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise argparse.ArgumentError(None, message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pgpool_setup", description=DESCRIPTION, epilog=ENVIRONMENT, allow_abbrev=False, exit_on_error=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    modes = ", ".join(f"{letter} {words}" for letter, (_, words) in MODES.items())
    add("-m", dest="mode", choices=list(MODES), default="s", help=f"clustering mode: {modes} (default: s)")
    add("-n", dest="nodes", type=int, default=2, metavar="NUMBER", help="number of PostgreSQL servers (default: 2)")
    add("-p", dest="port", type=int, metavar="PORT",
        help=f"port of pgpool; PCP gets the next one, PostgreSQL those after it (default: {FIRST_PORT})")  # fmt: skip
    add("-pg", dest="pg_port", type=int, metavar="PORT", help="port of the first PostgreSQL server (default: -p + 2)")
    add("--no-stop", action="store_true", help="leave everything running at the end")
    add("-d", dest="debug", action="store_true", help="pgpool writes debug messages to its log")
    add("-s", dest="slots", action="store_true", help="standbys use replication slots")
    add("-r", dest="rewind", action="store_true", help="standbys are brought back with pg_rewind")
    for letter in "etc":
        add(f"-{letter}", dest=f"unused_{letter}", action="store_true", help=argparse.SUPPRESS)
    add("--demo", action="store_true", help=f"make a cluster, start it (port {DEMO_PORT}), wait for Ctrl-C")
    add("--detach", action="store_true", help="with --demo: return and leave it running")
    add("--stop", action="store_true", help="stop the demonstration cluster")
    add("--dir", type=Path, metavar="DIR", help="where the demonstration cluster is (default: ./demo)")
    add("--which-postgres", action="store_true", help="print the directory of the PostgreSQL programs found, and exit")
    return parser


def _tell_unused(options: argparse.Namespace) -> None:
    for letter in "etc":
        if getattr(options, f"unused_{letter}"):
            print(f"pgpool_setup: option -{letter} (for the incumbent's own tests) has no effect", file=sys.stderr)
    if options.mode in MODES_NOT_YET:
        words = f"{MODES[options.mode][1]} mode (-m {options.mode})"
        raise SetupFailed(f"{words} is not available yet; there are -m s, -m l and -m n")


def _set_up(options: argparse.Namespace) -> int:
    """The incumbent's job: make everything in the current directory, try it once, leave it stopped."""
    base = Path.cwd()
    if any(base.iterdir()):
        raise SetupFailed("Current directory is not empty. Please remove files and directories then try again.")
    owner = find_owner()
    if not reachable(owner, base):
        raise SetupFailed(f"servers will run as user {owner.name}, who cannot enter {base}: use another directory")
    pgbin, version = find_postgres()
    if not reachable(owner, pgbin / "postgres"):
        raise SetupFailed(f"servers will run as user {owner.name}, who cannot run {pgbin / 'postgres'}: set PGBIN")
    pgpool = find_pgpool()
    plan = plan_from(
        options, os.environ, base=base, pgbin=pgbin, pgpool=pgpool, owner=owner, superuser=owner.name,
        pgpool_as_owner=runs_as(owner, pgpool),
    )  # fmt: skip
    setup_build.say(f"PostgreSQL major version: {version} ({pgbin})")
    try:
        setup_build.build(plan, version)
        setup_build.start(plan)
        setup_build.show_nodes(plan)
    except BaseException:
        setup_build.stop_after_failure(plan)
        raise
    if not options.no_stop:
        setup_build.stop(plan)
    print(closing_words(plan, running=options.no_stop), end="")
    return 0


def closing_words(plan: Plan, *, running: bool) -> str:
    """What pgpool_setup says at the end: how to start and stop, the ports."""
    return (
        f"\npgpool-II setting for {plan.mode_words} mode is done.\n"
        f"To start the whole system, use {plan.base}/startall.\n"
        f"To shutdown the whole system, use {plan.base}/shutdownall.\n"
        f'pcp command user name is "{plan.superuser}", password is "{plan.superuser}".\n'
        "Each PostgreSQL, pgpool-II and pcp port is as follows:\n"
        + (plan.base / "README.port").read_text()
        + "The info above is in README.port.\n"
        + ("CAUTION: whole system is still running.\n" if running else "")
    )


if __name__ == "__main__":
    sys.exit(main())
